"""The run history: what ran, when, with what result.

pipeline -> `History` -> `state/history.sqlite` (WAL) -> `status`, audits that publish relies on

SQLite, because it can be read while DuckDB's file is locked by a run. Every call commits, so a
killed run leaves its last finished step behind. Left out: what measures mean; `measures` knows.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from ingestion.errors import RIGHTS, IngestionError
from ingestion.lock import user_name
from ingestion.settings import Settings

_VERSION = 4
_SCHEMA = """
create table if not exists runs (
    run_id text primary key,
    command text not null,
    selection text not null,
    status text not null,
    exit_code integer,
    message text,
    started_at text not null,
    finished_at text,
    git_revision text,
    settings_hash text not null,
    user text not null,
    host text not null,
    pid integer not null,
    started_by text not null,
    number integer,
    logical_date text,
    resumes text,
    request text,
    landed_rows integer,
    landed_bytes integer,
    loaded_rows integer,
    loaded_bytes integer,
    peak_memory_bytes integer
);
create table if not exists steps (
    run_id text not null references runs,
    position integer not null,
    step text not null,
    status text not null,
    started_at text not null,
    seconds real,
    message text,
    attempts integer,
    row_count integer,
    bytes integer,
    peak_memory_bytes integer,
    primary key (run_id, position)
);
create table if not exists attempts (
    run_id text not null references runs,
    step text not null,
    name text not null,
    number integer not null,
    started_at text not null,
    seconds real,
    status text not null,
    message text,
    primary key (run_id, step, name, number)
);
create table if not exists step_items (
    run_id text not null references runs,
    step text not null,
    kind text not null,
    name text not null,
    status text not null,
    row_count integer,
    file_count integer,
    rejected integer,
    seconds real,
    message text,
    recorded_at text not null,
    bytes integer
);
create index if not exists step_items_by_run on step_items (run_id, step);
create index if not exists step_items_by_kind on step_items (kind, name, recorded_at);
create table if not exists audits (
    fingerprint text not null,
    run_id text not null references runs,
    audited_at text not null,
    passed integer not null,
    models text not null,
    code_hash text,
    primary key (fingerprint, run_id)
);
create table if not exists published_versions (
    version text primary key,
    run_id text not null references runs,
    sealed_at text not null,
    published_at text,
    removed_at text,
    table_count integer not null,
    row_count integer not null,
    bytes integer not null,
    git_revision text
);
create table if not exists node_builds (
    unique_id text primary key,
    code text not null,
    run_id text not null references runs,
    built_at text not null
) without rowid;
create table if not exists backfills (
    number integer primary key,
    range_start text not null,
    range_end text not null,
    partition text not null,
    selection text not null,
    begun_at text not null,
    finished_at text
);
create table if not exists backfill_parts (
    number integer not null references backfills,
    source text not null,
    start text not null,
    row_count integer not null,
    file_count integer not null,
    note text not null,
    run_id text not null,
    done_at text not null,
    primary key (number, source, start)
);
create table if not exists publications (
    number integer primary key,
    version text not null,
    former text,
    at text not null,
    action text not null,
    user text not null,
    host text not null,
    run_id text,
    is_done integer not null default 0
);
create table if not exists problems (
    problem_id integer primary key,
    step text not null,
    kind text not null,
    name text not null,
    message text not null,
    first_seen text not null,
    first_run text not null,
    last_seen text not null,
    last_run text not null,
    cleared_at text,
    cleared_run text
);
create unique index if not exists open_problems on problems (step, kind, name)
    where cleared_at is null;
create table if not exists notices (
    message_id text not null,
    target text not null,
    made_at text not null,
    content text not null,
    attempts integer not null default 0,
    last_error text,
    told_at text,
    primary key (message_id, target)
);
create table if not exists measured_runs (
    number integer primary key,
    run_id text not null references runs,
    measured_at text not null,
    content integer not null
);
create table if not exists measured_series (
    series integer primary key,
    relation text not null,
    column_name text not null,
    measure text not null,
    unique (relation, column_name, measure)
);
create table if not exists measures (
    content integer not null,
    series integer not null references measured_series,
    value real not null,
    primary key (content, series)
) without rowid;
create table if not exists backups (
    backup_id text not null,
    place text not null,
    made_at text not null,
    file_count integer not null,
    bytes integer not null,
    sent_files integer not null,
    sent_bytes integer not null,
    seconds real not null,
    primary key (backup_id, place)
);
create table if not exists veracity (
    run_id text not null references runs,
    measured_at text not null,
    subject_kind text not null,
    subject text not null,
    part text not null,
    score real not null,
    primary key (run_id, subject_kind, subject, part)
) without rowid;
"""

# What histories of earlier versions lack.
_ADDED = {
    "audits": {"code_hash": "text"},
    "runs": {
        "number": "integer",
        "logical_date": "text",
        "resumes": "text",
        "request": "text",
        "landed_rows": "integer",
        "landed_bytes": "integer",
        "loaded_rows": "integer",
        "loaded_bytes": "integer",
        "peak_memory_bytes": "integer",
    },
    "steps": {
        "attempts": "integer",
        "row_count": "integer",
        "bytes": "integer",
        "peak_memory_bytes": "integer",
    },
    "step_items": {"bytes": "integer"},
}
# Runs of earlier versions get their numbers in the order in which they began.
_NUMBERED = """
update runs set number = (
    select count(*) from runs as earlier
    where (earlier.started_at, earlier.rowid) <= (runs.started_at, runs.rowid)
) where number is null
"""
_SHOWN_PARENTS = 3
_PAGES = ("page_count", "freelist_count")
# Of runs, those that are kept however old they are.
_NEEDED = """
    and status <> 'running'
    and number < (select max(number) from runs)
    and run_id not in (select run_id from published_versions where removed_at is null)
    and run_id not in (
        select run_id from audits where fingerprint = (
            select fingerprint from audits order by rowid desc limit 1
        )
    )
    and run_id not in (
        select run_id from (
            select run_id, row_number() over (
                partition by step, kind, name, status = 'failed' order by recorded_at desc
            ) as recency
            from step_items
            where kind in ('source', 'total', 'outcome')
        )
        where recency = 1
    )
"""


def now() -> str:
    """The present moment as it stands in the history: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_run_id() -> str:
    """A name for a run that sorts by time: `20260630T120000Z-1f44f1c`.

    Behind the second, in hexadecimal: three digits of milliseconds, four of chance.
    """
    moment = datetime.now(UTC)
    milliseconds = moment.microsecond // 1000
    return f"{moment:%Y%m%dT%H%M%SZ}-{milliseconds:03x}{os.urandom(2).hex()}"


@dataclass(frozen=True)
class Item:
    """What a step did to one thing.

    Attributes:
        kind: source, table, model, seed, test, freshness, landing, comparison,
            relation, total, outcome, schema_change or anomaly.
        name: Its name, such as `shop.orders` or `fct_orders`.
        status: ok, nothing_new, failed, warned, skipped.
        rows: Rows that came of it, or that failed a test.
        files: Files that it took.
        rejected: Rows or files that it refused.
        seconds: How long it took.
        message: What there is to say, for people.
        bytes: Size of what came of it.
    """

    kind: str
    name: str
    status: str
    rows: int | None = None
    files: int | None = None
    rejected: int | None = None
    seconds: float | None = None
    message: str = ""
    bytes: int | None = None


@dataclass(frozen=True)
class Attempt:
    """One try at something that may be tried again.

    Attributes:
        step: Step that it belongs to.
        name: What was tried: a source, a model, or the step itself.
        number: 1 for the first try in the run.
        started_at: When it began, as `now` tells it.
        seconds: How long it took.
        status: ok, failed, or interrupted.
        message: Why it did not succeed.
    """

    step: str
    name: str
    number: int
    started_at: str
    seconds: float | None
    status: str
    message: str = ""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        status: succeeded, failed, partly or interrupted.
        exit_code: The exit code of the command; None if it was killed.
        message: What there is to say.
    """

    status: str
    exit_code: int | None
    message: str


@dataclass(frozen=True)
class Origin:
    """What a run was started from.

    Attributes:
        git_revision: Commit of the project, `-dirty` if files differ from it; None outside git.
        settings_hash: Hash of the settings in force.
        user: Who started it.
        host: On which machine.
        pid: Process id.
        started_by: Names of the processes above it, nearest first: `make < bash`, `sh < cron`.
    """

    git_revision: str | None
    settings_hash: str
    user: str
    host: str
    pid: int
    started_by: str


def origin(settings: Settings) -> Origin:
    """Looks up what this process was started from."""
    return Origin(
        git_revision=git_revision(settings.project_dir),
        settings_hash=sha256(repr(settings).encode()).hexdigest()[:16],
        user=user_name(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started_by=_started_by(),
    )


def git_revision(folder: Path) -> str | None:
    """The commit that is checked out, with `-dirty` if tracked files differ; None outside git."""
    try:
        done = subprocess.run(
            [*["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _started_by() -> str:
    """The processes above this one, nearest first: a shell or make, then cron, a CI runner."""
    import psutil

    names: list[str] = []
    try:
        for process in psutil.Process().parents()[:_SHOWN_PARENTS]:
            names.append(process.name())
    except psutil.Error:
        # It has ended meanwhile, or may not be looked at: those nearer are told.
        pass
    return " < ".join(names) or f"process {os.getppid()}"


@dataclass
class History:
    """The run history of one data folder.

    Args:
        path: The SQLite file; made with its folder if absent.

    Raises:
        IngestionError: The file is no history.
    """

    path: Path
    _connection: sqlite3.Connection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            if self._version() < _VERSION:
                self._connection.execute("pragma journal_mode = wal")
                self._upgrade()
            self._connection.execute("pragma synchronous = normal")

    def _version(self) -> int:
        return int(self._connection.execute("pragma user_version").fetchone()[0])

    def _upgrade(self) -> None:
        """Makes the tables, or gives older ones what they lack, in one transaction."""
        self._connection.execute("begin immediate")
        try:
            if self._version() < _VERSION:
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
                self._add_columns()
                self._connection.execute(_NUMBERED)
                self._connection.execute(f"pragma user_version = {_VERSION}")
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def _add_columns(self) -> None:
        for table, columns in _ADDED.items():
            present = {row["name"] for row in self.rows(f"pragma table_info({table})")}
            for name, kind in columns.items():
                if name not in present:
                    self._connection.execute(f"alter table {table} add column {name} {kind}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "readonly" in str(error):
                raise IngestionError(
                    f"the run history cannot be written: {error}", file=self.path, hint=RIGHTS
                ) from error
            raise IngestionError(
                f"the run history cannot be used: {error}",
                file=self.path,
                hint="If it is damaged, move it away: a new one is begun, and no data is lost "
                "(`wellspring audit publish` vouches for the warehouse again).",
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _write(self, sql: str, values: Iterable[Any]) -> None:
        with self._explained():
            self._connection.execute(sql, tuple(values))

    def rows(self, sql: str, values: Iterable[Any] = ()) -> list[dict[str, Any]]:
        """Answers a query as a list of dictionaries."""
        with self._explained():
            return [dict(row) for row in self._connection.execute(sql, tuple(values))]

    def write_all(self, statements: Iterable[tuple[str, Iterable[Any]]]) -> None:
        """Executes statements with their values, all of them or none."""
        with self._together():
            for sql, values in statements:
                self._connection.execute(sql, tuple(values))

    # -- runs and steps ------------------------------------------------------------------------

    def start_run(
        self,
        run_id: str,
        command: str,
        selection: str,
        began: Origin,
        *,
        logical_date: str | None = None,
        resumes: str | None = None,
        request: str | None = None,
    ) -> None:
        """Notes that a run began. Called under the lock: whatever else runs was interrupted.

        Args:
            run_id: Its name.
            command: The command line.
            selection: What it works on, in dbt's selection language.
            began: What it was started from.
            logical_date: The moment that it stands for, if that is not its start.
            resumes: Run id of the run that it goes on with.
            request: What was asked for, as JSON; None for a run that cannot be resumed.
        """
        self._write(
            "update runs set status = 'interrupted', finished_at = ? where status = 'running'",
            (now(),),
        )
        self._write("update steps set status = 'interrupted' where status = 'running'", ())
        self._write(
            "insert into runs (run_id, command, selection, status, started_at, git_revision, "
            "settings_hash, user, host, pid, started_by, logical_date, resumes, request, number) "
            "select ?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(max(number), 0) + 1 "
            "from runs",
            (run_id, command, selection, now(), *astuple(began), logical_date, resumes, request),
        )

    def add_ended_run(
        self, run_id: str, command: str, began: Origin, times: tuple[str, str], outcome: Ended
    ) -> None:
        """Notes a run that has ended and did not hold the lock all the time, so others ran by it.

        Args:
            run_id: Its name; what is noted already under it stays.
            command: The command line.
            began: What it was started from.
            times: When it began and when it ended.
            outcome: How it ended.
        """
        self._write(
            "insert or ignore into runs (run_id, command, selection, status, started_at, "
            "finished_at, exit_code, message, git_revision, settings_hash, user, host, pid, "
            "started_by, number) "
            "select ?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(max(number), 0) + 1 "
            "from runs",
            (run_id, command, outcome.status, *times, *astuple(outcome)[1:], *astuple(began)),
        )

    def finish_run(self, run_id: str, status: str, exit_code: int, message: str) -> None:
        """Notes how a run ended."""
        self._write(
            "update runs set status = ?, exit_code = ?, message = ?, finished_at = ? "
            "where run_id = ?",
            (status, exit_code, message, now(), run_id),
        )

    def start_step(self, run_id: str, position: int, step: str) -> None:
        """Notes that a step began."""
        self._write(
            "insert into steps (run_id, position, step, status, started_at) "
            "values (?, ?, ?, 'running', ?)",
            (run_id, position, step, now()),
        )

    def finish_step(
        self, run_id: str, position: int, status: str, seconds: float, message: str
    ) -> None:
        """Notes how a step ended."""
        self._write(
            "update steps set status = ?, seconds = ?, message = ? "
            "where run_id = ? and position = ?",
            (status, round(seconds, 3), message, run_id, position),
        )

    def add_items(self, run_id: str, step: str, items: Iterable[Item]) -> None:
        """Notes what a step did to each thing, in one transaction."""
        moment = now()
        values = [(run_id, step, moment, *astuple(item)) for item in items]
        with self._together():
            self._connection.executemany(
                "insert into step_items (run_id, step, recorded_at, kind, name, status, row_count, "
                "file_count, rejected, seconds, message, bytes) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def add_attempt(self, run_id: str, attempt: Attempt) -> None:
        """Notes one try at something; the same number of the same thing replaces what was noted."""
        self._write(
            "insert or replace into attempts (run_id, step, name, number, started_at, seconds, "
            "status, message) values (?, ?, ?, ?, ?, ?, ?, ?)",
            (run_id, *astuple(attempt)),
        )

    def measure_step(
        self, run_id: str, step: str, rows: int | None, size: int | None, peak_memory: int | None
    ) -> None:
        """Notes what a step handled and took.

        Args:
            run_id: The run.
            step: Name of the step.
            rows: Rows that came of it.
            size: Bytes that came of it.
            peak_memory: The most memory in bytes that was in use while it went on.
        """
        self._write(
            "update steps set row_count = ?, bytes = ?, peak_memory_bytes = ?, attempts = ("
            "select max(attempts.number) from attempts where attempts.run_id = steps.run_id "
            "and attempts.step = steps.step) where run_id = ? and step = ?",
            (rows, size, peak_memory, run_id, step),
        )

    def measure_run(self, run_id: str, peak_memory: int | None) -> None:
        """Notes what a run took, and sums up what its steps landed and loaded."""
        self._write(
            "update runs set peak_memory_bytes = ?, "
            "landed_rows = (select row_count from steps where steps.run_id = runs.run_id "
            "and step = 'extract'), "
            "landed_bytes = (select bytes from steps where steps.run_id = runs.run_id "
            "and step = 'extract'), "
            "loaded_rows = (select row_count from steps where steps.run_id = runs.run_id "
            "and step = 'load'), "
            "loaded_bytes = (select bytes from steps where steps.run_id = runs.run_id "
            "and step = 'load') where run_id = ?",
            (peak_memory, run_id),
        )

    def prune(
        self, keep_days: int, moment: datetime | None = None, *, dry_run: bool = False
    ) -> int:
        """Forgets runs that began longer ago, with their steps, items, attempts and audits.

        What the present rests on is kept, however old: the last run, the runs whose versions are
        still there, those that vouch for the warehouse as it was audited last, and those with the
        last figures of each source. What measures keep has its own limit.

        Args:
            keep_days: How many days are kept.
            moment: The present; by default the time of the call.
            dry_run: Only count them.

        Returns:
            How many runs were forgotten.
        """
        oldest = (moment or datetime.now(UTC)) - timedelta(days=keep_days)
        text = oldest.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self._together():
            gone = self.tuples(f"select run_id from runs where started_at < ? {_NEEDED}", (text,))
            if dry_run:
                return len(gone)
            for table in ("step_items", "attempts", "steps", "audits", "runs"):
                self._connection.executemany(f"delete from {table} where run_id = ?", gone)
            self._connection.execute(
                "delete from published_versions where removed_at < ? "
                "and run_id not in (select run_id from runs)",
                (text,),
            )
        return len(gone)

    def compact(self) -> None:
        """Gives back the room of what was forgotten, once that is a third of the file."""
        pages, free = (self.tuples(f"pragma {name}")[0][0] for name in _PAGES)
        if free * 3 > pages:
            self._write("vacuum", ())

    # -- what was built ------------------------------------------------------------------------

    def add_build(self, unique_id: str, code: str, run_id: str) -> None:
        """Notes that a node was built, as soon as it is.

        Args:
            unique_id: dbt's name of the node.
            code: Names the code that it was built with.
            run_id: The run.
        """
        self._write(
            "insert or replace into node_builds values (?, ?, ?, ?)",
            (unique_id, code, run_id, now()),
        )

    def repeat_builds(self, run_id: str) -> None:
        """Notes that all that was built holds for this run, too."""
        self._write("update node_builds set run_id = ?", (run_id,))

    def builds(self, run_ids: Collection[str]) -> dict[str, str]:
        """The code that nodes were built with in any of these runs, by unique id."""
        wanted = set(run_ids)
        found = self.rows("select unique_id, code, run_id from node_builds")
        return {row["unique_id"]: row["code"] for row in found if row["run_id"] in wanted}

    # -- audits --------------------------------------------------------------------------------

    def add_audit(
        self,
        fingerprint: str,
        run_id: str,
        passed: bool,
        models: Iterable[str],
        code_hash: str | None = None,
    ) -> None:
        """Notes what an audit found about the warehouse as it is now.

        Args:
            fingerprint: Names the content of the warehouse file that was audited.
            run_id: The run that audited it.
            passed: Whether every test of error severity passed.
            models: Unique ids of the models that the audit covered.
            code_hash: Names the code that built and tested it; None if it covered a selection, or
                if building again could give something else.
        """
        self._write(
            "insert or replace into audits values (?, ?, ?, ?, ?, ?)",
            (fingerprint, run_id, now(), int(passed), json.dumps(sorted(models)), code_hash),
        )

    def settled_by(self, fingerprint: str, code_hash: str) -> str | None:
        """The run that audited this very content, built by this very code, with success.

        Only the last audit of the content counts.
        """
        found = self.rows(
            "select run_id, passed, code_hash from audits where fingerprint = ? "
            "order by rowid desc limit 1",
            (fingerprint,),
        )
        settled = found and found[0]["passed"] and found[0]["code_hash"] == code_hash
        return str(found[0]["run_id"]) if settled else None

    def audited_models(self, fingerprint: str) -> set[str] | None:
        """Models that passed the last audit of this very content; None if it was never audited.

        A failed audit vouches for nothing, whatever an earlier one had said of the same content.
        """
        found = self.rows(
            "select passed, models from audits where fingerprint = ? order by rowid",
            (fingerprint,),
        )
        if not found:
            return None
        covered: set[str] = set()
        for audit in found:
            covered = covered | set(json.loads(audit["models"])) if audit["passed"] else set()
        return covered

    # -- published versions --------------------------------------------------------------------

    def add_version(
        self, version: str, tables: int, rows: int, size: int, revision: str | None
    ) -> None:
        """Notes a version that is complete but not yet current."""
        self._write(
            "insert or replace into published_versions (version, run_id, sealed_at, table_count, "
            "row_count, bytes, git_revision) values (?, ?, ?, ?, ?, ?, ?)",
            (version, version, now(), tables, rows, size, revision),
        )

    def begin_publication(
        self, version: str, former: str | None, action: str, run_id: str | None
    ) -> None:
        """Notes that a version is about to become the current one.

        Args:
            version: The version.
            former: The version that is current until then.
            action: publish, rollback or approve.
            run_id: The run that does it; None for a command.
        """
        self._write(
            "insert into publications (version, former, at, action, user, host, run_id) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (version, former, now(), action, user_name(), socket.gethostname(), run_id),
        )

    def settle_publications(self, current: str | None) -> None:
        """Notes which version is current: what was begun has come about, or never did."""
        if not self.rows("select 1 from publications where not is_done limit 1"):
            return
        with self._together():
            self._connection.execute(
                "delete from publications where not is_done and version is not ?", (current,)
            )
            self._connection.execute(
                "update published_versions set published_at = coalesce(published_at, "
                "(select max(at) from publications where version = ?)) where version = ?",
                (current, current),
            )
            self._connection.execute("update publications set is_done = 1 where not is_done")

    def mark_published(self, version: str) -> None:
        """Notes that a version became the current one."""
        self._write(
            "update published_versions set published_at = coalesce(published_at, ?) "
            "where version = ?",
            (now(), version),
        )

    def mark_removed(self, version: str) -> None:
        """Notes that a version's files were removed."""
        self._write(
            "update published_versions set removed_at = ? where version = ?", (now(), version)
        )

    # -- backups -------------------------------------------------------------------------------

    def add_backup(
        self,
        backup_id: str,
        place: str,
        made_at: str,
        kept: tuple[int, int],
        sent: tuple[int, int],
        seconds: float,
    ) -> None:
        """Notes a backup that is complete.

        Args:
            backup_id: Its name.
            place: Where it lies, without secrets.
            made_at: When it was complete.
            kept: Its files and their bytes.
            sent: The files that had to be sent, and their bytes.
            seconds: How long it took.
        """
        self._write(
            "insert or replace into backups values (?, ?, ?, ?, ?, ?, ?, ?)",
            (backup_id, place, made_at, *kept, *sent, round(seconds, 3)),
        )

    # -- backfills -----------------------------------------------------------------------------

    def begin_backfill(self, identity: tuple[str, str, str, str]) -> int:
        """The number of the backfill of this range that is not finished; of a new one without.

        Args:
            identity: Start, end, length of the partitions, selection.
        """
        last = self.last_backfill(identity)
        if last is not None and last["finished_at"] is None:
            return int(last["number"])
        self._write(
            "insert into backfills (range_start, range_end, partition, selection, begun_at) "
            "values (?, ?, ?, ?, ?)",
            (*identity, now()),
        )
        return int(self.rows("select max(number) as number from backfills")[0]["number"])

    def last_backfill(
        self, identity: tuple[str, str, str, str] | None = None
    ) -> dict[str, Any] | None:
        """The last backfill of a range, or of any; None if there is none."""
        chosen = "where (range_start, range_end, partition, selection) = (?, ?, ?, ?) "
        found = self.rows(
            f"select * from backfills {chosen if identity else ''}order by number desc limit 1",
            identity or (),
        )
        return found[0] if found else None

    def add_backfilled(
        self, number: int, source: str, start: str, rows: int, files: int, note: str, run_id: str
    ) -> None:
        """Notes that a partition of a source has landed."""
        self._write(
            "insert or replace into backfill_parts values (?, ?, ?, ?, ?, ?, ?, ?)",
            (number, source, start, rows, files, note, run_id, now()),
        )

    def backfilled(self, number: int) -> dict[str, set[str]]:
        """Partitions of a backfill that have landed, by source."""
        found: dict[str, set[str]] = {}
        for row in self.rows(
            "select source, start from backfill_parts where number = ?", (number,)
        ):
            found.setdefault(row["source"], set()).add(row["start"])
        return found

    def finish_backfill(self, number: int) -> None:
        """Notes that all of a backfill has landed and is built and published."""
        self._write("update backfills set finished_at = ? where number = ?", (now(), number))

    # -- measures ------------------------------------------------------------------------------

    def add_measures(
        self, run_id: str, moment: datetime, values: Iterable[tuple[str, str, str, float]]
    ) -> None:
        """Keeps what a run measured.

        Args:
            run_id: The run.
            moment: The moment that the values stand for, UTC.
            values: Relation, column (empty for the relation itself), measure, value.
        """
        known = {tuple(row[1:]): row[0] for row in self.tuples("select * from measured_series")}
        given = list(values)
        with self._together():
            number = self._add_measured_run(run_id, moment, None)
            for relation, column, measure, _ in given:
                if (relation, column, measure) not in known:
                    cursor = self._connection.execute(
                        "insert into measured_series (relation, column_name, measure) "
                        "values (?, ?, ?)",
                        (relation, column, measure),
                    )
                    known[relation, column, measure] = cursor.lastrowid
            self._connection.executemany(
                "insert into measures values (?, ?, ?)",
                [(number, known[relation, column, m], v) for relation, column, m, v in given],
            )

    def repeat_measures(self, run_id: str, moment: datetime) -> None:
        """Notes that all is as it was measured last; nothing where it never was."""
        last = self.rows("select content from measured_runs order by number desc limit 1")
        if last:
            with self._together():
                self._add_measured_run(run_id, moment, int(last[0]["content"]))

    def _add_measured_run(self, run_id: str, moment: datetime, content: int | None) -> int:
        cursor = self._connection.execute(
            "insert into measured_runs (run_id, measured_at, content) values (?, ?, 0)",
            (run_id, moment.isoformat(timespec="seconds")),
        )
        number = int(cursor.lastrowid or 0)
        self._connection.execute(
            "update measured_runs set content = ? where number = ?", (content or number, number)
        )
        return number

    def measured_runs(self) -> list[dict[str, Any]]:
        """Runs that measured: number, run_id, measured_at and content, in order of their moment."""
        return self.rows("select * from measured_runs order by measured_at, number")

    def measured_values(
        self, contents: Collection[int]
    ) -> tuple[tuple[tuple[str, str, str], ...], dict[int, tuple[list[int], list[float]]]]:
        """What was measured.

        Args:
            contents: Which contents, as `measured_runs` names them.

        Returns:
            (relation, column, measure) of each series, and by content the places of series therein
            with their values.
        """
        series = self.tuples(
            "select series, relation, column_name, measure from measured_series order by series"
        )
        place = {row[0]: number for number, row in enumerate(series)}
        found: dict[int, tuple[list[int], list[float]]] = {}
        for content in contents:
            rows = self.tuples("select series, value from measures where content = ?", (content,))
            found[content] = ([place[row[0]] for row in rows], [row[1] for row in rows])
        return tuple(tuple(row[1:]) for row in series), found

    def prune_measures(self, moment: datetime, keep_days: int, *, dry_run: bool = False) -> int:
        """Keeps all runs of the last two days, the last run of each earlier day, none older.

        Args:
            moment: The present.
            keep_days: How many days are kept.
            dry_run: Only count them.

        Returns:
            Of how many runs the measures go.
        """
        oldest = (moment - timedelta(days=keep_days)).isoformat(timespec="seconds")
        recent = (moment - timedelta(days=2)).isoformat(timespec="seconds")
        going = (
            "from measured_runs where measured_at < ? or (measured_at < ? and number "
            "not in (select max(number) from measured_runs group by substr(measured_at, 1, 10)))"
        )
        with self._together():
            found = int(self.tuples(f"select count(*) {going}", (oldest, recent))[0][0])
            if dry_run:
                return found
            self._connection.execute(f"delete {going}", (oldest, recent))
            self._connection.execute(
                "delete from measures where content not in (select content from measured_runs)"
            )
            self._connection.execute("delete from veracity where measured_at < ?", (oldest,))
        return found

    def add_veracity(
        self, run_id: str, moment: datetime, scores: Sequence[tuple[str, str, str, float]]
    ) -> None:
        """Keeps a run's veracity scores.

        Args:
            run_id: The run.
            moment: The moment that they stand for, UTC.
            scores: Kind of subject, subject, part, score from 0 to 1.
        """
        text = moment.isoformat(timespec="seconds")
        with self._together():
            self._connection.executemany(
                "insert or replace into veracity values (?, ?, ?, ?, ?, ?)",
                [(run_id, text, *score) for score in scores],
            )

    def tuples(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Answers a query as a list of plain tuples, which is quicker where rows are many."""
        with self._explained():
            cursor = self._connection.cursor()
            cursor.row_factory = None
            return cursor.execute(sql, tuple(values)).fetchall()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """One transaction."""
        with self._explained():
            # At once, not at the first write: only so does another's transaction get waited for.
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")
