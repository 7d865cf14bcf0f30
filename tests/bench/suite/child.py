"""Runs one contender for one round, in a process of its own.

python child.py <module.py:function> <JSON of data, scratch, options> -> function(Case) -> `Made`

What it tells goes through a pipe of its own (`BENCH_CHANNEL`), so that a contender may print what
it likes. It runs in the project's environment or in a peer's, and needs neither.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

sys.path[:0] = [str(Path(__file__).resolve().parents[3]), str(Path(__file__).resolve().parents[1])]
# `python child.py` puts this folder first, whose names would hide others'.
sys.path = [entry for entry in sys.path if entry != str(Path(__file__).resolve().parent)]


def load(path: Path) -> ModuleType:
    """The module at a path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Runs the contender that the command line names."""
    from suite import kit  # found by the lines above

    path, _, name = sys.argv[1].partition(":")
    given = json.loads(sys.argv[2])
    module = load(Path(__file__).resolve().parents[1] / path)
    case = kit.Case(Path(given["data"]), Path(given["scratch"]), given["options"])
    made = getattr(module, name)(case)
    kit.tell("made", **asdict(made))


if __name__ == "__main__":
    main()
