"""What the runner's tests share: the toy shop, fresh or after a first run, and a way to call.

All tests of one worker use the same folder, put back to its state before each test, because dbt's
partial parse holds only for the folder it was made in, and a full parse costs seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishkit import Warehouse
from toyshop import Answer, Call, ToyShop, command, make_toyshop

from ingestion.settings import PublishSettings, Settings
from runner.cli import main


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which this worker's tests work, one after the other."""
    return tmp_path_factory.mktemp("work") / "toyshop"


@pytest.fixture(scope="session")
def after_first_run(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the toy shop is after one run, but for dbt's target folder; never to be changed."""
    shop = make_toyshop(workplace)
    done = command(shop, "run", "--quiet")
    assert done.code == 0, done.out + done.err
    kept = tmp_path_factory.mktemp("kept") / "toyshop"
    shutil.copytree(workplace, kept, symlinks=True, ignore=shutil.ignore_patterns("target"))
    return kept


@pytest.fixture
def shop(workplace: Path, after_first_run: Path) -> ToyShop:
    """A toy shop that was run once: two toys, three sales, published."""
    for place in workplace.iterdir():
        if place.is_dir() and place.name != "target":
            shutil.rmtree(place)
        elif place.is_file():
            place.unlink()
    # Without the times of the files: dbt takes a file for unchanged that is older than its parse.
    shutil.copytree(
        after_first_run, workplace, copy_function=shutil.copy, symlinks=True, dirs_exist_ok=True
    )
    return ToyShop(workplace)


@pytest.fixture
def fresh(shop: ToyShop) -> ToyShop:
    """A toy shop in which nothing was run yet."""
    shutil.rmtree(shop.data)
    return shop


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls `wellspring` in this process: `call(shop, "status", "--json")`."""

    def run(shop: ToyShop, *arguments: str) -> Answer:
        monkeypatch.chdir(shop.root)
        monkeypatch.setenv("WELLSPRING_DATA", str(shop.data))
        for key, value in shop.environment.items():
            monkeypatch.setenv(key, value)
        capfd.readouterr()
        code = main(list(arguments))
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return run


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    """A warehouse of two tables of which nothing is published yet; three versions are kept."""
    made = Warehouse(Settings(tmp_path, tmp_path / "data", publish=PublishSettings(keep=3)))
    yield made
    made.history.close()
