"""The dashboard in a real Chromium: what a person sees, hears and reaches with the keyboard."""
