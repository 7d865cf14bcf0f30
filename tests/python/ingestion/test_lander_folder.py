"""Watched folders: a file is extracted soon after it has settled, whole and once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from files_kit import Lab

from ingestion import landing
from ingestion.lander.folder import FolderLander
from ingestion.lander.landers import land, works_of
from ingestion.lander.states import lander_states
from ingestion.settings import LandSettings, Settings

WATCHED = {"path": "*.csv", "watch": True}


def settings_of(lab: Lab, look: int = 30) -> Settings:
    return replace(
        lab.settings, land=LandSettings(processes=1, look_seconds=look, settle_seconds=1)
    )


@contextmanager
def watching(lab: Lab, look: int = 30) -> Iterator[FolderLander]:
    lander = FolderLander(lab.declaration, settings_of(lab, look))
    stop = threading.Event()
    thread = threading.Thread(target=lander.run, args=(stop,))
    thread.start()
    try:
        yield lander
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def landed(lab: Lab, table: str = "rows") -> list[str]:
    return sorted(r.origin_name for r in landing.register_rows(lab.settings, "src", table))


def soon(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.05)


@pytest.fixture
def watched(lab: Lab) -> Lab:
    lab.tables["rows"] = WATCHED
    return lab


def test_files_land_soon_after_they_arrive_and_load_once(watched: Lab) -> None:
    watched.put("before.csv", "n\n1\n")
    with watching(watched) as lander:
        soon(lambda: landed(watched) == ["before.csv"])
        watched.put("after.csv", "n\n2\n")
        # Long before the next look: the file system told of it.
        soon(lambda: len(landed(watched)) == 2, seconds=15)
        watched.put("after.csv", "n\n2\n3\n")
        soon(lambda: len(landed(watched)) == 3, seconds=15)
    assert lander.progress.files == 3
    watched.load()
    assert sorted(row["n"] for row in watched.raw("rows")) == ["1", "2", "2", "3"]


def test_a_file_that_grows_waits_and_keeps_no_other_waiting(watched: Lab) -> None:
    growing = watched.put("growing.csv", "n\n")
    with watching(watched):
        watched.put("whole.csv", "n\n1\n")
        for n in range(100):
            with growing.open("a") as handle:
                handle.write(f"{n}\n")
            if landed(watched):
                break
            time.sleep(0.2)
        assert landed(watched) == ["whole.csv"]
        soon(lambda: landed(watched) == ["growing.csv", "whole.csv"])
    watched.load()
    assert len(watched.raw("rows")) == n + 2


def test_names_of_unfinished_uploads_are_passed_over(watched: Lab) -> None:
    watched.tables["rows"] = {**WATCHED, "path": "*", "format": "csv"}
    part = watched.put("a.csv.part", "n\n1\n")
    watched.put(".hidden.csv", "n\n1\n")
    with watching(watched):
        watched.put("b.csv", "n\n2\n")
        soon(lambda: landed(watched) == ["b.csv"])
        part.rename(part.with_name("a.csv"))
        soon(lambda: landed(watched) == ["a.csv", "b.csv"])


def test_a_folder_without_notices_is_looked_at(
    watched: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import watchfiles

    def no_notices(*_: Any, **__: Any) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", no_notices)
    with watching(watched, look=1):
        time.sleep(0.5)
        watched.put("a.csv", "n\n1\n")
        soon(lambda: landed(watched) == ["a.csv"])


def test_a_folder_that_comes_later(watched: Lab) -> None:
    watched.drop.rmdir()
    with watching(watched, look=1) as lander:
        soon(lambda: "no folder" in lander.progress.error)
        watched.put("a.csv", "n\n1\n")
        soon(lambda: landed(watched) == ["a.csv"])
        soon(lambda: lander.progress.error == "")


def test_a_run_beside_it_lands_nothing_twice(watched: Lab) -> None:
    with watching(watched):
        for n in range(4):
            watched.put(f"{n}.csv", f"n\n{n}\n")
            assert watched.extract().error is None
        soon(lambda: len(landed(watched)) == 4)
    watched.load()
    assert sorted(row["n"] for row in watched.raw("rows")) == ["0", "1", "2", "3"]


def test_only_declared_tables_are_watched(lab: Lab) -> None:
    lab.tables["rows"] = {"path": "rows.csv", "watch": True}
    lab.tables["others"] = {"path": "others.csv"}
    assert works_of([replace(lab.declaration, tables=lab.declaration.tables[1:])]) == []
    lab.put("rows.csv", "n\n1\n")
    lab.put("others.csv", "n\n1\n")
    stop = threading.Event()
    settings = settings_of(lab)
    thread = threading.Thread(target=land, args=(works_of([lab.declaration]), settings, stop))
    thread.start()
    soon(lambda: landed(lab) == ["rows.csv"])
    (state,) = lander_states(settings)
    assert (state.name, state.is_alive) == ("src", True)
    stop.set()
    thread.join(30)
    assert landed(lab, "others") == []
    (state,) = lander_states(settings)
    assert state.state == "ended"
