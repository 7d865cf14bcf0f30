"""Fixtures of the ingestion tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from files_kit import Lab, make_workbook


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Tests set variables of connections and places; none of them outlives its test."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty project whose connection `src` leads to an empty folder."""
    lab = Lab(tmp_path)
    lab.drop.mkdir()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
    return lab


@pytest.fixture(scope="session")
def workbook() -> bytes:
    """A workbook with the sheet `rates`: a title row, a header row and two rows of data."""
    return make_workbook(
        "rates",
        [
            ["Rates of the day"],
            ["code", "Minor Unit", "rate", "since", "live"],
            ["EUR", 2.0, 0.1, date(1999, 1, 1), True],
            ["0042", 12345678.0, None, None, False],
            [],
        ],
    )
