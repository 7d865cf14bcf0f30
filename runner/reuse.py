"""What of the current version the next one takes over as bytes.

current version -> tables of the same content -> its DuckDB file copied, in which what differs is
replaced -> their Parquet files linked

Where the warehouse has not changed by a byte since a version was made of the same models, that is
known without reading a table. A version never changes, so two of them may share a Parquet file;
each file is read against its checksum first, so that damage is not handed on. Left out: a version
whose DuckDB file holds much that is free, or of which less than half the rows stay: then all is
written afresh, and compact.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.failpoints import failpoint
from runner.fingerprint import fingerprint
from runner.versions import DATABASE, Version

if TYPE_CHECKING:
    import duckdb

    from runner.project import Relation

_BLOCK = 2**20
# The tables that come next fill free blocks of a file; with more of them than this it is too loose.
_FREE_SHARE = 1 / 3


def made_from(
    warehouse: Path, parts: Sequence[tuple[Relation, str]], withheld: Mapping[str, str]
) -> str | None:
    """A name for all that a version comes of, told without reading a table.

    Args:
        warehouse: The warehouse file.
        parts: What is published, and where each of it comes from.
        withheld: Why tables keep their last good version.

    Returns:
        The name; None if the state of the warehouse cannot be named.
    """
    state = fingerprint(warehouse)
    if state is None:
        return None
    told = [
        [
            str(relation),
            relation.description,
            sorted(relation.columns.items()),
            relation.keys,
            place,
        ]
        for relation, place in parts
    ]
    content = json.dumps([state, told, sorted(withheld.items())])
    return sha256(content.encode()).hexdigest()


def is_worth_it(version: Version | None, unchanged: Collection[str], total_rows: int) -> bool:
    """Whether enough of a version stays for its DuckDB file to be the next one's beginning.

    Args:
        version: The current version.
        unchanged: Names of the tables that stay.
        total_rows: Rows of all tables of the version to come.
    """
    if version is None or not unchanged:
        return False
    rows = {table["name"]: table["rows"] for table in version.manifest()["tables"]}
    return bool(2 * sum(rows[name] for name in unchanged) >= total_rows)


def begin_from(
    connection: duckdb.DuckDBPyConnection,
    version: Version | None,
    file: Path,
    catalog: str,
    unchanged: Collection[str],
) -> bool:
    """Attaches a copy of a version's DuckDB file that holds nothing but the unchanged tables.

    Args:
        connection: What to attach it to.
        version: The version to begin from.
        file: The copy.
        catalog: Name to attach it under.
        unchanged: Schema and name of the tables that stay.

    Returns:
        Whether it could be: False, and no file, where the version is damaged or too loose.
    """
    if version is None or not _copied(version, file):
        file.unlink(missing_ok=True)
        return False
    failpoint("publish.base_copied")
    connection.execute(f"attach '{str(file).replace(chr(39), chr(39) * 2)}' as {catalog}")
    free, total = connection.execute(
        "select free_blocks, total_blocks from pragma_database_size() where database_name = ?",
        [catalog],
    ).fetchall()[0]
    if free > _FREE_SHARE * total:
        connection.execute(f"detach {catalog}")
        file.unlink()
        return False
    _drop_others(connection, catalog, unchanged)
    return True


def take_over(version: Version, name: str, folder: Path) -> bool:
    """Gives a version's file to another version as well: linked, or copied where that cannot be.

    Args:
        version: The version that has it.
        name: Its path within the version.
        folder: The folder of the other version.

    Returns:
        Whether it is the file that was sealed; nothing is done with another.
    """
    sealed = {file["path"]: file["sha256"] for file in version.manifest()["files"]}
    found, place = version.path / name, folder / name
    with found.open("rb") as handle:
        if file_digest(handle, "sha256").hexdigest() != sealed.get(name):
            return False
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(found, place)
    except OSError:
        # A file system without links, or with no further one for this file.
        shutil.copyfile(found, place)
    return True


def _copied(version: Version, file: Path) -> bool:
    """Copies a version's DuckDB file; returns whether it was the one that was sealed."""
    sealed = {entry["path"]: entry["sha256"] for entry in version.manifest()["files"]}
    digest = sha256()
    with version.database.open("rb") as source, file.open("wb") as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
    return bool(digest.hexdigest() == sealed[DATABASE])


def _drop_others(
    connection: duckdb.DuckDBPyConnection, catalog: str, unchanged: Collection[str]
) -> None:
    """Drops all tables but these, and the schemas that are empty then."""
    tables = connection.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = ?", [catalog]
    ).fetchall()
    kept = {schema for schema, table in tables if f"{schema}.{table}" in unchanged}
    for schema, table in tables:
        if f"{schema}.{table}" not in unchanged:
            connection.execute(f"drop table {catalog}.{_name(schema)}.{_name(table)}")
    for schema in {schema for schema, _ in tables} - kept - {"main"}:
        connection.execute(f"drop schema {catalog}.{_name(schema)}")


def _name(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
