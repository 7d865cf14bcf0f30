"""Killed at any instruction, a rerun gives what an uninterrupted run would have given."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import warm
from files_kit import Lab

# Runs a step in a process of its own, which kills itself at the n-th call of a function.
CHILD = """
import json, os, signal, sys
sys.path.insert(0, {kit!r})
from pathlib import Path
from files_kit import Lab
lab = Lab(Path({folder!r}), json.loads({tables!r}), json.loads({columns!r}))
step, point, number, after = {step!r}, {point!r}, {number}, {after}
calls = 0

def armed(function):
    def call(*given, **named):
        global calls
        calls += 1
        if calls == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return function(*given, **named)
        finally:
            # A statement may be refused, for a closer way to follow.
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
    return call

if point == "statement":
    import ingestion.load as module
    connect = module.connect
    class Armed:
        def __init__(self, real):
            self._real = real
            self.execute = armed(real.execute)
        def __getattr__(self, name):
            return getattr(self._real, name)
    module.connect = lambda settings: Armed(connect(settings))
elif point == "fsync":
    os.fsync = armed(os.fsync)
elif point == "rename":
    Path.replace = armed(Path.replace)
else:
    import importlib
    place, _, name = point.rpartition(":")
    module, _, owner = place.partition("/")
    target = getattr(importlib.import_module(module), owner)
    setattr(target, name, armed(getattr(target, name)))
if step == "replay":
    from ingestion.replay import replay
    result = replay([lab.declaration], lab.settings)
else:
    result = lab.extract() if step == "extract" else lab.load()
assert not getattr(result, "error", None), result.error
print("calls", calls)
"""


def child(lab: Lab, step: str, point: str, number: int, *, after: bool = False) -> int:
    """Runs a step that dies at a point; returns the number of calls if it survived, else -1."""
    code = CHILD.format(
        kit=str(Path(__file__).parent),
        folder=str(lab.folder),
        tables=json.dumps(lab.tables),
        columns=json.dumps(lab.columns),
        step=step,
        point=point,
        number=number,
        after=after,
    )
    done = warm.run(["-c", code], capture_output=True, text=True, timeout=240, check=False)
    if done.returncode == -signal.SIGKILL:
        return -1
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


@pytest.fixture
def filled(lab: Lab) -> Lab:
    """Several tables, formats and faults, landed by two loads."""
    lab.tables |= {
        "c": {"path": "*.csv", "encodings": ["utf-8", "cp1252"]},
        "j": {"path": "*.json", "on_refused": "warn"},
        "n": {"path": "*.ndjson"},
    }
    lab.put("a.csv", "n,m\n" + "".join(f"{i},é\n" for i in range(2000)))
    lab.put("b.csv", "n,m\n1,ü\n2\n".encode("cp1252"))
    lab.put("a.json", '[{"n": 1.10}, 2]')
    lab.put("bad.json", "[")
    lab.put("a.ndjson", '{"n": 1}\n{"n": 2.50}\n')
    return lab


def second_delivery(lab: Lab) -> None:
    lab.put("a.csv", "n,m,k\n1,é,x\n", age=60)
    lab.put("c.json", '{"n": 3, "o": []}')


def content(lab: Lab) -> list[Any]:
    """Everything in raw and ledger but the ids and times of loads, which differ from run to run."""
    found: list[Any] = []
    for table in lab.tables:
        columns = sorted(set(lab.types(table)) - {"_load_id", "_extracted_at"})
        query = f"select {', '.join(columns)} from raw_src.{table} order by all"
        found.append((table, columns, lab.query(query)))
    found.append(lab.query("select * exclude (load_id, loaded_at) from ledger.files order by all"))
    for table in ("rejected_records", "schema_changes"):
        found.append(lab.query(f"select * exclude (load_id) from ledger.{table} order by all"))
    return found


def test_a_loader_killed_at_any_statement_leaves_all_or_nothing(filled: Lab) -> None:
    filled.extract()
    second_delivery(filled)
    filled.extract()
    # What the journal of shapes knows is not asked again: all but the first are counted alike.
    child(filled, "load", "statement", 10**9)
    remove_warehouse(filled)
    calls = child(filled, "load", "statement", 10**9)
    expected = filled.state()
    spread = sorted({int(calls * share / 6) for share in range(1, 6)} | {calls})
    for number in spread:
        remove_warehouse(filled)
        assert child(filled, "load", "statement", number, after=number % 2 == 0) == -1
        # What is there is whole loads: the ledger says of each file what raw holds of it.
        if filled.query("select count(*) from duckdb_tables() where schema_name = 'ledger'")[0][0]:
            assert books_balance(filled)
        filled.load()
        assert filled.state() == expected, f"killed at statement {number} of {calls}"


def remove_warehouse(lab: Lab) -> None:
    lab.settings.warehouse_path.unlink()
    lab.settings.warehouse_path.with_name("wellspring.duckdb.wal").unlink(missing_ok=True)


def books_balance(lab: Lab) -> bool:
    """Whether raw has of each file as many rows as the ledger says."""
    in_ledger = lab.query(
        "select table_name, file, load_id, rows_loaded from ledger.files where rows_loaded > 0"
    )
    made = lab.query("select table_name from duckdb_tables() where schema_name = 'raw_src'")
    in_raw = [
        (table, *row)
        for (table,) in made
        for row in lab.query(f"select _file, _load_id, count(*) from raw_src.{table} group by all")
    ]
    return sorted(in_ledger) == sorted(in_raw)


LANDING = "dlt.destinations.impl.filesystem.filesystem/FilesystemClient"
POINTS = [
    ("fsync", 1, False),
    ("fsync", 5, True),
    ("rename", 1, True),
    ("rename", 2, False),
    ("dlt.pipeline.pipeline/Pipeline:normalize", 1, False),
    ("dlt.pipeline.pipeline/Pipeline:load", 1, False),
    (f"{LANDING}:create_load_job", 2, True),
    (f"{LANDING}:complete_load", 1, False),
    (f"{LANDING}:complete_load", 1, True),
]


@pytest.mark.parametrize("wipe", [False, True])
def test_an_extraction_killed_at_any_point_lands_each_file_once(
    filled: Lab, wipe: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each point kills a rerun of the rerun before; the last one goes through."""
    import shutil

    whole = Lab(tmp_path_factory.mktemp("whole"), filled.tables)
    shutil.copytree(filled.drop, whole.drop)
    os.environ["CONNECTIONS__SRC__URL"] = str(whole.drop)
    whole.run()
    os.environ["CONNECTIONS__SRC__URL"] = str(filled.drop)
    points = POINTS[::2] if wipe else POINTS[1::2]
    killed = 0
    for point, number, after in points:
        killed += child(filled, "extract", point, number, after=after) == -1
        filled.load()
        assert books_balance(filled)
        if wipe:
            shutil.rmtree(filled.settings.state_dir, ignore_errors=True)
    assert killed >= len(points) - 1
    filled.run()
    assert content(filled) == content(whole)
    assert filled.extract().status == "nothing_new"


def test_a_disk_that_fills_while_loading_leaves_nothing_half(lab: Lab) -> None:
    lab.tables["c"] = {"path": "*.csv"}
    lab.put("a.csv", "n,m\n" + "".join(f"{i},{i * 7919}\n" for i in range(300_000)))
    lab.extract()
    code = (
        f"import resource, sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "from pathlib import Path; from files_kit import Lab;"
        "from ingestion.errors import DiskFull\n"
        f"lab = Lab(Path({str(lab.folder)!r}), {lab.tables!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "try:\n    lab.load()\nexcept DiskFull as error:\n"
        "    print(error)\n    sys.exit(error.exit_code)\n"
    )
    done = warm.run(["-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 7, done.stderr[-2000:]
    assert f"no space left below {lab.settings.data_dir}" in done.stdout
    assert "nothing was half-loaded" in done.stdout
    assert lab.load().rows == 300_000
    assert books_balance(lab)
