"""What MariaDB's log means for the tables that are followed.

rows -> rows and marks of deletion; TRUNCATE -> marks; any other statement -> tables are read again

The log tells rows as such and changes of tables as statements. Whatever a statement may have done
to a followed table, reading it at an exact point of the log finds; what differs lands there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ingestion.cdc.binlog import RowsOf, Statement
from ingestion.cdc.binlog_values import check_tellable
from ingestion.cdc.following import Followed, Following, Known, Types
from ingestion.cdc.pgoutput import Change
from ingestion.cdc.reading import TableReader
from ingestion.cdc.shape import Shape, shape_of
from ingestion.cdc.writing import ChangeLoad, Moment
from ingestion.databases.base import Column
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.landing import column_mapping

log = logging.getLogger(__name__)

_COMMENT = re.compile(r"/\*(?!M?!).*?\*/", re.DOTALL)
_NAME = r"(?:`(?:[^`]|``)+`|[\w$]+)"
_TRUNCATE = re.compile(
    rf"truncate\s+(?:table\s+)?(?:({_NAME})\s*\.\s*)?({_NAME})\s*(?:wait\s+\d+|nowait)?\s*;?\s*$",
    re.IGNORECASE,
)
# Statements that leave the rows of tables alone.
_HARMLESS = re.compile(
    r"(begin|savepoint|xa\s+(start|end)|grant|revoke|set\s|analyze|optimize|flush|#|"
    r"(create|drop)\s+temporary|"
    r"(create(\s+or\s+replace)?|alter|drop)\s+(definer\s*=\s*\S+\s+)?"
    r"(aggregate\s+|unique\s+|fulltext\s+|spatial\s+|algorithm\s*=\s*\w+\s+)*"
    r"(sql\s+security\s+\w+\s+)?(user|role|view|trigger|procedure|function|event|index)\b)",
    re.IGNORECASE,
)
# Statements that may change rows of any table, without its name in them.
_SWEEPING = re.compile(
    r"(insert|update|delete|replace|load|call|do|select|with|rollback|xa|"
    r"(drop|create|create\s+or\s+replace)\s+(database|schema))\b",
    re.IGNORECASE,
)


class BinlogFollowing(Following):
    """The tables of one source, from one position of MariaDB's log on.

    Args:
        declaration: The source.
        server: The database.
        reader: Reads tables whole.
        known: How the tables looked that have landed.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        server: Types,
        reader: TableReader,
        known: Mapping[str, tuple[int, tuple[tuple[str, int, int], ...]]],
    ) -> None:
        super().__init__(declaration, server, reader, known)
        self._numbers: dict[tuple[str, int], int] = {}

    @property
    def settled(self) -> Known:
        """How the tables look whose state is in what has landed; the others must be read."""
        return {name: told for name, told in self.known.items() if name not in self._readings}

    @property
    def is_settled(self) -> bool:
        """Whether no table waits for its reading's point."""
        return not self._readings

    def rows(self, event: RowsOf, load: ChangeLoad, beat: Callable[[], None]) -> None:
        """Rows were inserted, updated or deleted."""
        declared = self._places.get((event.schema, event.table))
        if declared is None:
            return
        if event.layout is None:
            self.read_again([declared.name], beat, "the log does not tell its rows whole")
            return
        # The log keeps its layouts, so that no other gets the number of one.
        place = (declared.name, id(event.layout))
        number = self._numbers.setdefault(place, len(self._numbers))
        if number not in self._followed:
            columns = event.layout.columns
            key = tuple(column_mapping(declared.database.primary_key).values())
            shape = self._shape(declared, [replace(c, select=None) for c in columns])
            self._followed[number] = Followed(declared, key, shape)
        rows = iter(event.rows)
        for row in rows:
            match event.operation:
                case "insert":
                    self.change(Change(number, "insert", None, False, list(row)), load)
                case "update":
                    self.change(Change(number, "update", list(row), True, list(next(rows))), load)
                case _:
                    self.change(Change(number, "delete", list(row), True, None), load)

    def _shape(self, declared: TableDeclaration, columns: list[Column]) -> Shape:
        shape = shape_of(self._declaration.name, declared, [c.name for c in columns], columns)
        structure = self._structures.get(declared.name)
        untold = structure.untold if structure else ()
        kept = [
            (place, column)
            for place, column in zip(shape.places, shape.columns, strict=True)
            if column.name not in untold
        ]
        check_tellable([column for _, column in kept])
        return replace(
            shape,
            columns=tuple(column for _, column in kept),
            places=tuple(place for place, _ in kept),
            names={name: raw for name, raw in shape.names.items() if name not in untold},
        )

    def statement(self, event: Statement, load: ChangeLoad, beat: Callable[[], None]) -> None:
        """A statement was executed."""
        text = _COMMENT.sub(" ", event.text).strip()
        emptied = _TRUNCATE.match(text)
        if emptied:
            schema = _bare(emptied[1]) if emptied[1] else event.schema
            self._truncate(schema, _bare(emptied[2]), load)
            return
        if _HARMLESS.match(text):
            return
        shown = " ".join(text.split()[:3])
        if _SWEEPING.match(text):
            self.read_again(self._places_by_name(), beat, shown)
            return
        named = [
            table.name
            for (_, name), table in self._places.items()
            if re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", text, re.IGNORECASE)
        ]
        self.read_again(named, beat, shown)

    def _places_by_name(self) -> list[str]:
        return [table.name for table in self._places.values()]

    def _truncate(self, schema: str, name: str, load: ChangeLoad) -> None:
        declared = self._places.get((schema, name))
        if declared is None:
            return
        reading = self._readings.get(declared.name)
        if reading is not None and reading.is_first:
            return
        assert self._begin is not None
        begin = self._begin
        key = tuple(column_mapping(declared.database.primary_key).values())
        writer = load.table(declared.name, key, begin.lsn)
        writer.read += 1
        moment = Moment(begin.lsn, begin.committed_at, begin.transaction)
        writer.mark_all(moment, "truncate")

    def read_again(self, names: Iterable[str], beat: Callable[[], None], why: str) -> None:
        """Reads tables again, but for those whose reading the log has not come to yet.

        Args:
            names: The tables.
            beat: Called every few seconds meanwhile.
            why: What the log tells, for people.
        """
        wanted = [name for name in names if name not in self._readings]
        if not wanted:
            return
        log.info("%s: %s: reading again", self._declaration.name, why)
        structures = self._reader.structures({**self.known, **self._readings})
        self.place(structures)
        there = [name for name in wanted if name in structures]
        if there:
            first = [name for name in there if name not in self.known]
            self._readings |= self._reader.read(there, first, beat)


def _bare(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name
