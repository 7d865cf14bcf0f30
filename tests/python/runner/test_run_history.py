"""The run history: files of earlier versions, numbers, attempts, what is measured and pruned."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.history import Attempt, History, Item, Origin, new_run_id

ORIGIN = Origin("a" * 40, "5e77", "ada", "loom", 7, "make")
# The tables as the first version made them; later ones only added to them.
VERSION_1 = """
create table runs (run_id text primary key, command text not null, selection text not null,
    status text not null, exit_code integer, message text, started_at text not null,
    finished_at text, git_revision text, settings_hash text not null, user text not null,
    host text not null, pid integer not null, started_by text not null);
create table steps (run_id text not null, position integer not null, step text not null,
    status text not null, started_at text not null, seconds real, message text,
    primary key (run_id, position));
create table step_items (run_id text not null, step text not null, kind text not null,
    name text not null, status text not null, row_count integer, file_count integer,
    rejected integer, seconds real, message text, recorded_at text not null);
create index step_items_by_kind on step_items (kind, name, recorded_at);
create table audits (fingerprint text not null, run_id text not null, audited_at text not null,
    passed integer not null, models text not null {code_hash},
    primary key (fingerprint, run_id));
create table published_versions (version text primary key, run_id text not null,
    sealed_at text not null, published_at text, removed_at text, table_count integer not null,
    row_count integer not null, bytes integer not null, git_revision text);
insert into runs values
    ('20260102T000000Z-bbbb', 'wellspring run', '', 'failed', 1, 'oh', '2026-01-02T00:00:00.000Z',
     '2026-01-02T00:01:00.000Z', null, 'x', 'ada', 'loom', 1, 'sh'),
    ('20260101T000000Z-aaaa', 'wellspring run', '', 'succeeded', 0, '', '2026-01-01T00:00:00.000Z',
     '2026-01-01T00:01:00.000Z', null, 'x', 'ada', 'loom', 1, 'sh');
insert into steps values
    ('20260101T000000Z-aaaa', 0, 'extract', 'ok', '2026-01-01T00:00:00.000Z', 1.5, '');
insert into step_items values ('20260101T000000Z-aaaa', 'extract', 'source', 'till', 'ok', 3, 1, 0,
    0.5, '', '2026-01-01T00:00:01.000Z');
pragma user_version = {version};
"""


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "history.sqlite")) as opened:
        yield opened


def write_old(path: Path, version: int) -> None:
    code_hash = ", code_hash text" if version > 1 else ""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.format(version=version, code_hash=code_hash))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_histories_of_earlier_versions_are_extended(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.sqlite"
    write_old(path, version)
    with closing(History(path)) as history:
        runs = history.rows("select number, run_id, peak_memory_bytes from runs order by number")
        assert [(run["number"], run["run_id"][-4:]) for run in runs] == [(1, "aaaa"), (2, "bbbb")]
        history.start_run("new", "wellspring run", "", ORIGIN)
        history.start_step("new", 0, "extract")
        history.add_items("new", "extract", [Item("source", "till", "ok", 5, bytes=90)])
        history.add_audit("f", "new", True, ["model.a"], "code")
        history.measure_step("new", "extract", 5, 90, 1024)
        items = history.rows("select run_id, row_count, bytes from step_items order by recorded_at")
        assert [(item["row_count"], item["bytes"]) for item in items] == [(3, None), (5, 90)]
        assert history.rows("select number from runs where run_id = 'new'") == [{"number": 3}]
        assert history.settled_by("f", "code") == "new"


def test_several_processes_may_extend_one_history(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    write_old(path, 1)
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(History, [path] * 16))
    for history in opened:
        assert len(history.rows("select number, resumes from runs")) == 2
        history.close()


def test_a_run_says_what_it_stands_for_and_resumes(history: History) -> None:
    history.start_run("a", "wellspring run", "", ORIGIN, logical_date="2026-05-01T00:00:00Z")
    history.finish_run("a", "failed", 4, "down")
    history.start_run("b", "wellspring resume", "", ORIGIN, resumes="a", logical_date="2026-05-01")
    runs = history.rows("select number, logical_date, resumes from runs order by number")
    assert runs == [
        {"number": 1, "logical_date": "2026-05-01T00:00:00Z", "resumes": None},
        {"number": 2, "logical_date": "2026-05-01", "resumes": "a"},
    ]


def test_a_step_knows_how_often_it_was_tried(history: History) -> None:
    history.start_run("a", "wellspring run", "", ORIGIN)
    history.start_step("a", 0, "extract")
    for number, status in ((1, "failed"), (2, "ok")):
        attempt = Attempt("extract", "till", number, "2026-05-01T00:00:00Z", 0.5, status, "slow")
        history.add_attempt("a", attempt)
        history.add_attempt("a", attempt)
    history.measure_step("a", "extract", 7, 900, 5000)
    history.measure_run("a", 6000)
    assert history.rows("select attempts, row_count, bytes, peak_memory_bytes from steps") == [
        {"attempts": 2, "row_count": 7, "bytes": 900, "peak_memory_bytes": 5000}
    ]
    assert len(history.rows("select * from attempts")) == 2
    assert history.rows("select landed_rows, landed_bytes, loaded_rows, peak_memory_bytes "
                        "from runs") == [
        {"landed_rows": 7, "landed_bytes": 900, "loaded_rows": None, "peak_memory_bytes": 6000}
    ]  # fmt: skip


def begin(history: History, run_id: str, started_at: str) -> None:
    history.start_run(run_id, "wellspring run", "", ORIGIN)
    history.start_step(run_id, 0, "audit")
    history.add_items(run_id, "audit", [Item("test", "unique_toys", "ok", 0)])
    history.add_attempt(run_id, Attempt("audit", "audit", 1, started_at, 1.0, "ok"))
    history.finish_run(run_id, "succeeded", 0, "")
    history._write("update runs set started_at = ? where run_id = ?", (started_at, run_id))


def left(history: History, table: str) -> list[str]:
    rows = history.rows(f"select distinct run_id from {table} order by run_id")
    return [row["run_id"] for row in rows]


def test_old_runs_are_forgotten_with_all_that_belongs_to_them(history: History) -> None:
    for day in ("01", "10", "20"):
        begin(history, f"r{day}", f"2026-05-{day}T00:00:00.000Z")
        history.add_audit(f"content of {day}", f"r{day}", True, ["model.a"])
    moment = datetime(2026, 5, 21, tzinfo=UTC)
    assert history.prune(15, moment) == 1
    for table in ("runs", "steps", "step_items", "attempts", "audits"):
        assert left(history, table) == ["r10", "r20"], table
    assert history.prune(15, moment) == 0
    assert history.prune(1, datetime(2027, 5, 21, tzinfo=UTC)) == 1
    assert left(history, "runs") == ["r20"], "the last run is always kept"
    begin(history, "r21", "2026-05-21T00:00:00.000Z")
    assert history.rows("select number from runs where run_id = 'r21'") == [{"number": 4}]


def test_what_the_present_rests_on_is_kept_however_old(history: History) -> None:
    for name in ("published", "gone", "vouching", "counted", "plain", "last"):
        begin(history, name, "2020-01-01T00:00:00.000Z")
    history.add_version("published", 1, 2, 3, None)
    history.add_version("gone", 1, 2, 3, None)
    history.mark_removed("gone")
    history.add_audit("now", "vouching", True, [], "code")
    history.add_items("counted", "load", [Item("total", "till", "ok", 3)])
    history._write("update published_versions set removed_at = '2020-01-02' where version = 'gone'",
                   ())  # fmt: skip
    assert history.prune(30) == 2
    assert left(history, "runs") == ["counted", "last", "published", "vouching"]
    assert left(history, "published_versions") == ["published"]
    assert history.settled_by("now", "code") == "vouching"


def test_a_run_knows_what_started_it(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from ingestion.settings import Settings; "
        "from runner.history import origin; "
        "print(origin(Settings(Path('.'), Path('data'))).started_by)"
    )
    root = Path(__file__).resolve().parents[3]
    command = ["sh", "-c", f'"{sys.executable}" -c "{code}"; true']
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split(" < ")[0] == "sh"
    assert len(done.stdout.split(" < ")) > 1


def test_runs_within_a_second_are_named_in_order() -> None:
    names = []
    for _ in range(200):
        names.append(new_run_id())
        time.sleep(0.002)
    assert names == sorted(set(names))
