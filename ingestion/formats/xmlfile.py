"""XML: one row for each element of a given tag, read as a stream.

element -> attributes and children as columns of text -> `TextTable`

An attribute, and a child that holds nothing but text, is a column; an empty one is NULL. A child
with attributes or children of its own is JSON text. Where it does nothing but hold elements of one
tag that have attributes or children themselves, it is a list of these: `<lines><line
no="1"/></lines>` is `[{"no": "1"}]`. Otherwise it is an object: its attributes are texts, its own
text is `text`, and each tag of its children is an array, be it of one. A child that stands several
times in a record is a JSON array. Namespaces are left out of names. Entities are not resolved and
nothing is fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from ingestion.formats.streams import Content, opened
from ingestion.formats.tables import TextTable

if TYPE_CHECKING:
    from lxml.etree import _Element


def read_document(content: Content, record: str, target: Path, **where: Any) -> TextTable:
    """Writes the records of an XML document to `target` as Parquet.

    Args:
        content: The document; it states its encoding itself.
        record: Tag of the element that makes one row.
        target: Parquet file to write.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: It is not well-formed, or uses entities of its own.
    """
    from lxml import etree

    table = TextTable()
    with opened(content) as stream:
        if not stream.read(1):
            table.write(target, **where)
            return table
    with opened(content) as stream:
        events = etree.iterparse(
            stream,
            events=("end",),
            tag=f"{{*}}{record}",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            _read(events, record, table)
        except etree.XMLSyntaxError as error:
            line, column = error.position or (0, 0)
            raise BadInput(
                f"it is not well-formed XML: {error.msg}"
                + ("" if f"line {line}" in str(error.msg) else f", line {line}, column {column}")
            ) from error
    table.write(target, **where)
    return table


def _read(events: Any, record: str, table: TextTable) -> None:
    """Takes each outermost element of the tag, then frees it and all before it."""
    for _, element in events:
        if next(element.iterancestors(f"{{*}}{record}"), None) is not None:
            continue
        table.add(_columns(element))
        element.clear()
        # What was read is dropped, else a long document stays in memory as empty elements.
        parent = element.getparent()
        while parent is not None and element.getprevious() is not None:
            del parent[0]


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _columns(element: _Element) -> dict[str, str | None]:
    columns: dict[str, str | None] = {}
    for name, value in element.attrib.items():
        columns[_local(str(name))] = str(value) or None
    for tag, children in _by_tag(element).items():
        name = tag
        if name in columns:
            raise BadInput(
                f"line {element.sourceline}: <{_local(str(element.tag))}> has {name!r} both as an "
                "attribute and as a child element"
            )
        if len(children) == 1:
            value = _value(children[0])
            columns[name] = value if value is None or isinstance(value, str) else _json(value)
        else:
            columns[name] = _json([_value(child) for child in children])
    text = _text(element)
    if text is not None:
        columns.setdefault("text", text)
    return columns


def _by_tag(element: _Element) -> dict[str, list[_Element]]:
    children: dict[str, list[_Element]] = {}
    for child in element:
        if not isinstance(child.tag, str):
            raise BadInput(
                f"line {element.sourceline}: it uses an entity of its own, which is not resolved"
            )
        children.setdefault(_local(child.tag), []).append(child)
    return children


def _value(element: _Element) -> Any:
    """Text of a plain element, a list if it only holds one, else an object of all it has."""
    text = _text(element)
    if not element.attrib and not len(element):
        return text
    value: dict[str, Any] = {_local(str(k)): v or None for k, v in element.attrib.items()}
    if not len(element):
        return value if text is None else {**value, "text": text}
    children = _by_tag(element)
    if not value and text is None and len(children) == 1:
        (same,) = children.values()
        if any(len(child) or child.attrib for child in same):
            return [_value(child) for child in same]
    if text is not None:
        value["text"] = text
    for tag, same in children.items():
        value[tag] = [_value(child) for child in same]
    return value


def _text(element: _Element) -> str | None:
    """The element's own text; spaces between child elements are none."""
    if not len(element):
        return element.text or None
    parts = [element.text or "", *(child.tail or "" for child in element)]
    return "".join(parts).strip() or None


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _json(value: Any) -> str:
    return _encoder.encode(value)
