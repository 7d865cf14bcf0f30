"""Excel and OpenDocument workbooks: one sheet as rows of text.

workbook -> sheet -> header row -> rows below it -> `TextTable`

A whole number is written without a decimal point, a date and a time as ISO 8601, a truth value as
true or false; an empty cell is NULL and a row without any value is none. A formula is its last
value.
"""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

from ingestion.declarations import ExcelOptions
from ingestion.errors import BadInput
from ingestion.formats.streams import Content, opened
from ingestion.formats.tables import TextTable


def read_sheet(content: Content, options: ExcelOptions, target: Path, **where: Any) -> TextTable:
    """Writes the rows of a sheet to `target` as Parquet.

    Args:
        content: The workbook.
        options: Sheet and header row.
        target: Parquet file to write.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: It is no workbook, lacks the sheet, or names a column twice.
    """
    rows = _rows(content, options)
    table = TextTable()
    header = _header(rows, options)
    for row in rows[options.header_row :]:
        values = [_text(value) for value in row]
        if all(value is None for value in values):
            continue
        cells = {name: values[i] if i < len(values) else None for i, name in header.items()}
        surplus = [v for i, v in enumerate(values) if i not in header and v is not None]
        if surplus:
            raw = " | ".join(value or "" for value in values)
            table.reject(table.position, "a value in a column without a name", raw)
        else:
            table.add(cells)
    for name in header.values():
        table.names.setdefault(name)
    table.write(target, **where)
    return table


def _rows(content: Content, options: ExcelOptions) -> list[list[Any]]:
    from python_calamine import CalamineError, CalamineWorkbook

    with opened(content) as stream:
        data = stream.read()
    if not data:
        return []
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = workbook.sheet_names
        name = options.sheet or (sheets[0] if sheets else None)
        if name is None or name not in sheets:
            raise BadInput(f"there is no sheet {name!r}; its sheets: {', '.join(sheets)}")
        rows: list[list[Any]] = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except CalamineError as error:
        raise BadInput(f"it is no readable workbook: {error}") from error
    return rows


def _header(rows: list[list[Any]], options: ExcelOptions) -> dict[int, str]:
    """Names of the columns by their position; cells without a name are no columns."""
    if len(rows) < options.header_row:
        return {}
    header: dict[int, str] = {}
    for position, value in enumerate(rows[options.header_row - 1]):
        name = _text(value)
        if name is None:
            continue
        if name in header.values():
            raise BadInput(f"the column {name!r} stands there twice", key=name)
        header[position] = name
    return header


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return str(value)
    return str(value)
