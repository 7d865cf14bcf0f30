"""sqlfluff as it is, but that garbage is collected seldom: `lint_sql.py lint models`.

A parsed file is a great many small objects that live as long as it is looked at, and going through
them again and again costs a third of the time. The processes that sqlfluff starts read this file
too, so the line holds in them.
"""

from __future__ import annotations

import gc
import sys

gc.set_threshold(200_000, 20, 100)

if __name__ == "__main__":
    from sqlfluff.cli.commands import cli

    sys.exit(cli())
