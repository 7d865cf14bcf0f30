"""A watch keeps readers seconds behind what lands, gives way to others, and survives any death."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import duckdb
import pytest
from dying import killed_at
from livepark import LivePark, make_livepark

from ingestion.lock import RunLock, others_wait
from ingestion.schema.journal import Noted
from ingestion.schema.shapes import Change
from ingestion.schema.words import tell
from runner.changes.telling import Told
from runner.cli import main
from runner.compiled.view import Project
from runner.history import History
from runner.metrics import metrics_text
from runner.notify.problems import open_problems
from runner.report import Reporter
from runner.status import status_fields
from runner.watch.changes import Landing
from runner.watch.cycle import Cycles, Outcome
from runner.watch.live_version import live_folder, tidy_live
from runner.watch.state import last_state
from runner.watch.telling import Teller

PATIENCE = 400
Passage = tuple[str, str, int, object]


def until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Waits until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if process is not None and process.poll() is not None:
            said, _ = process.communicate()
            raise AssertionError(f"it ended with code {process.returncode}: {said}")
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def sees_truth(park: LivePark) -> bool:
    return (park.current / "wellspring.duckdb").is_file() and park.days() == park.truth()


def passages(first: int, minutes: int, number: int = 4) -> list[Passage]:
    return [(str(first + n), "ab"[n % 2], minutes + 7 * n, 1 + n) for n in range(number)]


def failing(park: LivePark) -> str:
    state = last_state(park.settings) or {}
    return str(state.get("failing", {}).get("cycle", ""))


def test_a_watch_follows_what_lands_and_gives_way(tmp_path: Path) -> None:
    park = make_livepark(tmp_path / "park")
    park.write("wellspring.toml", SOON + TOLD)
    park.land([*passages(1, 0), ("x", "a", 5, "free")])
    watch = park.start("watch", "--no-land")
    try:
        until(lambda: sees_truth(park), watch)
        # a late event, a repeated one
        park.land([("late", "a", -3000, 4), *passages(3, 2000)])
        until(lambda: sees_truth(park), watch)
        until(lambda: status_fields(park.settings)["watch"]["rows"] == 10, watch)
        assert status_fields(park.settings)["watch"]["version"] >= 2
        told = metrics_text(park.settings).decode()
        assert "wellspring_watch_up 1.0" in told
        assert "wellspring_watch_rows 10.0" in told
        assert "wellspring_watch_failing 0.0" in told

        code, said = park.call("watch")
        assert code == 5
        assert "`wellspring watch` is at work already" in said

        _test_that_fails_and_recovers(park, watch)
        _batch_gets_in(park, watch)
        _column_that_is_new(park, watch)
        _column_that_reads_otherwise(park, watch)

        watch.send_signal(signal.SIGTERM)
        said, _ = watch.communicate(timeout=PATIENCE)
        assert watch.returncode == 0, said
        assert said.count("assert_fees_are_not_negative: Got 1 result") == 1, said
        assert said.count("recovered") == 1, said
        assert "barriers.passages: warned: gained column lane" in said
        assert said.count("retyped column fee") == 1, said
    finally:
        watch.kill()
        watch.wait()
    assert status_fields(park.settings)["watch"] is None
    with sqlite3.connect(park.root / "data/state/history.sqlite") as history:
        rows = history.execute("select status, message from runs where command like '%watch%'")
        ((status, message),) = rows.fetchall()
    assert status == "succeeded"
    assert "live versions, " in message
    _messages_are_of_the_failure_and_the_column(park)


def _test_that_fails_and_recovers(park: LivePark, watch: subprocess.Popen[str]) -> None:
    shown = park.current
    kept = park.days()
    park.land([("refund", "b", 9000, -50)])
    until(lambda: "assert_fees_are_not_negative" in failing(park), watch)
    assert park.current == shown, "readers keep the former version"
    assert park.days() == kept
    park.land([("paid", "b", 9001, 60)])
    until(lambda: sees_truth(park) and not failing(park), watch)


def _batch_gets_in(park: LivePark, watch: subprocess.Popen[str]) -> None:
    """Without any option, though the watch is at work all the time."""
    batch = park.start("load", "build", "audit", "publish", "--quiet")
    number = 500
    while batch.poll() is None:
        park.land(passages(number, number))
        number += 10
        time.sleep(0.3)
    said, _ = batch.communicate()
    assert batch.returncode == 0, said
    until(lambda: sees_truth(park), watch)


def _column_that_is_new(park: LivePark, watch: subprocess.Popen[str]) -> None:
    """Raw gets a column, so that staging is made anew, by dbt."""
    park.more = {"lane": "left"}
    park.land([("lane", "a", 100, 7)])
    until(lambda: sees_truth(park), watch)
    park.more = {}


def _column_that_reads_otherwise(park: LivePark, watch: subprocess.Popen[str]) -> None:
    """Its rows are kept aside by a rule of staging; that they all are has to be told."""
    park.land(passages(7000, 7000, 25))
    until(lambda: sees_truth(park), watch)
    rows = status_fields(park.settings)["watch"]["rows"]
    park.land([(f"{9000 + n}", "a", 7000 + n, f"{n} coins") for n in range(25)])
    until(lambda: status_fields(park.settings)["watch"]["rows"] == rows + 25, watch)
    until(lambda: "retyped" in (park.root / "told").read_text(), watch)
    assert sees_truth(park)


def _messages_are_of_the_failure_and_the_column(park: LivePark) -> None:
    told = [json.loads(line) for line in (park.root / "told").read_text().splitlines()]
    fields = [message["wellspring"] for message in told]
    assert len({message["message_id"] for message in fields}) == len(fields) == 3
    ((failed,), (recovered,)) = fields[0]["new"], fields[1]["recovered"]
    assert (failed["step"], failed["kind"]) == ("watch", "watch")
    assert "assert_fees_are_not_negative" in failed["message"]
    assert recovered["name"] == failed["name"]
    (change,) = fields[2]["source_changes"]
    assert change["table"] == "barriers.passages"
    assert "retyped column fee" in change["message"]
    assert "3 models depend on it" in change["message"]


class _Known(Cycles):
    """Cycles of a project that nothing is to be read of."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def changed(self, noted: Sequence[Noted]) -> tuple[list[Told], str]:
        self.asked += [entry.id for entry in noted]
        return [Told(f"{n.source}.{n.table}", tell(n.change), True) for n in noted], ""

    @property
    def project(self) -> Project:
        return cast(Project, SimpleNamespace(sources={}, nodes={}, child_map={}, parent_map={}))


def test_what_a_contract_refuses_is_open_until_it_is_not_met_again(tmp_path: Path) -> None:
    park = make_livepark(tmp_path)
    park.write("wellspring.toml", TOLD)
    (tmp_path / "data" / "state").mkdir(parents=True)
    change = Change("column_added", "lane")
    frozen = Noted("barriers#1", "barriers", "passages", change, "", "", "freeze", "refused")
    cycles = _Known()
    teller = Teller(park.settings, Reporter(), "watch-1")
    for outcome in (Outcome(), *[Outcome(schema=[frozen])] * 3):
        teller.tell(outcome, cycles)
    assert cycles.asked == ["barriers#1"]
    assert "gained column lane" in teller.refused["barriers.passages"]
    with closing(History(park.settings.history_path)) as history:
        (problem,) = open_problems(history)
    assert problem.key == ("watch", "schema_change", "barriers.passages")
    # Another watch, of a project that was mended meanwhile.
    Teller(park.settings, Reporter(), "watch-2").tell(Outcome(), cycles)
    with closing(History(park.settings.history_path)) as history:
        assert open_problems(history) == []
    teller.end()


TOLD = """
    [notifications]
    command = ["sh", "-c", "cat >> told; echo >> told"]
    """
FOLDER = """
    sources:
      - name: barriers
        schema: raw_barriers
        description: Files that the barriers of the car park write.
        config:
          meta:
            ingest: {kind: files, connection: barriers, format: ndjson}
        tables:
          - name: passages
            description: One row per passage.
            columns:
              - {name: passage_id, data_type: string}
              - {name: bay, data_type: string}
              - {name: passed_at, data_type: string}
              - {name: fee, data_type: string}
            config:
              meta: {ingest: {path: "*.ndjson*", watch: true}}
    """
SOON = """
    [watch]
    pause = "0.1s"

    [land]
    settle_seconds = 1
    """


def put(drop: Path, name: str, content: bytes) -> None:
    partial = drop / f".{name}.part"
    partial.write_bytes(content)
    partial.rename(drop / name)


def test_a_watch_follows_a_watched_folder(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    park = make_livepark(tmp_path / "park")
    park.url = str(drop)
    park.write("models/staging/barriers/_barriers__sources.yml", FOLDER)
    park.write("wellspring.toml", SOON)

    def deliver(name: str, rows: list[Passage], more: str = "") -> None:
        text = "\n".join([*park.messages(rows), more])
        put(drop, name, text.encode())

    deliver("first.ndjson", passages(1, 0))
    watch = park.start("watch")
    try:
        until(lambda: sees_truth(park), watch)
        # a late event, a repeated one, a line that is cut off
        deliver("second.ndjson", [("late", "a", -3000, 4), *passages(3, 0)], '{"passage_id": "cut')
        until(lambda: sees_truth(park), watch)
        # a file that is no archive holds nothing up
        put(drop, "third.ndjson.gz", b"no archive")
        deliver("fourth.ndjson", passages(20, 5000))
        until(lambda: sees_truth(park), watch)
        assert status_fields(park.settings)["landers"]["barriers"]["is_alive"]
        watch.send_signal(signal.SIGTERM)
        said, _ = watch.communicate(timeout=PATIENCE)
        assert watch.returncode == 0, said
        assert "third.ndjson.gz" in said
    finally:
        watch.kill()
        watch.wait()
    with duckdb.connect(str(park.settings.warehouse_path), read_only=True) as connection:
        ((raw,),) = connection.execute("select raw_record from ledger.rejected_records").fetchall()
        files = connection.execute(
            "select origin_name, status from ledger.files order by origin_name"
        ).fetchall()
    assert "cut" in raw
    assert files == [
        ("first.ndjson", "loaded"),
        ("fourth.ndjson", "loaded"),
        ("second.ndjson", "loaded"),
        ("third.ndjson.gz", "refused"),
    ]


# -- in this process ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LivePark, Cycles]]:
    """A project that was watched before, and cycles that know what to do."""
    park = make_livepark(tmp_path_factory.mktemp("cycles") / "park")
    park.land(passages(1, 0))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in park.environment.items():
            patch.setenv(name, value)
        cycles = Cycles(park.settings, "20260601T000000Z-0000", "wellspring watch")
        assert cycles.run().version == 1
        yield park, cycles


def test_a_cycle_without_news_does_nothing(at_work: tuple[LivePark, Cycles]) -> None:
    park, cycles = at_work
    outcome = cycles.run()
    assert not outcome.did_anything
    assert outcome.error is None
    assert sees_truth(park)


POINTS = (
    "watch.locked",
    "load.before_commit",
    "load.committed",
    "watch.loaded",
    "watch.statement_done",
    "watch.statement_done:2",
    "watch.before_commit",
    "watch.committed",
    "watch.tested",
    "watch.copied",
    "watch.named",
    "watch.swapped",
)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_and_doubles_nothing(at_work: tuple[LivePark, Cycles], point: str) -> None:
    park, cycles = at_work
    number = 1000 * (POINTS.index(point) + 1)
    park.land(passages(number, number))
    killed_at(point, cycles.run)
    outcome = cycles.run()
    assert outcome.error is None
    assert sees_truth(park)
    assert not outcome.learnt, "nothing was made from the beginning"
    assert [path.name for path in live_folder(park.settings).glob("*.tmp")] == []


def test_a_cycle_ends_its_transaction_once(at_work: tuple[LivePark, Cycles]) -> None:
    park, cycles = at_work
    park.land(passages(40_000, 1))
    cycles.run()
    assert cycles._script is not None
    played = [one.sql for one in cycles._script.statements]
    assert any("stg_barriers__passages__judged" in sql for sql in played)
    # As dbt runs it, staging ends a transaction on its way.
    assert not any(re.search(r"\b(commit|begin)\b[^;]*;", sql) for sql in played)


def test_what_was_grown_equals_a_rebuild(at_work: tuple[LivePark, Cycles]) -> None:
    park, cycles = at_work
    park.land(passages(50_000, 5))
    cycles.run()
    tables = ("staging.stg_barriers__passages", "parking.fct_quarters", "parking.fct_days")
    tables += ("ledger_outcomes.stg_barriers__passages", "findings.stg_barriers__passages")

    def state() -> dict[str, list[str]]:
        with duckdb.connect(str(park.settings.warehouse_path), read_only=True) as connection:
            return {
                table: sorted(map(repr, connection.execute(f"from {table}").fetchall()))
                for table in tables
            }

    grown = state()
    code, said = park.call("build", "--full-refresh", "--select", "+tag:live", "--quiet")
    assert code == 0, said
    assert state() == grown
    outcome = cycles.run()
    assert outcome.version, "what a batch has built is shown"
    assert sees_truth(park)


def test_old_rows_are_left_to_the_batch(at_work: tuple[LivePark, Cycles]) -> None:
    park, cycles = at_work
    park.land([("soon", "a", 100_000, 3)])
    cycles.run()
    assert park.shown("select count(*) from parking.fct_quarters") == [(1,)]
    assert sees_truth(park), "a model that does not say what is recent is copied whole"


def test_few_live_versions_are_kept_and_leftovers_go(at_work: tuple[LivePark, Cycles]) -> None:
    park, cycles = at_work
    park.land(passages(90_000, 9))
    cycles.run()
    folder = live_folder(park.settings)
    number = int(park.current.name)
    (folder / "77.tmp").mkdir()
    (folder / str(number + 5)).mkdir()
    tidy_live(park.settings)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [str(number - 1), str(number), "current"]
    )


def test_a_wrong_tag_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    park = make_livepark(tmp_path / "park")
    for name, value in park.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(park.root)
    path = "models/marts/parking/fct_days.sql"
    text = (park.root / path).read_text(encoding="utf-8")
    park.write(path, text.replace("materialized='incremental'", "materialized='table'"))
    assert main(["watch", "--once", "--no-land"]) == 1
    said = capsys.readouterr().err
    assert "fct_days is tagged `live` and materialized as table" in said
    assert "Expected an incremental model, a staging model of events, or a view." in said
    assert main(["watch", "--for", "soon"]) == 6


# -- parts --------------------------------------------------------------------------------------


def test_landing_tells_of_new_files_and_of_nothing_else(tmp_path: Path) -> None:
    landing = Landing(tmp_path, ["a", "b"])
    first = landing.signature()
    assert landing.signature() == first == {}
    day = tmp_path / "a" / "t" / "2026-06-01"
    day.mkdir(parents=True)
    second = landing.signature()
    assert second != first
    (tmp_path / "c").mkdir()
    assert landing.signature() == second, "a source that is not watched"
    (day / ".1.landing").write_text("x")
    (day / ".1.landing").rename(day / "1.parquet")
    third = landing.signature()
    assert third != second
    assert landing.signature() == third
    next_day = tmp_path / "a" / "t" / "2026-06-02"
    next_day.mkdir()
    assert landing.signature() != third


def test_who_gives_way_lets_everybody_else_in_first(tmp_path: Path) -> None:
    path = tmp_path / "state" / "run.lock"
    program = (
        "import sys, time; from pathlib import Path; from ingestion.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1]), 'r', 'batch'):\n"
        "    print(time.monotonic(), flush=True); time.sleep(0.3)"
    )
    turns = []
    with RunLock(path, "w", "watch", PATIENCE, None, True):
        command = [sys.executable, "-c", program, str(path)]
        batch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        until(lambda: others_wait(path), batch)
        turns.append(time.monotonic())
    with RunLock(path, "w", "watch", PATIENCE, None, True):
        turns.append(time.monotonic())
    said, _ = batch.communicate(timeout=PATIENCE)
    assert batch.returncode == 0, "it waits without being told to"
    assert turns[0] < float(said) < turns[1] - 0.3, "it was in between the two turns"
    assert not others_wait(path)
