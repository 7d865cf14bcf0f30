"""Decodes pgoutput, the messages in which PostgreSQL tells its log (protocol version 1).

bytes -> `decode` -> `Begin`, `Table`, `Change`, `Truncated`, `Committed`; None for other messages

Values stay the texts that PostgreSQL wrote. Left out: what the changes mean for a row in landing,
and the options of later versions (transactions told before they end, two phases), which would bring
changes out of the order of commits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

# PostgreSQL counts microseconds from 2000-01-01.
_EPOCH_SHIFT = 946_684_800_000_000
_BEGIN = struct.Struct(">qqi")
_COMMIT = struct.Struct(">Bqqq")
_COLUMN_END = struct.Struct(">Ii")
_ID = struct.Struct(">I")
_SHORT = struct.Struct(">H")


class Unchanged:
    """Stands for a large value that an update left alone and that the log therefore lacks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()
Value = str | Unchanged | None
Row = list[Value]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins; all of it follows.

    Attributes:
        lsn: Where its commit stands in the log.
        committed_at: When it was committed, in microseconds since 1970.
        transaction: Its number.
    """

    lsn: int
    committed_at: int
    transaction: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction is over.

    Attributes:
        lsn: Where its commit stands in the log.
        end_lsn: The position behind it, from which to read on.
    """

    lsn: int
    end_lsn: int


@dataclass(frozen=True, slots=True)
class LogColumn:
    """A column as the log tells it.

    Attributes:
        name: Its name.
        type_id: PostgreSQL's number of its type.
        modifier: The type's modifier; -1 for none.
        is_key: Whether it is part of the replica identity.
    """

    name: str
    type_id: int
    modifier: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Table:
    """What a table looks like from here on.

    Attributes:
        id: PostgreSQL's number of the table, which changes refer to.
        schema: Its schema.
        name: Its name.
        identity: Replica identity: `d` (primary key), `n` (nothing), `f` (full), `i` (an index).
        columns: Its columns.
    """

    id: int
    schema: str
    name: str
    identity: str
    columns: tuple[LogColumn, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One row changed.

    Attributes:
        table: Number of the table.
        operation: What happened.
        old: The row before: all of it, or only its identity; None if the log does not tell.
        is_whole: Whether `old` is all of the row.
        new: The row after; None if it was deleted.
    """

    table: int
    operation: Literal["insert", "update", "delete"]
    old: Row | None
    is_whole: bool
    new: Row | None


@dataclass(frozen=True, slots=True)
class Truncated:
    """Tables were emptied.

    Attributes:
        tables: Their numbers.
    """

    tables: tuple[int, ...]


Message = Begin | Committed | Table | Change | Truncated


def decode(data: bytes) -> Message | None:
    """One message of pgoutput; None for types, origins and messages of applications.

    Raises:
        ValueError: It is none that this version of the protocol knows.
    """
    match data[0]:
        case 0x49:  # I
            new, _ = _row(data, 6)
            return Change(_ID.unpack_from(data, 1)[0], "insert", None, False, new)
        case 0x55:  # U
            return _update(data)
        case 0x44:  # D
            old, _ = _row(data, 6)
            return Change(_ID.unpack_from(data, 1)[0], "delete", old, data[5] == 0x4F, None)
        case 0x42:  # B
            lsn, moment, transaction = _BEGIN.unpack_from(data, 1)
            return Begin(lsn, moment + _EPOCH_SHIFT, transaction & 0xFFFFFFFF)
        case 0x43:  # C
            _, lsn, end_lsn, _ = _COMMIT.unpack_from(data, 1)
            return Committed(lsn, end_lsn)
        case 0x52:  # R
            return _table(data)
        case 0x54:  # T
            (count,) = _ID.unpack_from(data, 1)
            return Truncated(struct.unpack_from(f">{count}I", data, 6))
        case 0x59 | 0x4F | 0x4D:  # Y, O, M
            return None
        case other:
            raise ValueError(f"the log holds a message of the unknown kind {chr(other)!r}")


def _update(data: bytes) -> Change:
    (table,) = _ID.unpack_from(data, 1)
    place, old, is_whole = 5, None, False
    if data[place] != 0x4E:  # N: what comes before it is the old row
        is_whole = data[place] == 0x4F
        old, place = _row(data, place + 1)
    new, _ = _row(data, place + 1)
    return Change(table, "update", old, is_whole, new)


def _row(data: bytes, place: int) -> tuple[Row, int]:
    """The values of a row, and the place behind it."""
    count = (data[place] << 8) | data[place + 1]
    place += 2
    values: Row = []
    take = values.append
    for _ in range(count):
        kind = data[place]
        place += 1
        if kind == 0x74:  # t: a text
            end = place + 4 + int.from_bytes(data[place : place + 4], "big")
            take(data[place + 4 : end].decode())
            place = end
        elif kind == 0x6E:  # n: NULL
            take(None)
        elif kind == 0x75:  # u: unchanged
            take(UNCHANGED)
        else:
            raise ValueError(f"the log holds a value of the unknown kind {chr(kind)!r}")
    return values, place


def _table(data: bytes) -> Table:
    (number,) = _ID.unpack_from(data, 1)
    schema, place = _text(data, 5)
    name, place = _text(data, place)
    identity = chr(data[place])
    (count,) = _SHORT.unpack_from(data, place + 1)
    place += 3
    columns = []
    for _ in range(count):
        is_key = bool(data[place] & 1)
        column, place = _text(data, place + 1)
        type_id, modifier = _COLUMN_END.unpack_from(data, place)
        place += 8
        columns.append(LogColumn(column, type_id, modifier, is_key))
    # The log writes the catalog's own schema as an empty text.
    return Table(number, schema or "pg_catalog", name, identity, tuple(columns))


def _text(data: bytes, place: int) -> tuple[str, int]:
    end = data.index(0, place)
    return data[place:end].decode(), end + 1


def lsn_number(text: str) -> int:
    """A position as PostgreSQL writes it, `16/B374D848`, as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def lsn_text(lsn: int) -> str:
    """A position as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def sortable(lsn: int) -> str:
    """A position as a text that sorts as the positions do: `000000160B374D84`."""
    return f"{lsn:016X}"
