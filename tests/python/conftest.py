"""Fixtures that every folder of tests may ask for: the project, built over empty raw tables.

Made once for a test session, also under xdist; `warehouses` says how.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from warehouses import BuiltProject, build_empty, make_once


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all xdist workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    return base.parent if is_worker else base


@pytest.fixture(scope="session")
def built_project(shared_folder: Path) -> BuiltProject:
    """The manifest and catalog of the project, built over empty raw tables."""
    folder = make_once(shared_folder / "built_project", build_empty)
    target = folder / "target"
    return BuiltProject(
        data_dir=folder,
        manifest=json.loads((target / "manifest.json").read_text()),
        catalog=json.loads((target / "catalog.json").read_text()),
    )
