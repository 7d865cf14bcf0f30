"""Every model says the same to DuckDB and to Spark (D7)."""

from __future__ import annotations

from pathlib import Path

import portability
from warehouses import PROJECT, BuiltProject


def test_models_use_what_the_engines_share(built_project: BuiltProject, tmp_path: Path) -> None:
    with built_project.borrowed(tmp_path) as data_dir:
        renderings, missing = portability.render(PROJECT, tmp_path, data_dir)
    models = [r for r in renderings if r.path.startswith("models")]
    faults = portability.judge(models)
    told = [f"{path}:\n  " + "\n  ".join(faults[path]) for path in sorted(faults)]
    assert not told, "\n".join(told)
    assert not missing, f"dispatch macros without spark__ or default__ text: {sorted(missing)}"
    assert len(models) > 10
