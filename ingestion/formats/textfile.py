"""Text files: the whole file is one row.

bytes -> decoded by the first encoding that fits -> name and text -> `TextTable`

Line ends become line feeds, a byte order mark is dropped. An empty file is a row with an empty
text: that there is nothing in it is known. A character that SQL's text cannot hold (NUL) is a
fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingestion.formats.streams import Content, Encoding, opened
from ingestion.formats.tables import TextTable


def read_text(content: Content, encoding: Encoding, target: Path, **where: Any) -> TextTable:
    """Writes a text file to `target` as Parquet with one row: `name` and `text`.

    Args:
        content: The file.
        encoding: How it is encoded; if it is not strict, the record is rejected.
        target: Parquet file to write.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: The compressed data is broken.
    """
    with opened(content) as stream:
        data = stream.read()
    table = TextTable()
    if not encoding.strict:
        raw = data.decode(encoding.codec, "backslashreplace")
        table.reject(1, f"bytes that are not {encoding.name}", raw)
    else:
        text = data.decode(encoding.codec).removeprefix("\ufeff")
        if "\0" in text:
            table.reject(1, "a NUL character: it is no text", text.replace("\0", "\\0"))
        else:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            table.add({"name": content.member or content.name, "text": text})
    for name in ("name", "text"):
        table.names.setdefault(name)
    table.write(target, **where)
    return table
