"""`python -m foreman` and the console script."""

from __future__ import annotations

from foreman.cli import main

if __name__ == "__main__":
    main(prog_name="foreman")
