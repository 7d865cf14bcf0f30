"""Fixtures: the project built over empty raw tables, the worked example in full, and weeks later.

All are made once for a test session, also under xdist; `warehouses` says how.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
from warehouses import (
    BuiltProject,
    ExampleWarehouse,
    build_empty,
    make_example,
    make_later,
    make_once,
)


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


@pytest.fixture(scope="session")
def example_warehouse(shared_folder: Path) -> ExampleWarehouse:
    """The worked example, generated, extracted, loaded and built at scale 0.02."""
    folder = make_once(shared_folder / "example_warehouse", make_example)
    return ExampleWarehouse.in_folder(folder)


@pytest.fixture(scope="session")
def later_warehouse(shared_folder: Path, example_warehouse: ExampleWarehouse) -> ExampleWarehouse:
    """The worked example weeks later, its live models brought up to date without a rebuild."""
    make = partial(make_later, example=example_warehouse.data_dir)
    return ExampleWarehouse.in_folder(make_once(shared_folder / "later_warehouse", make))
