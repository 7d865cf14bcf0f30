"""Run several dbt commands over one manifest: `run_dbt.py '[["build"], ["docs", "generate"]]'`.

Parsing is most of what a short dbt command costs; a process of its own, because dbt keeps one
DuckDB handle per process. Ends with 1 at the first command that fails.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Run the commands given as JSON, in order."""
    from dbt.cli.main import dbtRunner

    manifest = None
    for arguments in json.loads(sys.argv[1]):
        outcome = dbtRunner(manifest=manifest).invoke(arguments)
        if not outcome.success:
            sys.stderr.write(f"dbt {' '.join(arguments)} failed: {outcome.exception or ''}\n")
            return 1
        if arguments[0] == "parse":
            manifest = outcome.result
    return 0


if __name__ == "__main__":
    sys.exit(main())
