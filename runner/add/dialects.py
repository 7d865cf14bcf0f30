"""How files are to be read, guessed from their beginning: the declaration says it, not the guess.

beginning of a file -> encoding, delimiter, header, title lines, sheet, tag or path of the records
-> keys of `ingest` and what was seen

A guess only fills in the declaration that a person reads; extraction guesses nothing. What the
beginning does not tell is left at its default, and reading the file then says what is wrong.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DELIMITERS = (",", ";", "\t", "|")
_DATA = re.compile(r"^[-+]?[\d.,:/ ]*\d[\d.,:/TZ ]*%?$")
_LINES = 200
_TITLE_LINES = 10
_DEEP = 4
_AGREEING = 0.9


@dataclass(frozen=True)
class Dialect:
    """Keys of `ingest` that say how a file is read.

    Attributes:
        ingest: The keys; only what differs from the defaults.
        seen: What was seen, in words.
    """

    ingest: dict[str, Any] = field(default_factory=dict)
    seen: tuple[str, ...] = ()


def encoding_of(head: bytes) -> tuple[list[str], str]:
    """Encodings to declare for a text, and why.

    Args:
        head: Its beginning, which ends with a line.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE)):
        return [], "its byte order mark tells its encoding"
    if head[1::2].count(0) > len(head) // 4:
        return ["utf-16-le"], "every second byte is 0, as in UTF-16"
    if head[::2].count(0) > len(head) // 4:
        return ["utf-16-be"], "every second byte is 0, as in UTF-16"
    for name in ("utf-8", "cp1252", "latin-1"):
        try:
            head.decode(name)
        except UnicodeDecodeError:
            continue
        if name == "utf-8":
            return [], ""
        return ["utf-8", name], f"its bytes are no UTF-8 but fit {name}; check the letters"
    return [], ""


def decoded(head: bytes) -> str:
    """A beginning as text, faulty bytes left out."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return head.decode(name, errors="ignore")
    names, _ = encoding_of(head)
    return head.decode(names[-1] if names else "utf-8-sig", errors="ignore").removeprefix("\ufeff")


def of_csv(head: bytes) -> Dialect:
    """The dialect of a CSV file."""
    encodings, why = encoding_of(head)
    text = decoded(head)
    lines = text.splitlines()[:_LINES]
    comment = "#" if lines and lines[0].startswith("#") else None
    kept = [line for line in lines if not (comment and line.startswith(comment))]
    delimiter, skipped, width = _delimiter(kept)
    rows = list(csv.reader(io.StringIO("\n".join(kept[skipped:])), delimiter=delimiter))
    rows = [row for row in rows if row]
    told: dict[str, Any] = {}
    seen = [why] if why else []
    if delimiter != ",":
        told["delimiter"] = delimiter
        seen.append(f"fields are parted by {delimiter!r}")
    if skipped:
        told["skip_lines"] = skipped
        seen.append(f"{skipped} line{'s' if skipped > 1 else ''} of titles before the header")
    if comment:
        told["comment"] = comment
    if rows and not _is_header(rows[0]):
        told |= {"header": False, "columns": [f"column_{n}" for n in range(1, width + 1)]}
        seen.append("its first line looks like data, so columns are numbered: name them")
    ingest: dict[str, Any] = {"csv": told} if told else {}
    if encodings:
        ingest["encodings"] = encodings
    return Dialect(ingest, tuple(seen))


def is_table(head: bytes) -> bool:
    """Whether a text of no telling suffix is CSV: nine lines in ten have as many fields."""
    lines = decoded(head).splitlines()[:_LINES]
    share, width, _, _ = _widest(lines)
    return width > 1 and share >= _AGREEING and len(lines) > 1


def _delimiter(lines: Sequence[str]) -> tuple[str, int, int]:
    """The delimiter, how many lines of titles come first, and the number of columns."""
    _, width, delimiter, first = _widest(lines)
    if width < 2:
        return ",", 0, 1
    return delimiter, first if first <= _TITLE_LINES else 0, width


def _widest(lines: Sequence[str]) -> tuple[float, int, str, int]:
    """Share of lines that agree, their number of fields, delimiter, and the first such line."""
    best = (0.0, 0, ",", 0)
    for delimiter in _DELIMITERS:
        widths, places, filled, begins = [], [], [], 0
        reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter)
        for row in reader:
            if row:
                widths.append(len(row))
                places.append(begins)
                filled.append(2 * sum(bool(cell.strip()) for cell in row) > len(row))
            begins = reader.line_num
        if not widths:
            continue
        width, times = Counter(widths).most_common(1)[0]
        if width > 1:
            fitting = times / len(widths)
            # A spreadsheet fills lines of titles up with empty fields.
            wide = [place for place, own in enumerate(widths) if own == width]
            first = places[next((place for place in wide if filled[place]), wide[0])]
            best = max(best, (round(fitting, 1), width, delimiter, first))
    return best


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a line names columns: words, no two alike, no numbers or dates."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        len(filled) > len(cells) / 2
        and len({cell.lower() for cell in filled}) == len(filled)
        and not any(_DATA.match(cell) for cell in filled)
    )


def of_text(head: bytes) -> Dialect:
    """Encodings of a text of another format."""
    encodings, why = encoding_of(head)
    return Dialect({"encodings": encodings} if encodings else {}, (why,) if why else ())


def of_json(path: Path) -> Dialect:
    """Where the records of a JSON document are: the longest array of objects."""
    import orjson

    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return Dialect()
    if isinstance(document, list):
        return Dialect()
    longest = max(_arrays(document), default=(0, ""))
    if not longest[1]:
        return Dialect()
    return Dialect({"records": longest[1]}, (f"{longest[0]:,} records stand under `{longest[1]}`",))


def _arrays(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Arrays of objects within objects, with their length and path."""
    if isinstance(value, dict) and len(path) < _DEEP:
        for key, inner in value.items():
            if "." not in key:
                yield from _arrays(inner, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        yield len(value), ".".join(path)


def of_xml(path: Path) -> Dialect:
    """The tag of a record: the most frequent one of the shallowest level that repeats a tag."""
    from lxml import etree

    levels: dict[int, Counter[str]] = {}
    depth = 0
    events = etree.iterparse(
        str(path), events=("start", "end"), recover=True, resolve_entities=False, no_network=True
    )
    for event, element in events:
        if event == "start":
            depth += 1
            if depth <= _DEEP + 1:
                name = etree.QName(element).localname
                levels.setdefault(depth, Counter())[name] += 1
        else:
            depth -= 1
            if depth > _DEEP:
                element.clear()
    for level in sorted(levels):
        name, times = levels[level].most_common(1)[0]
        if level > 1 and times > 1:
            return Dialect({"xml": {"record": name}}, (f"<{name}> occurs {times:,} times",))
    deepest = max((level for level in levels if level <= 2), default=0)
    if not deepest:
        return Dialect()
    name = levels[deepest].most_common(1)[0][0]
    return Dialect({"xml": {"record": name}}, (f"<{name}> is the only record",))


def of_excel(path: Path) -> Dialect:
    """The sheet with most rows, and the first row that looks like a header."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_path(str(path))
        sheets = {
            name: workbook.get_sheet_by_name(name).to_python(skip_empty_area=False, nrows=_LINES)
            for name in workbook.sheet_names
        }
    except (CalamineError, OSError):
        return Dialect()
    filled = {name: [row for row in rows if any(cell not in ("", None) for cell in row)]
              for name, rows in sheets.items()}  # fmt: skip
    if not filled:
        return Dialect()
    best = max(filled, key=lambda name: (len(filled[name]), -list(filled).index(name)))
    told: dict[str, Any] = {}
    seen = []
    if best != next(iter(filled)):
        told["sheet"] = best
    others = [name for name in filled if name != best and filled[name]]
    if others:
        seen.append(f"read is the sheet {best!r}; not read: {', '.join(others)}")
    width = max((len(_words(row)) for row in sheets[best]), default=0)
    for number, row in enumerate(sheets[best][:_TITLE_LINES], start=1):
        if len(_words(row)) > max(1, width // 2) or (width == 1 and _words(row)):
            if number > 1:
                told["header_row"] = number
                seen.append(f"row {number} names the columns")
            break
    return Dialect({"excel": told} if told else {}, tuple(seen))


def _words(row: Sequence[Any]) -> list[str]:
    return [cell for cell in row if isinstance(cell, str) and cell.strip()]
