"""Every model says the same to DuckDB and to Spark (D7)."""

from __future__ import annotations

from pathlib import Path

import portability
from conftest import PROJECT


def test_models_use_what_the_engines_share(tmp_path: Path) -> None:
    renderings, missing = portability.render(PROJECT, tmp_path / "target", tmp_path / "data")
    models = [r for r in renderings if r.path.startswith("models")]
    faults = portability.judge(models)
    told = [f"{path}:\n  " + "\n  ".join(faults[path]) for path in sorted(faults)]
    assert not told, "\n".join(told)
    assert not missing, f"dispatch macros without spark__ or default__ text: {sorted(missing)}"
    assert len(models) > 10
