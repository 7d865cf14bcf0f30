"""What a load shows the journal of its source: the columns of files, messages and change logs.

staged rows + the raw table before them -> shape -> `Journal`, written once the load is committed

Only loads that are newer than what the journal knows are looked at, so a rebuild or a replay notes
nothing twice. Left out: databases, APIs and Python sources, which are looked at while they are
extracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from ingestion.cdc.shape import OWN_COLUMNS
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.evolution import quoted
from ingestion.landing import column_mapping
from ingestion.messages import ENVELOPE
from ingestion.schema.content import shape_of, with_content, with_types
from ingestion.schema.journal import Noted, read_journal
from ingestion.schema.renames import Side, Values
from ingestion.schema.shapes import Change
from ingestion.schema.words import tell
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from ingestion.stage import Relation

# Readers whose files name all their columns.
_CERTAIN = ("csv", "parquet")
_RECORDS = ("json", "ndjson", "xml", "mail", "text")
_WATCHED = ("files", "stream", "cdc")


class LoadWatch:
    """The journal of a source while some of its loads are loaded.

    Args:
        declaration: The source.
        settings: The project's settings.
        connection: The warehouse.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        settings: Settings,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._declaration = declaration
        self._connection = connection
        self._is_watched = declaration.kind in _WATCHED
        self._journal = read_journal(settings, declaration.name)
        # The newest load that others have looked at.
        self._newest: dict[str, str] = {}
        # What was looked at last of a table, in this transaction.
        self._before: dict[str, Side] = {}
        self.noted: list[Noted] = []

    def look(self, table: str, relation: Relation, raw: Side) -> list[Change]:
        """Compares the rows to insert with those before.

        Args:
            table: Name of the table.
            relation: What is about to be inserted.
            raw: The raw table as it is before.

        Returns:
            What its contract refuses.
        """
        if not self._is_watched or not relation.sql:
            return []
        newest = max(counted.due.load_id for counted in relation.files)
        declared = self._declaration.table(table)
        now = _side(relation)
        rows = sum(counted.loaded for counted in relation.files)
        is_certain = self._names_all(declared, relation)
        shape = shape_of(now.columns, is_certain=is_certain, rows=rows)
        shape = with_types(shape, self._journal.shape(table), self._connection, now.sql)
        if newest <= self._newest.setdefault(table, self._journal.newest(table)):
            return self._journal.judge(declared, shape)
        if self._declaration.kind != "cdc":
            shape = with_content(shape, self._connection, now.sql, list(now.columns))
        before = self._before.get(table, raw)
        self._before[table] = now
        named = column_mapping(declared.ingest.primary_key).values()
        due = relation.files[0].due
        noted = self._journal.observe(
            declared,
            shape,
            share=partial(self._share, before),
            values=lambda: Values(self._connection, before, now, list(named)),
            since=_moment(due.load_id),
            place=due.origin_name or due.file,
            newest=newest,
        )
        self.noted += noted
        return [entry.change for entry in noted if entry.status == "refused"]

    def _share(self, before: Side, name: str) -> float:
        """Part of the rows before that have a value in a column."""
        if name not in before.columns:
            return 0.0
        found = self._connection.execute(
            f"select coalesce(count({quoted(name)}) / nullif(count(*), 0), 0) from {before.sql}"
        ).fetchall()
        return float(found[0][0])

    def save(self) -> None:
        """Writes the journal; call it once what was looked at is committed."""
        self._journal.save()

    def _names_all(self, table: TableDeclaration, relation: Relation) -> bool:
        """Whether what is inserted names all columns, as records of JSON or XML do not."""
        if self._declaration.kind != "files":
            return self._declaration.kind == "cdc"
        files = [counted.due for counted in relation.files]
        return all(
            due.reader in _CERTAIN and _format(table, due.origin_name or "") not in _RECORDS
            for due in files
        )


def _side(relation: Relation) -> Side:
    """Rows to insert, without the columns that are ours."""
    own = {**ENVELOPE, **OWN_COLUMNS}
    columns = {name: kind for name, kind in relation.columns.items() if name not in own}
    return Side(f"({relation.sql}) as data", columns)


def _format(table: TableDeclaration, name: str) -> str:
    """The declared format of a file, or the suffixes that tell it."""
    if table.files.format is not None:
        return table.files.format
    return next((part for part in _RECORDS if f".{part}" in name.lower()), "")


def _moment(load_id: str) -> str:
    moment = datetime.fromtimestamp(float(load_id), UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def refusal(changes: Sequence[Change]) -> str:
    """What a contract refuses, in words."""
    told = "; ".join(map(tell, changes))
    return f"the source {told}" if told else ""
