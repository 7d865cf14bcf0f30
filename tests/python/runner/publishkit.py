"""A warehouse of two tables to publish from, without dbt, and a process of its own to kill."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import warm

from ingestion.failpoints import VARIABLE
from ingestion.settings import Settings
from runner.fingerprint import fingerprint
from runner.gates import Gate
from runner.history import History, Origin, new_run_id
from runner.project import Relation
from runner.publish import Published, publish
from runner.versions import require_current

ORIGIN = Origin(None, "0", "someone", "somewhere", 1, "pytest")


def relation(name: str) -> Relation:
    return Relation(f"model.shop.{name}", "core", name, f"One row per {name}.", {"n": "A number."})


TABLES = [relation("odd"), relation("even")]


@dataclass
class Warehouse:
    """A warehouse of two tables that always hold the same number, as one version."""

    settings: Settings
    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.settings.warehouse_path.parent.mkdir(parents=True)
        self.history = History(self.settings.state_dir / "history.sqlite")

    def write(self, number: int) -> None:
        with closing(duckdb.connect(str(self.settings.warehouse_path))) as connection:
            connection.execute("create schema if not exists core")
            for name in ("odd", "even"):
                connection.execute(
                    f"create or replace table core.{name} as "
                    f"select {number} as n, range as position from range(2000)"
                )
            connection.execute("create or replace view core.seen as select * from core.odd")

    def audit(self, passed: bool = True, names: tuple[str, ...] = ("odd", "even")) -> None:
        stamp = fingerprint(self.settings.warehouse_path)
        assert stamp is not None
        run_id = self.begin()
        self.history.add_audit(stamp, run_id, passed, [f"model.shop.{name}" for name in names])

    def begin(self) -> str:
        run_id = new_run_id()
        self.history.start_run(run_id, "test", "", ORIGIN)
        return run_id

    def publish(self, number: int | None = None, *gates: Gate) -> Published:
        if number is not None:
            self.write(number)
            self.audit()
        declared = {"core.odd": gates} if gates else {}
        return publish(self.settings, self.history, self.begin(), TABLES, gates=declared)

    def read(self) -> tuple[int, int]:
        database = require_current(self.settings).database
        with closing(duckdb.connect(str(database), read_only=True)) as connection:
            odd, even = (
                connection.execute(f"select max(n), min(n), count(*) from core.{name}").fetchall()[
                    0
                ]
                for name in ("odd", "even")
            )
        assert odd[0] == odd[1]
        assert even[0] == even[1]
        assert odd[2] == even[2] == 2000
        return odd[0], even[0]


CHILD = """
import importlib, os, resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import publishkit as tests
from ingestion.settings import PublishSettings, Settings
from ingestion.errors import IngestionError
from runner.gates import Gate
from runner.history import History
from runner.publications import approve, rollback
from runner.publish import publish

data, act = Path(sys.argv[2]), sys.argv[3]
settings = Settings(data.parent, data, publish=PublishSettings(keep=3))
history = History(settings.state_dir / "history.sqlite")
run_id = tests.new_run_id()
history.start_run(run_id, "child", "", tests.ORIGIN)
if act == "kill":
    module, name, times = sys.argv[4], sys.argv[5], int(sys.argv[6])
    owner = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    work, calls = getattr(owner, last), [0]
    def killing(*args, **kwargs):
        given = work(*args, **kwargs)
        calls[0] += 1
        if calls[0] == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return given
    setattr(owner, last, killing)
elif act == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
gates = {"core.odd": [Gate(measure="sum(n)", moves="50%")]} if act == "gated" else {}
try:
    if act == "rollback":
        rollback(settings, history)
    elif act == "approve":
        approve(settings, history)
    else:
        publish(settings, history, run_id, tests.TABLES, gates=gates)
except IngestionError as error:
    print(type(error).__name__, error)
"""


def child(
    warehouse: Warehouse, *arguments: str, failpoint: str = ""
) -> subprocess.CompletedProcess[str]:
    """Publishes, rolls back or approves in a process of its own."""
    folders = [str(Path(__file__).parent), str(warehouse.settings.data_dir)]
    return warm.run(
        ["-c", CHILD, *folders, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, VARIABLE: failpoint},
    )
