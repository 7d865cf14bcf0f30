"""The unit tests of the models pass; a run leaves them out, because they look at no data."""

from __future__ import annotations

import re
from pathlib import Path

from warehouses import BuiltProject, dbt


def test_every_unit_test_of_the_models_passes(built_project: BuiltProject, tmp_path: Path) -> None:
    with built_project.borrowed(tmp_path) as data_dir:
        log = dbt(data_dir, ["test", "--select", "test_type:unit"], target=tmp_path)
    passed = re.search(r"PASS=(\d+) WARN=0 ERROR=0 SKIP=0", log)
    assert passed, log
    assert int(passed[1]) >= len(built_project.manifest["unit_tests"]) > 0
