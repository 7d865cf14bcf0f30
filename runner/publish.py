"""Makes a published version of what was audited, and hands it to readers in one step.

audited warehouse -> `<run id>.tmp/` (DuckDB file, Parquet, manifest) -> fsync -> renamed
`<run id>/` -> `current` swapped -> surplus versions removed

A version that would equal the current one table by table is not made: the current one stays, and
the versions that are kept remain different ones. A kill at any point leaves the former version
current; the next publish clears what lies about. Only models that passed an audit of this very
warehouse content are copied; with a selection, the others are carried over from the current
version, so that no reader ever meets an untested number. Left out: views (readers get base tables
only) and the choice of what is public, which the models make.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, disk_full, disk_full_error, first_line
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.errors import AuditFailed, BuildFailed
from runner.fingerprint import fingerprint
from runner.history import History, git_revision, now
from runner.project import Relation
from runner.versions import (
    DATABASE,
    MANIFEST,
    UNFINISHED,
    Version,
    current_version,
    leftovers,
    make_current,
    remove,
    surplus,
    sync_folder,
)

if TYPE_CHECKING:
    import duckdb

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
    """

    name: str
    rows: int
    checksum: str
    from_version: str


@dataclass(frozen=True)
class Published:
    """What a publish did.

    Attributes:
        version: The version that is current now.
        tables: Its tables.
        bytes: Size of its DuckDB file.
        missing: Public models that are neither audited now nor in the former version.
        removed: Versions that were removed because newer ones suffice.
        unchanged: Whether the version was there before, because all of it is the same.
    """

    version: Version
    tables: tuple[PublishedTable, ...]
    bytes: int
    missing: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: bool = False

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


def publish(
    settings: Settings,
    history: History,
    run_id: str,
    relations: Sequence[Relation],
    selected: Collection[str] | None = None,
    on_table: OnTable | None = None,
) -> Published:
    """Publishes the audited relations of the warehouse.

    Args:
        settings: The project's settings.
        history: Where audits and versions are noted.
        run_id: The run, whose name the version gets.
        relations: What readers get.
        selected: Unique ids of the models to take from the warehouse; None for all.
        on_table: Called as `on_table(done, total, name)` for each table.

    Raises:
        AuditFailed: No audit vouches for the warehouse as it is.
        BuildFailed: A public relation is not in the warehouse.
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
    if former is not None and _same(settings, former, copies):
        return _unchanged(settings, history, former, missing)
    version, tables = _make(settings, history, run_id, copies, former, on_table)
    make_current(settings, version)
    failpoint("publish.swapped")
    history.mark_published(run_id)
    failpoint("publish.noted")
    removed = _remove_surplus(settings, history)
    return Published(version, tables, version.database.stat().st_size, missing, removed)


def _make(
    settings: Settings,
    history: History,
    run_id: str,
    copies: Sequence[_Copy],
    former: Version | None,
    on_table: OnTable | None,
) -> tuple[Version, tuple[PublishedTable, ...]]:
    """Makes a complete version that is not current yet; leaves nothing behind if it cannot."""
    folder = settings.published_dir / f"{run_id}{UNFINISHED}"
    try:
        folder.mkdir(parents=True)
        tables = _write_database(settings, folder, copies, former, on_table)
        failpoint("publish.tables_copied")
        _write_manifest(settings, folder, run_id, tables, copies)
        failpoint("publish.manifest_written")
        size = (folder / DATABASE).stat().st_size
        rows = sum(table.rows for table in tables)
        # Noted before the folder bears its name: `tidy` knows by it what never became current.
        history.add_version(run_id, len(tables), rows, size, git_revision(settings.project_dir))
        failpoint("publish.version_noted")
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


def tidy(settings: Settings, history: History) -> None:
    """Clears what a killed publish left behind and notes a swap that it could not note itself."""
    for path in leftovers(settings):
        remove(path)
    current = current_version(settings)
    if current is not None:
        history.mark_published(current.name)
    for row in history.rows(
        "select version from published_versions where published_at is null and removed_at is null"
    ):
        path = settings.published_dir / row["version"]
        if path.exists():
            remove(path)
        history.mark_removed(row["version"])


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


def _write_database(
    settings: Settings,
    folder: Path,
    copies: Sequence[_Copy],
    former: Version | None,
    on_table: OnTable | None,
) -> list[PublishedTable]:
    with _attached(settings, copies, former) as connection:
        connection.execute(f"attach {_text(folder / DATABASE)} as {_NEW}")
        tables = []
        for number, copy in enumerate(copies):
            if on_table is not None:
                on_table(number, len(copies), str(copy.relation))
            tables.append(_copy_table(connection, copy))
            failpoint("publish.table_copied")
            _write_parquet(connection, folder, copy.relation)
        connection.execute(f"checkpoint {_NEW}")
        connection.execute(f"detach {_NEW}")
    return tables


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


def _same(settings: Settings, former: Version, copies: Sequence[_Copy]) -> bool:
    """Whether the former version is whole and holds just what would be copied."""
    import duckdb

    manifest = former.manifest()
    whole = all(
        (former.path / file["path"]).is_file()
        and (former.path / file["path"]).stat().st_size == file["bytes"]
        for file in manifest["files"]
    )
    known = {table["name"]: table["checksum"] for table in manifest["tables"]}
    comparable = manifest["duckdb_version"] == duckdb.__version__
    if not whole or not comparable or set(known) != {str(copy.relation) for copy in copies}:
        return False
    with _attached(settings, copies, former) as connection:
        return all(
            known[str(copy.relation)] == _counted(connection, copy, copy.catalog).checksum
            for copy in copies
        )


def _unchanged(
    settings: Settings, history: History, former: Version, missing: tuple[str, ...]
) -> Published:
    names = ("name", "rows", "checksum", "from_version")
    stored = former.manifest()["tables"]
    tables = tuple(PublishedTable(**{name: table[name] for name in names}) for table in stored)
    removed = _remove_surplus(settings, history)
    size = former.database.stat().st_size
    return Published(former, tables, size, missing, removed, unchanged=True)


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
    return PublishedTable(str(relation), rows, checksum, copy.from_version)


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


def _write_manifest(
    settings: Settings,
    folder: Path,
    run_id: str,
    tables: Sequence[PublishedTable],
    copies: Sequence[_Copy],
) -> None:
    import duckdb

    parquet = {str(copy.relation): _parquet(copy.relation) for copy in copies}
    content: dict[str, Any] = {
        "version": run_id,
        "created_at": now(),
        "git_revision": git_revision(settings.project_dir),
        "duckdb_version": duckdb.__version__,
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
        sync_folder(Path(place))
    path = settings.published_dir / run_id
    failpoint("publish.synced")
    folder.rename(path)
    failpoint("publish.sealed")
    sync_folder(settings.published_dir)
    return Version(run_id, path)


def _remove_surplus(settings: Settings, history: History) -> tuple[str, ...]:
    removed = surplus(settings, settings.publish.keep)
    for version in removed:
        remove(version.path)
        failpoint("publish.surplus_removed")
        history.mark_removed(version.name)
    return tuple(version.name for version in removed)


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
