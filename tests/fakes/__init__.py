"""Stand-ins for what foreman talks to: real servers, of which only the expensive part is made up."""
