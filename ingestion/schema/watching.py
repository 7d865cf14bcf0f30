"""What an extraction tells the journal of its source: catalogs, readings, tables that went.

`database` -> catalog of each table ─┐
spool of a reading ──────────────────┴-> shape -> `Journal` -> what the contract refuses is raised

Tables are read side by side, so one at a time is looked at. Left out: files, streams and change
logs, whose columns are known when they are loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.databases.base import MissingRelation, Relation, Session
from ingestion.declarations import DatabaseTable, TableDeclaration
from ingestion.delta import DELETED, Delta, Spool, scan
from ingestion.errors import BadInput
from ingestion.evolution import TEXT, quoted
from ingestion.landing import normalise
from ingestion.schema.content import shape_of, with_content, with_types
from ingestion.schema.journal import Noted, read_journal
from ingestion.schema.renames import Side, Values, name_likeness
from ingestion.schema.shapes import Change, Shape, ShapeColumn
from ingestion.schema.words import tell
from ingestion.settings import Settings

if TYPE_CHECKING:
    from ingestion.declarations import SourceDeclaration

# So much of two tables' columns must be the same before one is taken for the other.
_SAME_COLUMNS = 0.8
_JSON = ("json", "jsonb")


class SchemaWatch:
    """The journal of a source while it is extracted.

    Args:
        declaration: The source.
        settings: The project's settings.

    Attributes:
        noted: What this extraction noted.
    """

    def __init__(self, declaration: SourceDeclaration, settings: Settings) -> None:
        self._declaration = declaration
        self._journal = read_journal(settings, declaration.name)
        self._catalogs: dict[str, Shape] = {}
        self._names: dict[str, list[str]] = {}
        self._renamed: set[str] = set()
        self._one_at_a_time = threading.Lock()
        self.noted: list[Noted] = []

    def save(self) -> None:
        """Notes which tables are new, and writes the journal."""
        declared = {
            table.database.origin or table.name
            for table in self._declaration.all_tables or self._declaration.tables
            if isinstance(table.ingest, DatabaseTable)
        }
        for schema, names in self._names.items():
            for name in self._journal.observe_relations(schema, names):
                if name not in declared | self._renamed:
                    self.noted += self._journal.observe_table(name, Change("table_added"))
        self._journal.save()

    # What a database tells

    def saw(self, session: Session, table: TableDeclaration, relation: Relation) -> None:
        """Takes the catalog's description of a table, before its declaration is held against it."""
        with self._one_at_a_time:
            self._catalogs[table.name] = _of_catalog(table.database, relation)
            self.noted += self._journal.observe_present(table.name)
            schema = table.database.schema_name
            if (schema or "") not in self._names:
                self._names[schema or ""] = session.relations(schema)

    def missed(self, session: Session, table: TableDeclaration, missing: MissingRelation) -> None:
        """Notes that a table is gone, or bears another name."""
        with self._one_at_a_time:
            former = self._journal.shape(table.name)
            if former is None:
                return
            schema = table.database.schema_name
            before = self._journal.relations(schema or "") or []
            fresh = [name for name in missing.known if name not in before]
            change = Change("table_lost")
            for name in fresh:
                found = session.describe(schema, name)
                evidence = _same_table(table, former, found)
                if evidence:
                    old = table.database.origin or table.name
                    change = Change("table_renamed", "", old, name, evidence)
                    self._renamed.add(name)
                    break
            self._names[schema or ""] = missing.known
            policy = table.ingest.contract
            self.noted += self._journal.observe_table(table.name, change, policy)

    # What any reading tells

    def read(self, table: TableDeclaration, delta: Delta, spool: Spool, is_whole: bool) -> None:
        """Compares what was read with the readings before.

        Args:
            table: The table.
            delta: What has landed of it.
            spool: What was read.
            is_whole: Whether that is all of the table.

        Raises:
            BadInput: The table's contract refuses a change.
        """
        rows = _rows(delta, spool.files)
        shape = self._shape(table, delta, spool, rows)
        if shape is None:
            return
        shape = replace(shape, is_empty=is_whole and rows == 0 and not delta.is_first)
        landed = Side("", {}) if delta.is_first else delta.side()
        share = _share_of(delta, landed)
        key = tuple(spool.key)

        def values() -> Values | None:
            if delta.is_first or not rows:
                return None
            now = Side(scan(spool.files), delta.describe(spool.files))
            return Values(delta.connection, landed, now, key)

        with self._one_at_a_time:
            noted = self._journal.observe(table, shape, share=share, values=values)
            self.noted += noted
        self._refuse(table, noted)

    def broken(self, table: TableDeclaration) -> None:
        """Notes what a catalog told of a table that could not be read."""
        with self._one_at_a_time:
            catalog = self._catalogs.get(table.name)
            if catalog is not None:
                self.noted += self._journal.observe(table, catalog)

    def _shape(
        self, table: TableDeclaration, delta: Delta, spool: Spool, rows: int
    ) -> Shape | None:
        catalog = self._catalogs.get(table.name)
        if catalog is not None:
            nested = [c.name for c in catalog.columns if c.native in _JSON]
            return with_content(catalog, delta.connection, scan(spool.files), nested)
        if not rows:
            return None
        types = {n: k for n, k in delta.describe(spool.files).items() if n != DELETED}
        shape = shape_of(types, is_certain=False, rows=rows)
        former = self._journal.shape(table.name)
        shape = with_types(shape, former, delta.connection, scan(spool.files))
        return with_content(shape, delta.connection, scan(spool.files), list(types))

    def _refuse(self, table: TableDeclaration, noted: Sequence[Noted]) -> None:
        refused = [entry for entry in noted if entry.status == "refused"]
        if not refused:
            return
        name = f"{self._declaration.name}.{table.name}"
        told = "; ".join(tell(entry.change) for entry in refused)
        raise BadInput(
            f"the contract is frozen, but the source has changed: {told}",
            hint=f"Nothing of this table is landed. `wellspring changes {name}` shows what depends "
            "on it and a patch of the declaration that allows it; `contract: evolve` takes it as "
            "it comes.",
            source=self._declaration.name,
            table=table.name,
        )


def _of_catalog(ingest: DatabaseTable, relation: Relation) -> Shape:
    """The shape that a catalog tells of, of those columns that are read."""
    columns = tuple(
        ShapeColumn(
            name=normalise(column.name),
            type=_duck(column.type),
            origin=column.name,
            native=f"{column.native} ({column.values})" if column.values else column.native,
            nullable=column.nullable,
            default=column.default,
        )
        for column in relation.columns
        if (not ingest.columns or column.name in ingest.columns)
        and column.name not in ingest.exclude_columns
    )
    return Shape(columns, tuple(normalise(name) for name in relation.primary_key))


def _duck(kind: str) -> str:
    return TEXT if kind == "varchar" else kind.upper().replace(", ", ",")


def _same_table(table: TableDeclaration, former: Shape, found: Relation) -> tuple[str, ...]:
    """Why a new table is one that is gone; empty if it is not."""
    before = {(column.name, column.type) for column in former.columns}
    now = {(c.name, c.type) for c in _of_catalog(table.database, found).columns}
    same = len(before & now)
    if same < _SAME_COLUMNS * max(len(before), len(now)):
        return ()
    likeness = name_likeness(table.database.origin or table.name, found.name)
    return (
        f"{same} of {len(before)} columns have the same name and type",
        f"the names are {likeness:.0%} alike",
        "it is new where the other is gone",
    )


def _rows(delta: Delta, files: Sequence[Path]) -> int:
    if not files:
        return 0
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in files)


def _share_of(delta: Delta, landed: Side) -> Callable[[str], float]:
    def share(name: str) -> float:
        if name not in landed.columns:
            return 0.0
        ((part,),) = delta.connection.execute(
            f"select coalesce(count({quoted(name)}) / nullif(count(*), 0), 0) from {landed.sql}"
        ).fetchall()
        return float(part)

    return share
