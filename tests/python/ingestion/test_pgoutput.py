"""Messages of the log, byte by byte as PostgreSQL's documentation describes them."""

from __future__ import annotations

import struct

import pytest

from ingestion.cdc.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Committed,
    LogColumn,
    Table,
    Truncated,
    decode,
    lsn_number,
    lsn_text,
    sortable,
)


def row(*values: str | bytes | None) -> bytes:
    """A row: a text, NULL, or `b"u"` for a value that did not change."""
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, bytes):
            parts.append(value)
        else:
            data = value.encode()
            parts.append(b"t" + struct.pack(">I", len(data)) + data)
    return b"".join(parts)


def test_a_transaction_has_its_position_time_and_number() -> None:
    begin = decode(b"B" + struct.pack(">qqi", 0x16B374D848, 1_000_000, 755))
    assert begin == Begin(0x16B374D848, 946_684_801_000_000, 755)
    commit = decode(b"C" + struct.pack(">Bqqq", 0, 10, 20, 0))
    assert commit == Committed(10, 20)


def test_a_number_of_a_transaction_beyond_two_thousand_millions_stays_positive() -> None:
    begin = decode(b"B" + struct.pack(">qqI", 1, 0, 4_000_000_000))
    assert begin == Begin(1, 946_684_800_000_000, 4_000_000_000)


def test_a_table_has_its_columns_and_what_identifies_a_row() -> None:
    columns = b"\x01id\0" + struct.pack(">Ii", 20, -1) + b"\0name\0" + struct.pack(">Ii", 1043, 44)
    message = b"R" + struct.pack(">I", 7) + b"public\0orders\0d" + struct.pack(">H", 2) + columns
    assert decode(message) == Table(
        7,
        "public",
        "orders",
        "d",
        (LogColumn("id", 20, -1, True), LogColumn("name", 1043, 44, False)),
    )


def test_changes_tell_the_row_after_and_what_is_known_of_the_row_before() -> None:
    head = struct.pack(">I", 7)
    assert decode(b"I" + head + b"N" + row("1", None, "é")) == Change(
        7, "insert", None, False, ["1", None, "é"]
    )
    assert decode(b"U" + head + b"N" + row("1", b"u")) == Change(
        7, "update", None, False, ["1", UNCHANGED]
    )
    assert decode(b"U" + head + b"K" + row("1", None) + b"N" + row("2", "x")) == Change(
        7, "update", ["1", None], False, ["2", "x"]
    )
    assert decode(b"U" + head + b"O" + row("1", "w") + b"N" + row("1", "x")) == Change(
        7, "update", ["1", "w"], True, ["1", "x"]
    )
    assert decode(b"D" + head + b"O" + row("1", "")) == Change(7, "delete", ["1", ""], True, None)
    assert decode(b"D" + head + b"K" + row("1")) == Change(7, "delete", ["1"], False, None)


def test_a_truncate_names_all_its_tables() -> None:
    assert decode(b"T" + struct.pack(">IB2I", 2, 3, 7, 9)) == Truncated((7, 9))


def test_what_says_nothing_of_rows_is_passed_and_what_is_unknown_is_told() -> None:
    assert decode(b"Y" + struct.pack(">I", 5) + b"public\0mood\0") is None
    assert decode(b"O" + struct.pack(">q", 5) + b"elsewhere\0") is None
    assert decode(b"M\0" + struct.pack(">q", 5) + b"app\0" + struct.pack(">I", 0)) is None
    with pytest.raises(ValueError, match="unknown kind 'S'"):
        decode(b"S")
    with pytest.raises(ValueError, match="a value of the unknown kind 'b'"):
        decode(b"I" + struct.pack(">I", 7) + b"N" + row(b"b"))


def test_positions_sort_as_texts_as_they_do_as_numbers() -> None:
    assert lsn_number("16/B374D848") == 0x16B374D848
    assert lsn_text(0x16B374D848) == "16/B374D848"
    assert sortable(lsn_number("2/0")) > sortable(lsn_number("1/FFFFFFFF"))
    assert len(sortable(2**64 - 1)) == len(sortable(0)) == 16
