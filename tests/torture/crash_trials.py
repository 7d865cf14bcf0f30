"""Kills a command of `wellspring`, does it again, and compares with what no crash had touched.

state before the command -> forked child, killed at a moment or a failpoint -> command again, rest
of the run -> `snapshot` = that of the uninterrupted run?

The parent has imported everything and holds no thread and no DuckDB connection, so a trial costs a
fork instead of seconds of imports. All trials work in one folder, put back before each, because
dbt's partial parse holds for the folder it was made in. Left out: which trials there are.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any

from crash_project import CrashShop, make_crash_shop
from toyshop import surroundings

ROOT = Path(__file__).resolve().parents[2]
# Stands in for a command line: all data is gone.
LOSE = "lose everything"
STEPS = ("extract", "load", "build", "audit", "publish", "docs")
Lines = tuple[str, ...]
FILESYSTEM = "dlt.destinations.impl.filesystem.filesystem"
# Moments inside of dlt that our code cannot name: (module, class, method).
LIBRARY_MOMENTS = {
    "dlt.job_landed": (FILESYSTEM, "FilesystemLoadJob", "run"),
    "dlt.load_marked": (FILESYSTEM, "FilesystemClient", "_store_load"),
    "dlt.state_stored": (FILESYSTEM, "FilesystemClient", "_store_current_state"),
}
# What differs between two runs that did the same: names and times of loads, runs and replays.
_LOAD_FILE = re.compile(r"(\d{9,}\.\d+)\.[0-9a-f]+\.parquet")
_LOAD_ID = re.compile(r"\d{9,}\.\d+")
_EXTRACTED = re.compile(r'"_extracted_at":"[^"]*"')
_UNLIKE = {
    "_extracted_at",
    "loaded_at",
    "replayed_at",
    "expired_at",
    "run_id",
    "measured_at",
    "checked_at",
    "detected_at",
    "extracted_at",
}
# Measures and scores are kept for each run, so an interrupted run adds its own.
_OF_RUNS = ("measures", "veracity_history", "checks")


@dataclass(frozen=True)
class Command:
    """Something that is crashed.

    Attributes:
        name: What the table calls it.
        argv: The command line.
        before: The state that it begins with.
        again: Command lines that follow a crash: the command once more, then what is left.
        expected: The state that an uninterrupted run leaves behind.
        codes: Exit codes that are no fault.
        ahead: Days after which it is done, for what goes by age.
    """

    name: str
    argv: Lines
    before: str
    again: tuple[Lines, ...]
    expected: str
    codes: tuple[int, ...] = (0,)
    ahead: int = 0


@dataclass
class Outcome:
    """How a child ended.

    Attributes:
        code: Exit code; -9 if it was killed.
        seconds: How long it lived.
        passed: How often it passed each failpoint, where it lived to tell.
        said: What it wrote.
    """

    code: int
    seconds: float
    passed: dict[str, int] = field(default_factory=dict)
    said: str = ""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Workplace:
    """A folder in which trials are made one after the other.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states = folder / "states"
        self.states.mkdir(parents=True)
        self.shop: CrashShop = make_crash_shop(folder / "shop")
        self._api = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("crash_project.py"), self.shop.reviews],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._api.stdout is not None
        port = int(self._api.stdout.readline())
        self.environment = {
            **surroundings(self.shop),
            "CONNECTIONS__DESK__URL": f"http://127.0.0.1:{port}",
        }
        self.durations: dict[str, float] = {}
        self.passed: dict[str, dict[str, int]] = {}
        self.expected: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        self._api.kill()
        self._api.wait()

    # States

    def save(self, state: str) -> None:
        """Keeps the project as it is now."""
        _copy(self.shop.root, self.states / state)

    def restore(self, state: str) -> None:
        """Puts the project back to a state."""
        shutil.rmtree(self.shop.root)
        _copy(self.states / state, self.shop.root)

    def wipe(self) -> None:
        """Removes all that is not landing: what a new machine with a backup of it would have."""
        for place in self.shop.data.iterdir():
            if place.name != "landing":
                shutil.rmtree(place)
        for name in ("target", "logs"):
            shutil.rmtree(self.shop.root / name, ignore_errors=True)

    def lose(self) -> None:
        """Removes the data folder: a new machine."""
        shutil.rmtree(self.shop.data)

    # Children

    def call(
        self,
        argv: Sequence[str],
        *,
        point: str = "",
        after: float | None = None,
        ahead: int = 0,
    ) -> Outcome:
        """Does a command in a child.

        Args:
            argv: The command line.
            point: Failpoint or moment of a library at which it dies, `name:nth`.
            after: Seconds after which it is killed.
            ahead: Days after which it is done.
        """
        environment = {
            **self.environment,
            "WELLSPRING_FAILPOINT": point or "none",
            "DAYS_AHEAD": str(ahead),
        }
        log, report = self.folder / "child.log", self.folder / "passed.json"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_child(self.shop.root, environment, [*argv], log, report)
        code = _wait(child, began, after)
        seconds = time.monotonic() - began
        passed = json.loads(report.read_text()) if report.exists() else {}
        return Outcome(code, seconds, passed, log.read_text(errors="replace"))

    def must(self, argv: Sequence[str], codes: Sequence[int] = (0,), ahead: int = 0) -> Outcome:
        """Does a command that has to end well."""
        done = self.call(argv, ahead=ahead)
        if done.code not in codes:
            raise Fault(f"`wellspring {' '.join(argv)}` ended with {done.code}", done.said)
        return done

    def snapshot(self) -> dict[str, Any]:
        """What the project holds, in a child because DuckDB stays out of the parent."""
        place = self.folder / "snapshot.json"
        place.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                place.write_text(json.dumps(snapshot(self.shop)))
                code = 0
            except BaseException:
                import traceback

                (self.folder / "child.log").write_text(traceback.format_exc())
            finally:
                os._exit(code)
        if _wait(child, time.monotonic(), None) != 0:
            raise Fault("it cannot be looked at", (self.folder / "child.log").read_text())
        content: dict[str, Any] = json.loads(place.read_text())
        return content


class Fault(Exception):
    """A trial that did not end as it should; the second argument is what was said."""


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def _wait(child: int, began: float, after: float | None) -> int:
    """Exit code of a child, which is killed when its time has come."""
    deadline = began + (after if after is not None else 300)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.002)


def _be_child(
    root: Path, environment: dict[str, str], argv: list[str], log: Path, report: Path
) -> None:
    """Becomes `wellspring`; never returns."""
    code = 70
    try:
        os.chdir(root)
        os.environ.clear()
        os.environ.update(environment)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(handle, stream)
        _arm(environment["WELLSPRING_FAILPOINT"])
        _age(int(environment["DAYS_AHEAD"]))
        from ingestion.failpoints import passed
        from runner.cli import main

        code = main(argv)
        sys.stdout.flush()
        sys.stderr.flush()
        report.write_text(json.dumps({**passed(), **_library_passed}))
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


_library_passed: dict[str, int] = {}


def _age(days: int) -> None:
    """Makes what goes by age believe that it is later."""
    if days:
        import ingestion.expire

        class Later(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # only what is called
                return datetime.now(tz) + timedelta(days=days)

        ingestion.expire.datetime = Later  # type: ignore[misc]  # the clock of this process


def _arm(point: str) -> None:
    """Makes the moments inside of libraries countable and, if asked for, deadly."""
    asked, _, passing = point.partition(":")

    def armed(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            result = original(*given, **named)
            _library_passed[name] = _library_passed.get(name, 0) + 1
            if asked == name and _library_passed[name] == int(passing or 1):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name, (module, owner, method) in LIBRARY_MOMENTS.items():
        target = getattr(importlib.import_module(module), owner)
        setattr(target, method, armed(name, getattr(target, method)))


# -- what is compared --------------------------------------------------------------------------


def snapshot(shop: CrashShop) -> dict[str, Any]:
    """What has to be the same, whatever happened on the way.

    Left out, because it differs between two undisturbed runs as well: ids and times of loads (the
    number of the load in its source takes their place), names of runs, times of loading. Left out
    on purpose: measures of runs (an interrupted run has measured, too), copies in landing that no
    completed load knows (they do not count, by design), `.part` files younger than a day.
    """
    return {
        **_warehouse(shop),
        "landing": _landing(shop),
        "published": _published(shop),
        "history": _history(shop),
    }


def _warehouse(shop: CrashShop) -> dict[str, Any]:
    return _tables(shop, shop.data / "warehouse" / "wellspring.duckdb")


def _tables(shop: CrashShop, place: Path) -> dict[str, Any]:
    """Columns and rows of every table and view of a DuckDB file."""
    import duckdb

    loads = _loads(shop)
    found: dict[str, Any] = {}
    with duckdb.connect(str(place), read_only=True) as connection:
        tables = connection.execute(
            "select table_schema, table_name from information_schema.tables "
            "where table_schema not in ('information_schema', 'pg_catalog') order by all"
        ).fetchall()
        for schema, table in tables:
            # How a table grew is no part of what it holds.
            if schema in ("marks", "changes") or (schema == "runs" and table in _OF_RUNS):
                continue
            cursor = connection.execute(f'select * from "{schema}"."{table}"')
            names = [column[0] for column in cursor.description]
            kept = [number for number, name in enumerate(names) if name not in _UNLIKE]
            rows = [[_told(row[n], loads) for n in kept] for row in cursor.fetchall()]
            columns = [names[number] for number in kept]
            found[f"{schema}.{table}"] = [columns, *sorted(rows, key=repr)]
    return found


def _told(value: Any, loads: dict[str, str]) -> Any:
    """A value as text, with loads called by their number."""
    if value is None:
        return None
    text = _EXTRACTED.sub("", str(value))
    text = _LOAD_FILE.sub(lambda match: f"{loads.get(match[1], match[1])}.parquet", text)
    return _LOAD_ID.sub(lambda match: loads.get(match[0], match[0]), text)


def _loads(shop: CrashShop) -> dict[str, str]:
    """Completed loads of each source by number, oldest first."""
    numbers = {}
    for marks in (shop.data / "landing").glob("*/_dlt_loads"):
        ids = sorted(p.name.removesuffix(".jsonl").rpartition("__")[2] for p in marks.iterdir())
        numbers |= {load: f"{marks.parent.name} load {n}" for n, load in enumerate(ids, start=1)}
    return numbers


def _landing(shop: CrashShop) -> Any:
    """Completed loads, and the bytes of every original."""
    root = shop.data / "landing"
    originals = [
        [str(path.relative_to(root)), sha256(path.read_bytes()).hexdigest()]
        for path in sorted(root.glob("*/*/originals/**/*"))
        if path.is_file() and path.suffix != ".part"
    ]
    return {"loads": sorted(_loads(shop).values()), "originals": originals}


def _published(shop: CrashShop) -> Any:
    """Tables of the current version, and whether all of it is whole and nothing lies about."""
    current = shop.current
    if current is None:
        return None
    folder = shop.published / current
    manifest = json.loads((folder / "manifest.json").read_text())
    damaged = [
        file["path"]
        for file in manifest["files"]
        if sha256((folder / file["path"]).read_bytes()).hexdigest() != file["sha256"]
    ]
    return {
        "tables": _tables(shop, folder / "wellspring.duckdb"),
        "rows": {table["name"]: table["rows"] for table in manifest["tables"]},
        "damaged": damaged,
        "has_docs": (folder / "docs" / "index.html").is_file(),
        "versions": len(shop.versions),
        "leftovers": [name for name in shop.versions if name.endswith(".tmp")],
    }


def _history(shop: CrashShop) -> Any:
    """Whether the history is whole, and agrees with what is published."""
    connection = sqlite3.connect(shop.data / "state" / "history.sqlite")
    (sound,) = connection.execute("pragma integrity_check").fetchone()
    (running,) = connection.execute("select count(*) from runs where status = 'running'").fetchone()
    there = connection.execute(
        "select version from published_versions where removed_at is null order by version"
    ).fetchall()
    connection.close()
    versions = [
        name for name in shop.versions if (shop.published / name / "manifest.json").exists()
    ]
    told = [row[0] for row in there] == [name for name in versions if name != "waiting"]
    return {"sound": sound, "running": running, "tells_versions": told}


def differences(found: dict[str, Any], expected: dict[str, Any], wiped: bool) -> list[str]:
    """Where two snapshots differ, for people; after a wipe only what comes from landing counts."""
    lines = []
    for key in sorted({*found, *expected}):
        mine, theirs = found.get(key), expected.get(key)
        if wiped and (key == "history" or key.startswith("runs.")):
            continue
        if wiped and key == "published":
            mine, theirs = (side and side["tables"] for side in (mine, theirs))
        if mine == theirs:
            continue
        lines.append(f"{key}: differs")
        if isinstance(mine, list) and isinstance(theirs, list):
            lines += [f"  only here:     {row}" for row in mine if row not in theirs][:4]
            lines += [f"  only expected: {row}" for row in theirs if row not in mine][:4]
            lines.append(f"  {len(mine) - 1} and {len(theirs) - 1} rows")
        elif isinstance(mine, dict) and isinstance(theirs, dict):
            for part in sorted({*mine, *theirs}):
                if mine.get(part) != theirs.get(part):
                    lines.append(f"  {part}: {mine.get(part)}"[:600])
                    lines.append(f"  expected: {theirs.get(part)}"[:600])
        else:
            lines += [f"  here:     {mine}"[:600], f"  expected: {theirs}"[:600]]
    return lines
