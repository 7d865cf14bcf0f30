"""What the texts of a reading read as, by a sample of its rows.

rows -> the first 2,000 -> for each text column: class of nine values of ten, types inside its JSON

Text formats and APIs declare no types, so a source's retyping shows in the values alone. One odd
value is a bad row, which rules of staging deal with; most of them being otherwise is a change.
Left out: columns whose source declares a type.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ingestion.evolution import TEXT, quoted
from ingestion.schema.shapes import Shape, ShapeColumn

if TYPE_CHECKING:
    import duckdb

_SAMPLE, _TABLE = 2_000, "wellspring_sample"
_LEAST_VALUES = 20
_SHARE = 0.9
# The first that holds is taken: each is a special case of a later one, or of text.
_CLASSES = {
    "true or false": r"(?i)true|false",
    "whole number": r"-?\d{1,38}",
    "number": r"-?\d*[.,]?\d+([eE][-+]?\d+)?",
    "date": r"\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d{4}",
    "timestamp": r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d.*)?|\d\d?[./]\d\d?[./]\d{4} \d\d:\d\d.*",
    "JSON": r"(?s)\s*[\[{].*[\]}]\s*",
}
# A record with more fields than this is a map with keys of its own.
_MOST_FIELDS = 60
_NUMBERS = ("UBIGINT", "BIGINT", "HUGEINT", "DOUBLE")


def shape_of(columns: Mapping[str, str], *, is_certain: bool, rows: int | None) -> Shape:
    """The shape of rows whose source declares no types.

    Args:
        columns: Their columns' names and DuckDB types.
        is_certain: Whether all columns of the table are among them.
        rows: Number of rows, if known.
    """
    listed = tuple(ShapeColumn(name, kind) for name, kind in columns.items())
    return Shape(listed, is_certain=is_certain, rows=rows)


def with_types(
    shape: Shape, former: Shape | None, connection: duckdb.DuckDBPyConnection, source: str
) -> Shape:
    """The shape with former types where a column has no value: its type says nothing then.

    Args:
        shape: The shape.
        former: The one before.
        connection: DuckDB.
        source: What stands behind `from` to get the rows.
    """
    known = former.by_name if former else {}
    odd = [c for c in shape.columns if c.name in known and known[c.name].type != c.type]
    if not odd:
        return shape
    counts = ", ".join(f"count({quoted(column.name)})" for column in odd)
    (found,) = connection.execute(f"select {counts} from {source}").fetchall()
    empty = {column.name for column, count in zip(odd, found, strict=True) if not count}
    return replace(
        shape,
        columns=tuple(
            replace(c, type=known[c.name].type) if c.name in empty else c for c in shape.columns
        ),
    )


def with_content(
    shape: Shape, connection: duckdb.DuckDBPyConnection, source: str, texts: Collection[str]
) -> Shape:
    """The shape with what its texts read as.

    Args:
        shape: The shape.
        connection: DuckDB.
        source: What stands behind `from` to get the rows.
        texts: Columns to look at; those that are no text are left out.
    """
    looked = [c.name for c in shape.columns if c.name in texts and c.type == TEXT]
    if not looked:
        return shape
    listed = ", ".join(quoted(name) for name in looked)
    counts = ", ".join(expression for name in looked for expression in _counts(name))
    # A table: to read the first rows of a large file takes longer than to look at them.
    connection.execute(
        f"create or replace temporary table {_TABLE} as "
        f"select {listed} from {source} limit {_SAMPLE}"
    )
    (found,) = connection.execute(f"select {counts} from {_TABLE}").fetchall()
    step = 1 + len(_CLASSES)
    reads = {
        name: _class_of(found[place * step : (place + 1) * step])
        for place, name in enumerate(looked)
    }
    nested = [name for name, kind in reads.items() if kind == "JSON"]
    fields = _fields(connection, nested)
    connection.execute(f"drop table {_TABLE}")
    return replace(
        shape,
        columns=tuple(
            replace(c, reads=reads.get(c.name, c.reads), fields=fields.get(c.name, c.fields))
            for c in shape.columns
        ),
    )


def _counts(name: str) -> list[str]:
    column = quoted(name)
    matches = [
        f"count(*) filter (where regexp_full_match({column}, '{pattern}'))"
        for pattern in _CLASSES.values()
    ]
    return [f"count({column})", *matches]


def _class_of(counts: tuple[int, ...]) -> str:
    values, *matches = counts
    if values < _LEAST_VALUES:
        return ""
    for kind, matched in zip(_CLASSES, matches, strict=True):
        if matched >= _SHARE * values:
            return kind
    return "text"


def _fields(
    connection: duckdb.DuckDBPyConnection, names: Collection[str]
) -> dict[str, dict[str, str]]:
    """Types inside JSON texts, by column and path."""
    if not names:
        return {}
    structures = ", ".join(
        f"json_group_structure(case when json_valid({quoted(name)}) then {quoted(name)}::json end)"
        for name in names
    )
    (found,) = connection.execute(f"select {structures} from {_TABLE}").fetchall()
    told = {}
    for name, structure in zip(names, found, strict=True):
        flat: dict[str, str] = {}
        _flatten(json.loads(structure) if structure else None, "", flat)
        told[name] = flat
    return told


def _flatten(structure: Any, path: str, found: dict[str, str]) -> None:
    if isinstance(structure, dict):
        if len(structure) > _MOST_FIELDS:
            found[path] = "a map"
            return
        for name, inner in structure.items():
            _flatten(inner, f"{path}.{name}" if path else name, found)
    elif isinstance(structure, list):
        _flatten(structure[0] if structure else None, f"{path}[]", found)
    elif path:
        kind = {"VARCHAR": "text", "BOOLEAN": "true or false", "NULL": "nothing"}.get(structure)
        found[path] = kind or ("number" if structure in _NUMBERS else "mixed")
