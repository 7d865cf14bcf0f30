"""Warehouses for the checks: the project over empty raw tables, and the worked example in full.

project ─> dbt parse ─> empty raw tables ─> build, docs ─> `built_project` (manifest, catalog)
anycompany serve ─> python -m ingestion ─> dbt build ─> `example_warehouse` (warehouse, truth)
                    weeks pass ─> what is live takes new loads ─> `later_warehouse`

Each is made once for a test session, also under xdist: the first worker that needs one makes it
behind a file lock in a folder that all workers share; the others find it finished. dbt runs in
processes of its own, because it keeps one DuckDB handle per process.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import warm

PROJECT = Path(__file__).parents[2]
EXAMPLE_SCALE = "0.02"
WEEKS = "24"
"""Days that pass in the example, told to `advance`."""
LIVE = (
    "tag:live",
    "path:models/*/game*",
    *(f"path:models/staging/{name}" for name in ("devices", "card_payments")),
    *(f"path:models/intermediate/{name}" for name in ("devices", "risk")),
    *(f"path:models/marts/{name}" for name in ("devices", "risk")),
)


@dataclass(frozen=True)
class BuiltProject:
    """The project built without data.

    Attributes:
        data_dir: its data folder, the artifacts in `target`.
        manifest: dbt's manifest.
        catalog: dbt's catalog of the built relations.
    """

    data_dir: Path
    manifest: Mapping[str, Any]
    catalog: Mapping[str, Any]

    @contextmanager
    def borrowed(self, target: Path) -> Iterator[Path]:
        """Lend its data folder to one dbt at a time, `target` made ready with its own parse."""
        parsed = self.data_dir / "target" / "partial_parse.msgpack"
        with locked(self.data_dir / "warehouse.lock"):
            shutil.copy(parsed, target / parsed.name)
            yield self.data_dir


@dataclass(frozen=True)
class ExampleWarehouse:
    """The worked example at a small scale, from its source systems to the marts.

    Attributes:
        data_dir: the run's data folder.
        warehouse: the DuckDB file; open it read-only.
        truth: folder of the generator's truth, one Parquet file per table.
        build_log: what `dbt build` printed.
    """

    data_dir: Path
    warehouse: Path
    truth: Path
    build_log: str

    @classmethod
    def in_folder(cls, folder: Path) -> ExampleWarehouse:
        """What was made in a data folder."""
        warehouse = folder / "warehouse" / "wellspring.duckdb"
        log = (folder / "build.log").read_text()
        return cls(folder, warehouse, folder / "anycompany" / "truth", log)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query over the warehouse; `truth('sales_daily')` names a table of the truth."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            connection.execute(
                f"create temp macro truth(name) as table "
                f"select * from read_parquet('{self.truth}/' || name || '.parquet')"
            )
            return connection.execute(query).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock, so that one process at a time goes on."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make the content of `folder` once, however many processes ask for it at the same time.

    A failure is kept too, so that the others fail at once with its message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done, failed = folder / "done", folder / "failed"
    with locked(folder / "lock"):
        if not done.exists() and not failed.exists():
            try:
                make(folder)
                done.touch()
            except Exception as error:
                failed.write_text(str(error))
    if failed.exists():
        pytest.fail(f"{failed}\n{failed.read_text()}", pytrace=False)
    return folder


def run(command: list[str], data_dir: Path, timeout_s: int = 600, **settings: str) -> str:
    """Run one command, what follows `python`, over a data folder; returns what it printed."""
    environment = {**os.environ, **settings, "WELLSPRING_DATA": str(data_dir)}
    outcome = warm.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    if outcome.returncode != 0:
        lines = (outcome.stdout + outcome.stderr).splitlines()
        told = [line for line in lines if not re.search(r" (START|OK|PASS|SKIP) ", line)]
        shown = "\n".join(told[-40:])
        raise RuntimeError(f"python {' '.join(command)} ended with {outcome.returncode}:\n{shown}")
    return outcome.stdout


def dbt(data_dir: Path, *commands: list[str], target: Path | None = None) -> str:
    """Run dbt commands over one manifest, their artifacts in `target` or inside the data folder."""
    (data_dir / "warehouse").mkdir(parents=True, exist_ok=True)
    folder = target or data_dir / "target"
    common = ["--target-path", str(folder), "--log-path", str(folder), "--no-use-colors"]
    steps = json.dumps([[*command, *common] for command in (["parse"], *commands)])
    return run([str(Path(__file__).with_name("run_dbt.py")), steps], data_dir)


def make_empty_raw_tables(manifest: Mapping[str, Any], warehouse: Path) -> None:
    """Create every declared source table without rows, with the loader's columns."""
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    loaded = {
        "_file": "varchar",
        "_row": "bigint",
        "_load_id": "varchar",
        "_extracted_at": "timestamp",
        "_deleted": "boolean",
    }
    with duckdb.connect(str(warehouse)) as connection:
        for source in manifest["sources"].values():
            columns = {
                column["name"]: column.get("data_type") or "varchar"
                for column in source["columns"].values()
            }
            if (source["config"].get("meta") or source["meta"]).get("ingest"):
                columns |= loaded
            listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            connection.execute(f'create schema if not exists "{source["schema"]}"')
            connection.execute(
                f'create table "{source["schema"]}"."{source["identifier"]}" ({listed})'
            )


def build_empty(folder: Path) -> None:
    """Build the project and its docs over empty raw tables in `folder`."""
    dbt(folder)
    manifest = json.loads((folder / "target" / "manifest.json").read_text())
    make_empty_raw_tables(manifest, folder / "warehouse" / "wellspring.duckdb")
    build = ["build", "--exclude-resource-type", "unit_test", "test"]
    dbt(folder, build, ["docs", "generate", "--no-compile"])


def run_example(folder: Path, scale: str = EXAMPLE_SCALE, *options: str) -> str:
    """Generate, extract, load and build the worked example; returns what dbt printed."""
    serve = [sys.executable, "-m", "anycompany", "serve", "--scale", scale, *options]
    ingest = ["-m", "ingestion"]
    run(ingest, folder, WELLSPRING__COMPANION__COMMAND=shlex.join(serve))
    return dbt(folder, ["build", "--exclude-resource-type", "unit_test"])


def make_example(folder: Path) -> None:
    """Run the worked example in `folder` at its usual scale."""
    (folder / "build.log").write_text(run_example(folder))


def make_later(folder: Path, example: Path) -> None:
    """Let weeks pass in a copy of the example; only what is live takes what is new.

    In that time outages end, firmware is replaced, and chargebacks of earlier payments and late
    events of the game come.
    """
    # cp keeps the owner: PostgreSQL refuses a folder that is not its own.
    subprocess.run(["cp", "-a", f"{example}/.", str(folder)], check=True)
    # What says that the example is done is not true of this one.
    (folder / "done").unlink(missing_ok=True)
    run(["-m", "anycompany", "advance", "--days", WEEKS], folder)
    serve = shlex.join([sys.executable, "-m", "anycompany", "serve"])
    # MQTT does not tell how much is left: beside so much of the game, silence may end it early.
    for sources in (("devices", "card_payments", "game"), ("devices",)):
        chosen = [f"--select=source:{source}" for source in sources]
        run(["-m", "ingestion", *chosen], folder, WELLSPRING__COMPANION__COMMAND=serve)
    dbt(folder, ["run", "--select", *LIVE])
