"""A small company made once per session, copied for each test that changes it; worlds off disk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from anycompany_kit import SCALE, serving

from anycompany.world import Settings, World


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a company on its first day, with 2 % defects."""
    data = tmp_path_factory.mktemp("template")
    with serving(data, "--scale", SCALE, "--defects", "0.02"):
        pass
    return data


@pytest.fixture
def company(template: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own that holds a copy of the template."""
    data = tmp_path / "data"
    # cp keeps the owner: PostgreSQL refuses a folder that is not its own.
    subprocess.run(["cp", "-a", str(template), str(data)], check=True)
    return data


@pytest.fixture(scope="session")
def made() -> Callable[..., World]:
    """Makes worlds and remembers them by their settings."""
    worlds: dict[tuple[object, ...], World] = {}

    def make(day: int = 545, seed: int = 1, scale: float = 0.01, defects: float = 0.04) -> World:
        key = (day, seed, scale, defects)
        if key not in worlds:
            worlds[key] = World(Settings(seed, scale, defects), day)
        return worlds[key]

    return make
