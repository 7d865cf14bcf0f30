"""What each message of the log means for the tables that are followed.

`Begin`, `Table`, `Change`, `Truncated` -> rows and marks of deletion in a `ChangeLoad`

- An update of a key is a deletion of the old key and a row of the new one.
- A TRUNCATE is a deletion of every key that is alive by landing and by the load so far.
- A table that looks otherwise than before is read again at an exact point of the log, for columns
  may have come with values of which the log tells nothing. Only a dropped column needs no reading.

Left out: transactions, of which the lander keeps track.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestion.cdc.pgoutput import Begin, Change, Table, Truncated
from ingestion.cdc.reading import Reading, TableReader
from ingestion.cdc.server import Structure
from ingestion.cdc.shape import Shape, shape_of
from ingestion.cdc.writing import ChangeLoad, Moment, TableWriter
from ingestion.databases.base import Column
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.landing import column_mapping

log = logging.getLogger(__name__)

Known = dict[str, tuple[int, tuple[tuple[str, int, int], ...]]]


class Types(Protocol):
    """What the server knows of the columns that its log speaks of."""

    def publish(self, structures: Sequence[Structure]) -> None:
        """Makes sure that the log tells of these tables."""

    def typed(self, columns: Sequence[tuple[str, int, int]]) -> list[Column]:
        """Columns with the types that reading the table gives them."""


@dataclass
class Followed:
    """A table of the log that is declared.

    Attributes:
        declaration: Its declaration.
        key: Names in raw of its key's columns.
        shape: How its rows are landed now.
    """

    declaration: TableDeclaration
    key: tuple[str, ...]
    shape: Shape


class Following:
    """The tables of one source, from one position of the log on.

    Args:
        declaration: The source.
        server: Asked for types.
        reader: Reads tables whole.
        known: How the tables looked that have landed: their number and columns.

    Attributes:
        known: The same, as of what was taken.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        server: Types,
        reader: TableReader,
        known: Mapping[str, tuple[int, tuple[tuple[str, int, int], ...]]],
    ) -> None:
        self._declaration = declaration
        self._server = server
        self._reader = reader
        self.known: Known = dict(known)
        self._places: dict[tuple[str, str], TableDeclaration] = {}
        self._structures: dict[str, Structure] = {}
        self._followed: dict[int, Followed] = {}
        self._readings: dict[str, Reading] = {}
        self._begin: Begin | None = None
        self._own: tuple[str, str, str | None] = ("", "", None)

    @property
    def furthest(self) -> int:
        """The last point at which a table was read that the log has not come to yet."""
        return max((reading.point for reading in self._readings.values()), default=0)

    # Tables

    def place(self, structures: Mapping[str, Structure]) -> None:
        """Takes note of where the declared tables are."""
        self._structures |= structures
        for table in self._declaration.all_tables:
            structure = structures.get(table.name)
            if structure is not None:
                self._places[(structure.schema, structure.name)] = table

    def due(
        self, structures: Mapping[str, Structure], beat: Callable[[], None] = lambda: None
    ) -> None:
        """Reads the tables whose rows the log alone does not tell.

        Args:
            structures: The tables as the catalog has them now.
            beat: Called every few seconds meanwhile.
        """
        self.place(structures)
        tables, first = [], []
        for table in self._declaration.all_tables:
            structure = structures.get(table.name)
            if structure is None or table.name in self._readings:
                continue
            known = self.known.get(table.name)
            if known is None or known[0] != structure.oid:
                first.append(table.name)
                tables.append(table.name)
                if known is not None:
                    log.warning(
                        "%s.%s: another table has taken its name; it is read whole",
                        self._declaration.name,
                        table.name,
                    )
            elif not set(structure.columns) <= set(known[1]):
                tables.append(table.name)
        if tables:
            self._readings |= self._reader.read(tables, first, beat)

    def look(self, beat: Callable[[], None]) -> None:
        """Looks whether the catalog has changed: the log tells only with the next change."""
        structures = self._reader.structures(self.known)
        news = {
            name: structure
            for name, structure in structures.items()
            if self.known.get(name, (0, ()))[0] != structure.oid
        }
        if news and not set(news) <= set(self._readings):
            self._server.publish(list(structures.values()))
        self.due(structures, beat)

    def table(self, message: Table, beat: Callable[[], None]) -> None:
        """A table that the log will speak of, as it looks from here on."""
        declared = self._places.get((message.schema, message.name))
        if declared is None:
            self._followed.pop(message.id, None)
            return
        logged = [column.name for column in message.columns]
        told = tuple((c.name, c.type_id, c.modifier) for c in message.columns)
        shape = shape_of(self._declaration.name, declared, logged, self._server.typed(told))
        key = column_mapping(declared.database.primary_key)
        self._followed[message.id] = Followed(declared, tuple(key.values()), shape)
        self._compare(declared.name, message.id, told, beat)

    def _compare(
        self,
        name: str,
        oid: int,
        told: tuple[tuple[str, int, int], ...],
        beat: Callable[[], None],
    ) -> None:
        """Reads the table again if it looks otherwise than what has landed."""
        known = self.known.get(name)
        if name in self._readings or known is None or known == (oid, told):
            return
        if known[0] == oid and set(told) <= set(known[1]):
            self.known[name] = (oid, told)
            return
        first = [name] if known[0] != oid else []
        self._readings |= self._reader.read([name], first, beat)

    # Changes

    def begin(self, message: Begin, load: ChangeLoad) -> None:
        """A transaction begins."""
        self.settle(message.lsn, load)
        self._begin = message
        self._own = Moment(message.lsn, message.committed_at, message.transaction).texts

    def settle(self, position: int, load: ChangeLoad) -> None:
        """Takes in the readings of tables whose point the log has come to."""
        for name in [n for n, reading in self._readings.items() if reading.point <= position]:
            reading = self._readings.pop(name)
            moment = Moment(reading.point, reading.moment, None)
            writer = load.table(name, reading.rows.key, reading.point)
            writer.compare(reading.rows, moment, "snapshot")
            for file in reading.rows.files:
                file.unlink(missing_ok=True)
            self.known[name] = (reading.structure.oid, reading.structure.columns)

    def _writer(self, number: int, load: ChangeLoad) -> tuple[Followed, TableWriter] | None:
        """Where rows of a table go; None if it is not ours, or all of it is still to be read."""
        followed = self._followed.get(number)
        if followed is None:
            return None
        name = followed.declaration.name
        reading = self._readings.get(name)
        if reading is not None and reading.is_first:
            return None
        assert self._begin is not None
        return followed, load.table(name, followed.key, self._begin.lsn)

    def change(self, message: Change, load: ChangeLoad) -> None:
        """A row was inserted, updated or deleted."""
        found = self._writer(message.table, load)
        if found is None:
            return
        followed, writer = found
        shape = followed.shape
        writer.begin(shape)
        writer.read += 1
        old, new = message.old, message.new
        if new is None:
            assert old is not None
            values, _ = shape.values(old, None)
            writer.add(values, (message.operation, *self._own, None), is_deleted=True)
            return
        if old is not None and shape.key_changed(old, new):
            values, _ = shape.values(old, None)
            writer.add(values, ("update", *self._own, None), is_deleted=True)
        plain = shape.plain(new)
        if plain is not None:
            writer.add(plain, (message.operation, *self._own, None), is_deleted=False)
            return
        values, untold = shape.values(new, old)
        told = json.dumps(untold, ensure_ascii=False) if untold else None
        writer.add(values, (message.operation, *self._own, told), is_deleted=False)

    def truncated(self, message: Truncated, load: ChangeLoad) -> None:
        """Tables were emptied."""
        assert self._begin is not None
        begin = self._begin
        moment = Moment(begin.lsn, begin.committed_at, begin.transaction)
        for number in message.tables:
            found = self._writer(number, load)
            if found is not None:
                found[1].read += 1
                found[1].mark_all(moment, "truncate")
