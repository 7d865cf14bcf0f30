"""Fixtures: the worked example in full, and weeks later.

Both are made once for a test session, also under xdist; `warehouses` says how.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from warehouses import ExampleWarehouse, make_example, make_later, make_once


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
