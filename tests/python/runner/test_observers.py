"""Observers: who is told what and when, and that nothing they do changes a run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from toyshop import Call, ToyShop

from runner.machine import Visit
from runner.observers import Ending, Observer
from runner.steps import Run
from runner.usage import MemoryWatch


class Diary(Observer):
    """Writes down what it is told."""

    name = "diary"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_begin(self, run: Run) -> None:
        self.told.append("begin")

    def on_step_begin(self, run: Run, step: str) -> None:
        self.told.append(f"{step} begins")

    def on_step(self, run: Run, step: Visit) -> None:
        self.told.append(f"{step.name} {step.result.status}")

    def on_end(self, run: Run, ending: Ending) -> None:
        held = run.history.rows("select status from runs where run_id = ?", (run.run_id,))
        self.told.append((ending.status, ending.exit_code, held[0]["status"]))


class Clumsy(Observer):
    """Fails at whatever it is told."""

    name = "clumsy"

    def on_step_begin(self, run: Run, step: str) -> None:
        raise RuntimeError("dropped the pen")

    def on_end(self, run: Run, ending: Ending) -> None:
        raise OSError("lost the paper")


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    found = Diary()
    monkeypatch.setattr("runner.pipeline.observers", lambda settings: [Clumsy(), found])
    return found


def test_observers_see_a_run_from_begin_to_end(shop: ToyShop, call: Call, diary: Diary) -> None:
    answer = call(shop, "load", "audit")
    assert answer.code == 0
    assert diary.told == [
        "begin",
        *("prepare begins", "prepare ok", "load begins", "load nothing_new"),
        *("audit begins", "audit ok"),
        ("succeeded", 0, "succeeded"),
    ]
    told = [line for line in answer.err.splitlines() if "clumsy" in line]
    assert len(told) == 1, "an observer's trouble is told once"
    assert "dropped the pen (the run goes on)" in told[0]


def test_observers_see_a_run_fail(shop: ToyShop, call: Call, diary: Diary) -> None:
    shop.write("tests/dbt/assert_never.sql", "select 1 as one")
    assert call(shop, "audit", "publish").code == 2
    assert diary.told[-2:] == ["audit failed", ("failed", 2, "failed")]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError])
def test_observers_see_a_run_break_off(
    shop: ToyShop,
    call: Call,
    diary: Diary,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[BaseException],
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise fault

    monkeypatch.setattr("ingestion.load.load", broken)
    code = call(shop, "load").code
    expected = {KeyboardInterrupt: ("interrupted", 130), ZeroDivisionError: ("failed", 1)}[fault]
    assert code == expected[1]
    assert diary.told[-2:] == ["load begins", (*expected, expected[0])]


def test_a_step_has_rows_bytes_and_memory_in_the_history(shop: ToyShop, call: Call) -> None:
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,2,1.00\n")
    assert call(shop, "run", "--quiet").code == 0
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as history:
        last = "run_id = (select run_id from runs order by number desc limit 1)"
        steps = history.execute(
            f"select step, row_count, bytes, peak_memory_bytes from steps where {last}"
        ).fetchall()
        figures = {step: (rows, size) for step, rows, size, _ in steps}
        size = (shop.systems / "till" / "sales_2.csv").stat().st_size
        assert figures["extract"] == (0, size), "rows of a file are counted when it is loaded"
        assert figures["load"] == (1, size)
        assert all(memory > 20 * 2**20 for *_, memory in steps)
        row = history.execute(
            f"select landed_bytes, loaded_rows, peak_memory_bytes from runs where {last}"
        ).fetchone()
        assert row == (size, 1, max(memory for *_, memory in steps))
        built = history.execute(
            f"select row_count from step_items where name = 'fct_sales' and {last}"
        ).fetchall()
        assert built == [(4,)]


def test_peaks_are_kept_by_name() -> None:
    watch = MemoryWatch()
    watch.open("run")
    before = watch.close("run")
    watch.open("run")
    held = bytearray(64 * 2**20)
    watch.open("step")
    watch.look()
    peak = watch.close("step")
    del held
    assert peak >= before + 60 * 2**20
    assert watch.close("run") >= peak
