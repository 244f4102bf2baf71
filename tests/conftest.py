"""What holds for every test: the environment of whoever runs them does not reach in."""

from __future__ import annotations

import os

# At import, before any module under test can look; also what tests start as processes inherits the clean one.
for variable in [name for name in os.environ if name.startswith("FOREMAN_")]:
    del os.environ[variable]
