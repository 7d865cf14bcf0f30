"""Databases: what their catalog and their first rows say.

address -> logged in, one consistent view -> tables and views -> `Offer`: key by the catalog, by a
unique index or by the first rows; cursor by type, name and first rows

A row that is deleted at the source is found by sweeps, which need a key. Left out: reading them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from runner.add.evidence import Evidence, weigh
from runner.add.offers import Found, Listing, Offer, OfferedColumn, Place, Proposal

if TYPE_CHECKING:
    from ingestion.databases.browsing import Inspected, Listed

_NO_KEY = (
    "no key: equal rows count as one, a changed row is one more; declare primary_key if you know it"
)


@contextmanager
def look(place: Place, schema: str | None) -> Iterator[Found]:
    """Logs in and lists what is there; offers can be made until the end of the context.

    Args:
        place: The database.
        schema: Only this schema.

    Raises:
        SourceUnreachable: It does not answer or refuses the login.
        BadInput: There is nothing to read.
    """
    from ingestion.connections import Connection
    from ingestion.database import explained, open_database
    from ingestion.databases.browsing import browse
    from ingestion.declarations import SourceDeclaration

    connection = Connection(place.connection, place.url, place.options)
    asked = SourceDeclaration(
        place.connection, f"raw_{place.connection}", "database", place.connection, "", ()
    )
    database = open_database(connection, asked)
    with explained(database, asked, None), database.consistent_view():
        listed = browse(database, schema)
        if not listed:
            raise BadInput(
                f"{connection.safe_url} has no table that this user may read"
                + (f" in the schema {schema}" if schema else ""),
                hint="Check the address and --schema, or grant the user `select`.",
            )
        schemas = {one.schema for one in listed}
        only = next(iter(schemas)) if len(schemas) == 1 else None
        yield Found(
            _listings(database, listed, only),
            {"schema": only} if only else {},
            f"logged in to {connection.safe_url}",
        )


def _listings(database: Any, listed: list[Listed], only: str | None) -> list[Listing]:
    from ingestion.landing import normalise

    plain = [normalise(one.name) for one in listed]
    found = []
    for one, name in zip(listed, plain, strict=True):
        own = name
        if plain.count(name) > 1 and one.schema:
            own = f"{normalise(one.schema)}_{name}"
        label = one.name if only or not one.schema else one.label
        found.append(
            Listing(
                label,
                own,
                _size(one),
                "view" if one.is_view else "table",
                lambda one=one, own=own: _offer(database, one, own, only),  # type: ignore[misc]
            )
        )
    return found


def _size(listed: Listed) -> str:
    if listed.rows is None:
        return "not counted"
    about = "about " if listed.is_estimate else ""
    return f"{about}{listed.rows:,} row{'' if listed.rows == 1 else 's'}"


def _offer(database: Any, listed: Listed, name: str, only: str | None) -> Offer:
    from ingestion.databases.browsing import FIRST_ROWS, inspect
    from ingestion.landing import column_mapping

    found = inspect(database, listed)
    native = {column.name: column for column in found.relation.columns}
    names = column_mapping(list(native), table=name)
    key = _key_by_catalog(found)
    evidence = weigh(
        name,
        {column: native[column].type for column in found.names},
        found.rows,
        is_whole=len(found.rows) < FIRST_ROWS,
        wanted_key=key.columns if key else (),
    )
    key = key or evidence.key
    ingest: dict[str, Any] = {}
    if listed.name != name:
        ingest["from"] = listed.name
    if listed.schema and not only:
        ingest["schema"] = listed.schema
    if evidence.cursor:
        ingest["window"] = "1 day"
    if key and not listed.is_view:
        ingest["deletes"] = "sweep"
    what = "view" if listed.is_view else "table"
    return Offer(
        name=name,
        description=_described(listed, what),
        columns=tuple(_columns(found, names, key, evidence)),
        ingest=ingest,
        key=key,
        cursor=evidence.cursor,
        notes=tuple(_notes(found, key)),
    )


def _described(listed: Listed, what: str) -> str:
    told = listed.comment.strip().rstrip(".")
    return f"One row per row of the {what} `{listed.label}`{f': {told}' if told else ''}."


def _key_by_catalog(found: Inspected) -> Proposal | None:
    if found.relation.primary_key:
        return Proposal(found.relation.primary_key, "primary key of the catalog")
    if found.unique:
        return Proposal(found.unique[0], "unique index of the catalog, of columns never empty")
    return None


def _columns(
    found: Inspected, names: Mapping[str, str], key: Proposal | None, evidence: Evidence
) -> Iterator[OfferedColumn]:
    for column in found.relation.columns:
        kind = evidence.types.get(column.name, column.type)
        said = found.comments.get(column.name, "").strip().rstrip(".")
        told = said or f"Column `{column.name}` of the origin"
        native = f" ({column.native})" if column.native and not said else ""
        part = ""
        if key and column.name in key.columns:
            part = ", the key" if len(key.columns) == 1 else ", part of the key"
        if evidence.cursor and column.name in evidence.cursor.columns:
            part += ", the cursor"
        yield OfferedColumn(names[column.name], _sql_type(kind), f"{told}{native}{part}.")


def _sql_type(kind: str) -> str:
    """The type as the declarations of this project write it."""
    return "string" if kind == "varchar" else kind


def _notes(found: Inspected, key: Proposal | None) -> Iterator[str]:
    if key is None:
        yield _NO_KEY
    if found.why_no_rows:
        yield f"its rows could not be looked at: {found.why_no_rows}"
