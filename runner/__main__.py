"""Entry point of the `wellspring` command and of `python -m runner`."""

from __future__ import annotations

import sys

from runner.cli import main

if __name__ == "__main__":
    sys.exit(main())
