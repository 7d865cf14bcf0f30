"""Text from numbers, a column at a time.

numpy or Arrow columns ─> Arrow compute ─> Arrow string columns ─> lines of a file

Everything is written through these few functions because a Python loop over a million rows would
take longer than all the rest. It leaves out escaping: the company's own texts hold no quotes and
no control characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anycompany.draws import Bools, Ints

Column = Any  # a pyarrow string array, or a str that stands for the same text in every row


def pick(pool: Sequence[str | None], index: NDArray[Any]) -> Column:
    """Returns the pool's text at each index."""
    return pa.array(pool, type=pa.string()).take(pa.array(index))


def number(values: NDArray[Any], width: int = 0) -> Column:
    """Returns whole numbers as text, zero-padded to `width` digits."""
    text = pc.cast(pa.array(values), pa.string())
    return pc.utf8_lpad(text, width, padding="0") if width else text


def cents(values: Ints, mark: str = ".") -> Column:
    """Returns amounts in hundredths as text with two decimals behind the decimal `mark`."""
    whole, rest = np.divmod(np.abs(values), 100)
    sign = when(values < 0, "-", "")
    return join(sign, number(whole), mark, number(rest, 2))


def join(*parts: Column, sep: str = "") -> Column:
    """Returns the parts joined row by row; a null part makes the row null."""
    return pc.binary_join_element_wise(*parts, sep)


def when(mask: Bools, yes: Column, no: Column) -> Column:
    """Returns `yes` where the mask holds and `no` elsewhere; None stands for null."""
    return pc.if_else(pa.array(mask), _scalar(yes), _scalar(no))


def _scalar(value: Column) -> Any:
    return pa.scalar(value, type=pa.string()) if value is None or isinstance(value, str) else value


def iso_utc(seconds: Ints) -> Column:
    """Returns epoch seconds as `2026-06-30T23:10:00Z`."""
    text = pc.cast(pa.array(seconds).cast(pa.timestamp("s")), pa.string())
    return join(pc.utf8_replace_slice(text, 10, 11, "T"), "Z")


def quoted(column: Column) -> Column:
    """Returns each text within double quotes; null stays null."""
    return join('"', column, '"')


def json_text(column: Column) -> Column:
    """Returns each text as a JSON string, null as `null`."""
    return pc.fill_null(quoted(column), "null")


def or_empty(column: Column) -> Column:
    """Returns the texts with null as the empty text."""
    return pc.fill_null(column, "")


def dictionary(names: Sequence[str], index: NDArray[Any]) -> Column:
    """Returns `names[index]` as a plain string column; the same as `pick`, for closed sets."""
    return pick(list(names), index)


def grouped(column: Column, counts: Ints, sep: str = ",") -> Column:
    """Returns one text per group of consecutive rows, joined by `sep`; an empty group gives ''."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), flat), sep)


def lines(column: Column, end: str = "\n") -> bytes:
    """Returns the rows as the bytes of a text file in UTF-8, each ended by `end`."""
    rows = column.to_pylist()
    return (end.join(rows) + end).encode() if rows else b""


def decimals(values: Ints, precision: int = 14, missing: Bools | None = None) -> Any:
    """Returns hundredths as an Arrow decimal(precision, 2) column, null where `missing`."""
    words = np.empty((len(values), 2), dtype=np.int64)
    words[:, 0] = values
    words[:, 1] = values >> 63
    plain = pa.Array.from_buffers(
        pa.decimal128(precision, 2), len(values), [None, pa.py_buffer(words.tobytes())]
    )
    if missing is None or not missing.any():
        return plain
    return pc.if_else(pa.array(missing), pa.scalar(None, type=plain.type), plain)
