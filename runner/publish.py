"""Makes a published version of what was audited, and hands it to readers in one step.

audited warehouse -> `<run id>.tmp/` (DuckDB file, Parquet, manifest; unchanged tables as bytes from
the current version) -> fsync -> renamed `<run id>/` -> gates -> `current` swapped, or `waiting` ->
surplus versions removed

A version that would equal the current one table by table is not made: the current one stays, and
the versions that are kept remain different ones. Nor is one that equals a version from which
readers were taken back: only a person brings that back. A kill at any point leaves the former
version current; the next publish clears what lies about. Only models that passed an audit of this
very warehouse content are copied; with a selection, the others are carried over from the current
version, so that no reader ever meets an untested number. Left out: views (readers get base tables
only) and the choice of what is public, which the models make.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.durable import sync
from ingestion.errors import BadInput, disk_full, disk_full_error, first_line
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.errors import AuditFailed, BuildFailed, VersionHeld
from runner.fingerprint import fingerprint
from runner.history import History, git_revision, now
from runner.project import Relation
from runner.publications import drop_waiting, remove_surplus, switch, tidy
from runner.reuse import begin_from, is_worth_it, made_from, take_over
from runner.versions import (
    DATABASE,
    MANIFEST,
    UNFINISHED,
    Version,
    all_versions,
    current_version,
    make_waiting,
    remove,
    waiting_version,
)

if TYPE_CHECKING:
    import duckdb

    from runner.gates import Gate, Move

_WAREHOUSE, _FORMER, _NEW = "wellspring", "former", "published"
OnTable = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PublishedTable:
    """A table of a published version.

    Attributes:
        name: Schema and name.
        rows: How many rows it has.
        checksum: Of columns, types, comments and all values, whatever their order; equal for equal
            content within one version of DuckDB.
        from_version: The version whose audit passed it: this one, unless it was carried over.
        columns: Names and types of its columns.
        keys: Columns that identify a row, of each key that is declared.
    """

    name: str
    rows: int
    checksum: str
    from_version: str
    columns: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Held:
    """Why a version is not shown to readers.

    Attributes:
        moves: Measures that moved further than they may; none if it was rolled back from.
        known: Whether an earlier publish held the same content back.
    """

    moves: tuple[Move, ...] = ()
    known: bool = False


@dataclass(frozen=True)
class Published:
    """What a publish did.

    Attributes:
        version: The version that is current now, or that is held back.
        tables: Its tables.
        bytes: Size of its DuckDB file.
        missing: Public models that are neither audited now nor in the former version.
        removed: Versions that were removed because newer ones suffice.
        unchanged: Whether the version was there before, because all of it is the same.
        held: Why readers do not get it; None if they do.
    """

    version: Version
    tables: tuple[PublishedTable, ...]
    bytes: int
    missing: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: bool = False
    held: Held | None = None

    @property
    def error(self) -> VersionHeld | None:
        """What to tell the person who has to decide; None if readers get the version."""
        if self.held is None:
            return None
        name = self.version.name
        if not self.held.moves:
            return VersionHeld(
                f"what was built equals version {name}, from which readers were taken back: "
                "they keep the one they have",
                hint=f"`wellspring rollback {name}` brings it back; other content is published.",
            )
        still = "still waits" if self.held.known else "waits"
        told = "".join(f"\n  {move}" for move in self.held.moves)
        return VersionHeld(
            f"version {name} {still} for approval, readers keep the former one:{told}",
            hint=f"`wellspring diff current {name}` shows more, "
            f"`wellspring approve {name}` makes it current.",
        )

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def carried_over(self) -> tuple[str, ...]:
        """Tables that stem from an earlier version."""
        if self.unchanged:
            return ()
        return tuple(t.name for t in self.tables if t.from_version != self.version.name)


@dataclass(frozen=True)
class _Copy:
    """One table to copy: from which attached database, vouched for by which version."""

    relation: Relation
    catalog: str
    from_version: str


@dataclass(frozen=True)
class _Work:
    """What one publish works with.

    Attributes:
        settings: The project's settings.
        history: Where audits and versions are noted.
        run_id: The run.
        copies: The tables of the version to come.
        missing: Public models that it lacks.
        former: The version that is current.
        on_table: Told of each table.
        withheld: Why tables keep their last good version, by name.
    """

    settings: Settings
    history: History
    run_id: str
    copies: Sequence[_Copy]
    missing: tuple[str, ...]
    former: Version | None
    on_table: OnTable | None
    withheld: Mapping[str, str] = field(default_factory=dict)
    counted: dict[str, PublishedTable] = field(default_factory=dict)
    made_from: str | None = None


def publish(
    settings: Settings,
    history: History,
    run_id: str,
    relations: Sequence[Relation],
    selected: Collection[str] | None = None,
    on_table: OnTable | None = None,
    withheld: Mapping[str, str] | None = None,
    gates: Mapping[str, Sequence[Gate]] | None = None,
) -> Published:
    """Publishes the audited relations of the warehouse.

    Args:
        settings: The project's settings.
        history: Where audits and versions are noted.
        run_id: The run, whose name the version gets.
        relations: What readers get.
        selected: Unique ids of the models to take from the warehouse; None for all.
        on_table: Called as `on_table(done, total, name)` for each table.
        withheld: Why tables keep their last good version, by name; for the manifest.
        gates: By table, measures that may not move too far without approval.

    Raises:
        AuditFailed: No audit vouches for the warehouse as it is.
        BuildFailed: A public relation is not in the warehouse.
        DeclarationError: A gate cannot be asked.
        DiskFull: There is no room for another version.
        LockHeld: Another process has the warehouse open.
    """
    tidy(settings, history)
    audited = audited_models(settings, history)
    former = current_version(settings)
    copies, missing = _plan(relations, audited, selected, former, run_id)
    if not copies:
        raise BadInput(
            "there is nothing to publish: no public model was audited",
            hint="Models of models/marts with `access: public` are published.",
        )
    work = _Work(settings, history, run_id, copies, missing, former, on_table, withheld or {})
    # What is audited now is carried over from no version, so its place tells no run.
    parts = [
        (c.relation, _WAREHOUSE if c.catalog == _WAREHOUSE else c.from_version) for c in copies
    ]
    made = made_from(settings.warehouse_path, parts, work.withheld)
    work = replace(work, made_from=made)
    if former is not None and _same(work, former):
        drop_waiting(settings, history)
        return _known(work, former)
    for version in all_versions(settings):
        if version.rolled_back and _same(work, version):
            drop_waiting(settings, history)
            return _known(work, version, Held(known=True))
    return _decide(work, gates or {})


def _decide(work: _Work, gates: Mapping[str, Sequence[Gate]]) -> Published:
    """Makes the version and gives it to readers, unless a gate holds it back."""
    settings, history = work.settings, work.history
    waiting = waiting_version(settings)
    known = waiting is not None and _same(work, waiting)
    if waiting is not None and known:
        version, tables = waiting, _tables(waiting)
    else:
        version, tables = _make(work)
    held = _held(work, gates, version, known)
    if held is not None and not known:
        make_waiting(settings, version)
        failpoint("publish.waits")
    if held is None:
        switch(settings, history, version, "publish", work.run_id)
    if waiting is not None and not known:
        if held is None:
            make_waiting(settings, None)
        remove(waiting.path)
        history.mark_removed(waiting.name)
    elif known and held is None:
        make_waiting(settings, None)
    removed = remove_surplus(settings, history)
    size = version.database.stat().st_size
    return Published(version, tables, size, work.missing, removed, held=held)


def _held(
    work: _Work, gates: Mapping[str, Sequence[Gate]], version: Version, known: bool
) -> Held | None:
    """Whether a gate holds a sealed version back; it goes again if that cannot be told."""
    from runner.gates import moved

    if work.former is None or not gates:
        return None
    try:
        moves = moved(work.settings, gates, work.former, version)
    except Exception:
        if not known:
            remove(version.path)
            work.history.mark_removed(version.name)
        raise
    return Held(moves, known) if moves else None


def _make(work: _Work) -> tuple[Version, tuple[PublishedTable, ...]]:
    """Makes a complete version that is not current yet; leaves nothing behind if it cannot."""
    settings, run_id = work.settings, work.run_id
    folder = settings.published_dir / f"{run_id}{UNFINISHED}"
    try:
        folder.mkdir(parents=True)
        tables = _write_database(work, folder)
        failpoint("publish.copied")
        _write_manifest(work, folder, tables)
        failpoint("publish.manifest_written")
        size = (folder / DATABASE).stat().st_size
        rows = sum(table.rows for table in tables)
        # Noted before the folder bears its name: `tidy` knows by it what never became current.
        revision = git_revision(settings.project_dir)
        work.history.add_version(run_id, len(tables), rows, size, revision)
        failpoint("publish.registered")
        return _seal(settings, folder, run_id), tuple(tables)
    except Exception as error:
        if folder.exists():
            remove(folder)
        if disk_full(error):
            raise disk_full_error(settings.published_dir, error) from error
        raise


def audited_models(settings: Settings, history: History) -> set[str]:
    """Models that an audit vouches for as they stand in the warehouse now.

    Raises:
        AuditFailed: None does: the last audit failed, or the warehouse has changed since.
    """
    found = fingerprint(settings.warehouse_path)
    audited = history.audited_models(found) if found else None
    if audited:
        return audited
    why = (
        "the last audit of the warehouse failed"
        if audited is not None
        else "the warehouse was not audited since it last changed"
    )
    raise AuditFailed(
        f"{why}, so nothing is published",
        file=settings.warehouse_path,
        hint="`wellspring audit publish` tests it and publishes it if all tests pass.",
    )


def _plan(
    relations: Sequence[Relation],
    audited: Collection[str],
    selected: Collection[str] | None,
    former: Version | None,
    run_id: str,
) -> tuple[list[_Copy], tuple[str, ...]]:
    """Where each table comes from: the warehouse if audited and selected, else what was."""
    kept: dict[str, str] = {}
    if former is not None:
        kept = {t["name"]: t["from_version"] for t in former.manifest()["tables"]}
    copies, missing = [], []
    for relation in relations:
        wanted = selected is None or relation.unique_id in selected
        if wanted and relation.unique_id in audited:
            copies.append(_Copy(relation, _WAREHOUSE, run_id))
        elif str(relation) in kept:
            copies.append(_Copy(relation, _FORMER, kept[str(relation)]))
        else:
            missing.append(str(relation))
    return copies, tuple(missing)


def _write_database(work: _Work, folder: Path) -> list[PublishedTable]:
    copies = work.copies
    with _attached(work.settings, copies, work.former) as connection:
        unchanged = _begin(work, connection, folder)
        tables = []
        for number, copy in enumerate(copies):
            name = str(copy.relation)
            if work.on_table is not None:
                work.on_table(number, len(copies), name)
            if name in unchanged:
                tables.append(work.counted[name])
            else:
                tables.append(_copy_table(connection, copy))
            failpoint("publish.table_copied")
            parquet = _parquet(copy.relation)
            former = work.former if name in unchanged else None
            if former is None or not take_over(former, parquet, folder):
                _write_parquet(connection, folder, copy.relation)
        connection.execute(f"checkpoint {_NEW}")
        connection.execute(f"detach {_NEW}")
    return tables


def _begin(work: _Work, connection: duckdb.DuckDBPyConnection, folder: Path) -> set[str]:
    """Attaches the DuckDB file to fill; returns the tables that it holds already."""
    file, former = folder / DATABASE, work.former
    unchanged = _unchanged(work, connection)
    rows = sum(table.rows for table in work.counted.values())
    if is_worth_it(former, unchanged, rows) and begin_from(
        connection, former, file, _NEW, unchanged
    ):
        return unchanged
    connection.execute(f"attach {_text(file)} as {_NEW}")
    return set()


def _unchanged(work: _Work, connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Tables that the current version has with the same content."""
    import duckdb

    manifest = work.former.manifest() if work.former is not None else None
    if manifest is None or manifest["duckdb_version"] != duckdb.__version__:
        return set()
    known = {
        table["name"]: (table["checksum"], table.get("parquet")) for table in manifest["tables"]
    }
    return {
        str(copy.relation)
        for copy in work.copies
        if (_checksum(work, connection, copy), _parquet(copy.relation))
        == known.get(str(copy.relation))
    }


@contextmanager
def _attached(
    settings: Settings, copies: Sequence[_Copy], former: Version | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that reads what the copies are made from."""
    from ingestion.warehouse import connect, in_memory

    # Opened once by itself, because that tells in plain words who holds it or that it is damaged.
    connect(settings, read_only=True).close()
    with closing(in_memory(settings)) as connection:
        # Views in the warehouse name its catalog, so it must bear that name here too.
        connection.execute(f"attach {_text(settings.warehouse_path)} as {_WAREHOUSE} (read_only)")
        if former is not None and any(copy.catalog == _FORMER for copy in copies):
            _attach_former(connection, former)
        yield connection


def _attach_former(connection: duckdb.DuckDBPyConnection, former: Version) -> None:
    import duckdb

    try:
        connection.execute(f"attach {_text(former.database)} as {_FORMER} (read_only)")
    except duckdb.Error as error:
        raise BadInput(
            f"the current version cannot be read: {first_line(error)}",
            file=former.database,
            hint="Publish everything, without a selection: `wellspring build audit publish`.",
        ) from error


def _same(work: _Work, version: Version) -> bool:
    """Whether a version is whole, holds just what would be copied, and says so of the same."""
    import duckdb

    from ingestion.warehouse import connect

    manifest = version.manifest()
    whole = all(
        (version.path / file["path"]).is_file()
        and (version.path / file["path"]).stat().st_size == file["bytes"]
        for file in manifest["files"]
    )
    known = {table["name"]: table["checksum"] for table in manifest["tables"]}
    comparable = manifest["duckdb_version"] == duckdb.__version__
    if manifest.get("withheld", {}) != dict(work.withheld):
        return False
    if not whole or not comparable or set(known) != {str(copy.relation) for copy in work.copies}:
        return False
    if work.made_from is not None and manifest.get("made_from") == work.made_from:
        # The name comes of the file's header: what is damaged behind it shows when it is opened.
        connect(work.settings, read_only=True).close()
        return True
    with _attached(work.settings, work.copies, work.former) as connection:
        return all(
            known[str(copy.relation)] == _checksum(work, connection, copy) for copy in work.copies
        )


def _checksum(work: _Work, connection: duckdb.DuckDBPyConnection, copy: _Copy) -> str:
    """The checksum of what would be copied, taken once for all versions it is compared with."""
    name = str(copy.relation)
    if name not in work.counted:
        work.counted[name] = _counted(connection, copy, copy.catalog)
    return work.counted[name].checksum


def _known(work: _Work, version: Version, held: Held | None = None) -> Published:
    """The result where a version of the same content is there already."""
    removed = remove_surplus(work.settings, work.history)
    size = version.database.stat().st_size
    return Published(version, _tables(version), size, work.missing, removed, held is None, held)


def _tables(version: Version) -> tuple[PublishedTable, ...]:
    return tuple(_table(stored) for stored in version.manifest()["tables"])


def _table(stored: Mapping[str, Any]) -> PublishedTable:
    # Versions that were made by an earlier release know neither columns nor keys.
    columns = tuple((name, kind) for name, kind in stored.get("columns", ()))
    keys = tuple(tuple(key) for key in stored.get("keys", ()))
    figures = (stored["name"], stored["rows"], stored["checksum"], stored["from_version"])
    return PublishedTable(*figures, columns, keys)


def _copy_table(connection: duckdb.DuckDBPyConnection, copy: _Copy) -> PublishedTable:
    relation = copy.relation
    here = f"{_NEW}.{_place(relation)}"
    connection.execute(f"create schema if not exists {_NEW}.{_name(relation.schema)}")
    with _existing(relation):
        connection.execute(
            f"create table {here} as select * from {copy.catalog}.{_place(relation)}"
        )
    _comment(connection, here, relation)
    return _counted(connection, copy, _NEW)


def _counted(connection: duckdb.DuckDBPyConnection, copy: _Copy, catalog: str) -> PublishedTable:
    """Counts a table and takes its checksum, where it lies now."""
    relation = copy.relation
    table = f"{catalog}.{_place(relation)}"
    with _existing(relation):
        rows, values = connection.execute(
            f"select count(*), coalesce(sum(hash(content)), 0) from {table} as content"
        ).fetchall()[0]
        columns = [row[:2] for row in connection.execute(f"describe {table}").fetchall()]
    shape = repr((columns, relation.description, sorted(relation.columns.items())))
    checksum = f"{int(values):x}-{sha256(shape.encode()).hexdigest()[:16]}"
    built = {name.lower() for name, _ in columns}
    keys = tuple(key for key in relation.keys if built.issuperset(key))
    described = tuple((name, kind) for name, kind in columns)
    return PublishedTable(str(relation), rows, checksum, copy.from_version, described, keys)


@contextmanager
def _existing(relation: Relation) -> Iterator[None]:
    """Says what to do where a relation does not exist."""
    import duckdb

    try:
        yield
    except duckdb.CatalogException as error:
        raise BuildFailed(
            f"{relation} is public but not in the warehouse: {first_line(error)}",
            hint=f"`wellspring build --select {relation.name}` makes it.",
        ) from error


def _comment(connection: duckdb.DuckDBPyConnection, table: str, relation: Relation) -> None:
    if relation.description:
        connection.execute(f"comment on table {table} is {_text(relation.description)}")
    built = {row[0] for row in connection.execute(f"describe {table}").fetchall()}
    for column, text in relation.columns.items():
        if column in built:
            connection.execute(f"comment on column {table}.{_name(column)} is {_text(text)}")


def _write_parquet(connection: duckdb.DuckDBPyConnection, folder: Path, relation: Relation) -> None:
    path = folder / _parquet(relation)
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(
        f"copy {_NEW}.{_place(relation)} to {_text(path)} "
        # Level 1 takes two thirds of the default's time and gives no larger files.
        "(format parquet, compression zstd, compression_level 1)"
    )


def _created_at(settings: Settings) -> str:
    """The present; just after the newest version where the clock has gone back behind it."""
    made = [str(version.manifest()["created_at"]) for version in all_versions(settings)[-1:]]
    if not made or made[0] < now():
        return now()
    after = datetime.fromisoformat(made[0]) + timedelta(milliseconds=1)
    return after.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_manifest(work: _Work, folder: Path, tables: Sequence[PublishedTable]) -> None:
    import duckdb

    parquet = {str(copy.relation): _parquet(copy.relation) for copy in work.copies}
    content: dict[str, Any] = {
        "version": work.run_id,
        "created_at": _created_at(work.settings),
        "git_revision": git_revision(work.settings.project_dir),
        "duckdb_version": duckdb.__version__,
        "withheld": dict(work.withheld),
        "made_from": work.made_from,
        "tables": [{**asdict(table), "parquet": parquet[table.name]} for table in tables],
        "files": [_file(folder, name) for name in (DATABASE, *parquet.values())],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    with path.open("rb") as handle:
        checksum = file_digest(handle, "sha256").hexdigest()
    return {"path": name, "bytes": path.stat().st_size, "sha256": checksum}


def _seal(settings: Settings, folder: Path, run_id: str) -> Version:
    """Makes the folder durable, then gives it its name."""
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        sync(Path(place))
    path = settings.published_dir / run_id
    failpoint("publish.synced")
    folder.rename(path)
    failpoint("publish.renamed")
    sync(settings.published_dir)
    return Version(run_id, path)


def _parquet(relation: Relation) -> str:
    return f"parquet/{relation.schema}/{relation.name}.parquet"


def _place(relation: Relation) -> str:
    return f"{_name(relation.schema)}.{_name(relation.name)}"


def _name(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _text(value: str | Path) -> str:
    doubled = str(value).replace("'", "''")
    return f"'{doubled}'"
