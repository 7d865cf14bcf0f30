"""Values of MariaDB's log as the texts that the server itself would write.

table map -> `LogTable`: names, types, decoders; bytes of a row event -> rows of texts

The library reads events and what they say of columns. Values are decoded here, because a date of
zeros, a negative time or a padded BINARY would not survive its Python types.
Left out: what an event means, which `binlog` knows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ingestion.databases.base import Column
from ingestion.databases.mysql import typed_column

Decoder = Callable[[bytes, int], tuple[str, int]]
Row = list[str | None]

_TINY, _SHORT, _LONG, _FLOAT, _DOUBLE, _LONGLONG, _INT24 = 1, 2, 3, 4, 5, 8, 9
_DATE, _YEAR, _VARCHAR, _BIT = 10, 13, 15, 16
_TIMESTAMP2, _DATETIME2, _TIME2, _DECIMAL, _ENUM, _SET = 17, 18, 19, 246, 247, 248
_BLOB, _VAR_STRING, _STRING, _GEOMETRY = 252, 253, 254, 255
_INTEGERS = {
    _TINY: ("tinyint", 1),
    _SHORT: ("smallint", 2),
    _INT24: ("mediumint", 3),
    _LONG: ("int", 4),
    _LONGLONG: ("bigint", 8),
}
# Bytes that hold so many decimal digits.
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
# The library's names of character sets.
_ENCODINGS = {
    "utf8": "utf-8",
    "utf8mb3": "utf-8",
    "utf8mb4": "utf-8",
    "ascii": "ascii",
    "latin1": "cp1252",
    "cp1252": "cp1252",
}
_OPAQUE = "?"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Undecodable(Exception):
    """A column whose values cannot be told from the log.

    Args:
        column: Its name.
        why: What it is.
    """

    def __init__(self, column: str, why: str) -> None:
        super().__init__(f"{column}: {why}")
        self.column = column


@dataclass(frozen=True)
class LogTable:
    """A table as the log describes it before its rows.

    Attributes:
        columns: Its columns, with the types that reading the table gives them.
        decoders: One for each column.
    """

    columns: tuple[Column, ...]
    decoders: tuple[Decoder, ...]

    def rows(self, data: bytes) -> Iterator[Row]:
        """The rows of an event, one behind the other; an update has two for each row.

        Args:
            data: What follows the bitmaps of columns.
        """
        place, count = 0, len(self.decoders)
        width = (count + 7) // 8
        while place < len(data):
            nulls = int.from_bytes(data[place : place + width], "little")
            place += width
            row: Row = []
            for number, decode in enumerate(self.decoders):
                if nulls >> number & 1:
                    row.append(None)
                    continue
                text, place = decode(data, place)
                row.append(text)
            yield row


def log_table(columns: Sequence[Any]) -> LogTable:
    """How rows are read that follow a table map.

    Args:
        columns: The library's columns, with names.

    Raises:
        Undecodable: A column's values cannot be told.
    """
    made = [_column(column) for column in columns]
    return LogTable(tuple(c for c, _ in made), tuple(decode for _, decode in made))


def _column(told: Any) -> tuple[Column, Decoder]:
    kind = told.type
    if kind in _INTEGERS:
        name, size = _INTEGERS[kind]
        full = f"{name} unsigned" if told.unsigned else name
        return typed_column(told.name, name, full), _integer(size, told.unsigned)
    if kind == _DECIMAL:
        digits, decimals = told.precision, told.decimals
        full = f"decimal({digits},{decimals})"
        column = typed_column(told.name, "decimal", full, str(digits), str(decimals))
        return column, _decimal(digits, decimals)
    if kind in (_TIMESTAMP2, _DATETIME2, _TIME2):
        name = {_TIMESTAMP2: "timestamp", _DATETIME2: "datetime", _TIME2: "time"}[kind]
        make = {_TIMESTAMP2: _timestamp, _DATETIME2: _datetime, _TIME2: _time}[kind]
        return typed_column(told.name, name, name), make(told.fsp)
    if kind == _BIT:
        size = told.bytes
        return typed_column(told.name, "bit", f"bit({told.bits})"), _bits(size)
    simple: dict[int, tuple[str, Decoder]] = {
        _FLOAT: ("float", _float),
        _DOUBLE: ("double", _double),
        _DATE: ("date", _date),
        _YEAR: ("year", _year),
    }
    if kind in simple:
        name, decode = simple[kind]
        return typed_column(told.name, name, name), decode
    if kind in (_ENUM, _SET):
        names = (told.enum_values or [])[1:] if kind == _ENUM else told.set_values or []
        # The library has an empty text for a name that it could not decode.
        if "" in names and told.character_set_name != "utf8":
            return _opaque(told.name, "its values are not written in utf8mb4"), _choice(told)
        return typed_column(told.name, "enum", "enum"), _choice(told)
    return _string(told)


def _string(told: Any) -> tuple[Column, Decoder]:
    if told.type == _GEOMETRY:
        return typed_column(told.name, "geometry", "geometry"), _bytes(told.length_size, 0)
    if told.type == _BLOB:
        size, length = told.length_size, 0
    elif told.type in (_VARCHAR, _VAR_STRING, _STRING):
        size = 2 if told.max_length > 255 else 1
        length = told.max_length if told.type == _STRING else 0
    else:
        raise Undecodable(told.name, f"its type has the number {told.type} in the log")
    charset = told.character_set_name
    if charset == "binary":
        return typed_column(told.name, "varbinary", "varbinary"), _bytes(size, length)
    if charset not in _ENCODINGS:
        return _opaque(told.name, f"its character set is {charset}"), _bytes(size, 0)
    return typed_column(told.name, "varchar", "varchar"), _text(told.name, size, charset)


def _opaque(name: str, why: str) -> Column:
    return Column(name, native=f"{_OPAQUE}{why}")


def check_tellable(columns: Sequence[Column]) -> None:
    """Makes sure that columns have values that the log tells.

    Raises:
        Undecodable: One has not.
    """
    for column in columns:
        if column.native.startswith(_OPAQUE):
            raise Undecodable(column.name, column.native.removeprefix(_OPAQUE))


def _integer(size: int, unsigned: bool) -> Decoder:
    def decode(data: bytes, place: int) -> tuple[str, int]:
        end = place + size
        return str(int.from_bytes(data[place:end], "little", signed=not unsigned)), end

    return decode


def _float(data: bytes, place: int) -> tuple[str, int]:
    (value,) = struct.unpack_from("<f", data, place)
    return repr(value), place + 4


def _double(data: bytes, place: int) -> tuple[str, int]:
    (value,) = struct.unpack_from("<d", data, place)
    return repr(value), place + 8


def _decimal(digits: int, decimals: int) -> Decoder:
    whole, first = divmod(digits - decimals, 9)
    parts, last = divmod(decimals, 9)
    before = ([first] if first else []) + [9] * whole
    after = [9] * parts + ([last] if last else [])
    size = sum(_DIGIT_BYTES[count] for count in before + after)

    def decode(data: bytes, place: int) -> tuple[str, int]:
        end = place + size
        is_negative = not data[place] & 0x80
        raw = bytes([data[place] ^ 0x80, *data[place + 1 : end]])
        if is_negative:
            raw = bytes(byte ^ 0xFF for byte in raw)
        texts, at = [], 0
        for count in before + after:
            width = _DIGIT_BYTES[count]
            texts.append(f"{int.from_bytes(raw[at : at + width], 'big'):0{count}d}")
            at += width
        text = "".join(texts[: len(before)]).lstrip("0") or "0"
        fraction = "".join(texts[len(before) :])
        return ("-" * is_negative) + text + (f".{fraction}" if fraction else ""), end

    return decode


def _fraction(raw: bytes, digits: int) -> str:
    """The digits behind the point of a second, with the point."""
    if not digits:
        return ""
    return "." + f"{int.from_bytes(raw, 'big'):0{2 * len(raw)}d}"[:digits]


def _timestamp(digits: int) -> Decoder:
    size = (digits + 1) // 2

    def decode(data: bytes, place: int) -> tuple[str, int]:
        middle = place + 4
        end = middle + size
        seconds = int.from_bytes(data[place:middle], "big")
        fraction = _fraction(data[middle:end], digits)
        if not seconds and not fraction.strip(".0"):
            return "0000-00-00 00:00:00" + fraction, end
        moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
        return moment.isoformat(sep=" ") + fraction, end

    return decode


def _datetime(digits: int) -> Decoder:
    size = (digits + 1) // 2

    def decode(data: bytes, place: int) -> tuple[str, int]:
        middle = place + 5
        end = middle + size
        packed = int.from_bytes(data[place:middle], "big") - 0x80_0000_0000
        year, month = divmod(packed >> 22, 13)
        day, clock = packed >> 17 & 31, packed & 0x1FFFF
        time_ = f"{clock >> 12:02d}:{clock >> 6 & 63:02d}:{clock & 63:02d}"
        fraction = _fraction(data[middle:end], digits)
        return f"{year:04d}-{month:02d}-{day:02d} {time_}{fraction}", end

    return decode


def _time(digits: int) -> Decoder:
    size = (digits + 1) // 2

    def decode(data: bytes, place: int) -> tuple[str, int]:
        end = place + 3 + size
        packed = int.from_bytes(data[place:end], "big") - (0x800000 << 8 * size)
        raw = abs(packed).to_bytes(3 + size, "big")
        clock = int.from_bytes(raw[:3], "big")
        time_ = f"{clock >> 12 & 1023:02d}:{clock >> 6 & 63:02d}:{clock & 63:02d}"
        return ("-" if packed < 0 else "") + time_ + _fraction(raw[3:], digits), end

    return decode


def _date(data: bytes, place: int) -> tuple[str, int]:
    end = place + 3
    packed = int.from_bytes(data[place:end], "little")
    return f"{packed >> 9:04d}-{packed >> 5 & 15:02d}-{packed & 31:02d}", end


def _year(data: bytes, place: int) -> tuple[str, int]:
    return (str(1900 + data[place]) if data[place] else "0000"), place + 1


def _bits(size: int) -> Decoder:
    def decode(data: bytes, place: int) -> tuple[str, int]:
        return str(int.from_bytes(data[place : place + size], "big")), place + size

    return decode


def _choice(told: Any) -> Decoder:
    """ENUM and SET: numbers of values that the table map lists."""
    size = told.size
    names: list[str] = list((told.enum_values if told.type == _ENUM else told.set_values) or [])

    def enum(data: bytes, place: int) -> tuple[str, int]:
        return names[int.from_bytes(data[place : place + size], "little")], place + size

    def several(data: bytes, place: int) -> tuple[str, int]:
        mask = int.from_bytes(data[place : place + size], "little")
        chosen = [name for number, name in enumerate(names) if mask >> number & 1]
        return ",".join(chosen), place + size

    return enum if told.type == _ENUM else several


def _bytes(size: int, padded: int) -> Decoder:
    """Bytes as hexadecimal digits; zeros at the end of a BINARY are not in the log."""

    def decode(data: bytes, place: int) -> tuple[str, int]:
        start = place + size
        end = start + int.from_bytes(data[place:start], "little")
        return "\\x" + data[start:end].ljust(padded, b"\0").hex(), end

    return decode


def _text(name: str, size: int, charset: str) -> Decoder:
    encoding = _ENCODINGS[charset]

    def decode(data: bytes, place: int) -> tuple[str, int]:
        start = place + size
        end = start + int.from_bytes(data[place:start], "little")
        if encoding == "cp1252":
            return _latin1(data[start:end]), end
        try:
            return data[start:end].decode(encoding), end
        except UnicodeDecodeError as error:
            raise Undecodable(name, f"a value of it is not {encoding}: {error}") from error

    return decode


def _latin1(data: bytes) -> str:
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        # The server's latin1 is cp1252, and five bytes that this lacks stand for themselves.
        return "".join(
            bytes([byte]).decode("latin-1" if byte in _UNDEFINED else "cp1252") for byte in data
        )


_UNDEFINED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)
