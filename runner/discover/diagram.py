"""Tables and what they refer to, drawn as SVG.

tables, references -> columns of boxes, referred-to tables to the left -> boxes and curves -> SVG

A box shows the key and the columns that refer; a curve runs from a column to the table that it
points to, and says so in its title. Left out: everything that needs a script or a font of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from runner.discover.model import Overlap, Reference, TableProfile

_WIDTH, _LINE, _HEAD, _GAP, _BETWEEN = 214, 17, 24, 22, 96
# Room for what bows out beside the first and the last column.
_MARGIN = 56
_PLACED_BETTER = 8
_MOST_LINES = 9
_MOST_ALONE = 6
_LONGEST = 28


@dataclass
class _Box:
    table: TableProfile
    lines: list[tuple[str, str]]
    x: float = 0
    y: float = 0

    @property
    def height(self) -> float:
        return _HEAD + _LINE * len(self.lines) + 6

    def line_y(self, column: str) -> float:
        names = [name for name, _ in self.lines]
        at = names.index(column) if column in names else -1
        return self.y + (_HEAD / 2 if at < 0 else _HEAD + _LINE * at + 10)


def diagram(
    tables: Sequence[TableProfile],
    references: Sequence[Reference],
    said: str,
    full: bool,
    same: Sequence[Overlap] = (),
) -> str:
    """Draws tables and the references among them.

    Args:
        tables: The tables to draw.
        references: The references; those to other tables are left out.
        said: What the drawing shows, for who cannot see it.
        full: Whether to write the source before the tables' names.
        same: What tables have in common, drawn without a direction.

    Returns:
        An SVG element; empty if there is nothing to draw.
    """
    names = {table.full_name for table in tables}
    drawn = [r for r in references if {r.from_table, r.to_table} <= names]
    if not tables:
        return ""
    boxes = {table.full_name: _Box(table, _lines(table, drawn)) for table in tables}
    known = {
        (o.left_table, o.right_table): o for o in same if {o.left_table, o.right_table} <= names
    }
    columns = _columns(boxes, drawn, {name for pair in known for name in pair})
    height = _place(columns, [(r.from_table, r.to_table) for r in drawn] + list(known), boxes)
    width = len(columns) * (_WIDTH + _BETWEEN) - _BETWEEN + 2 * _MARGIN
    curves = "".join(_same_curve(overlap, boxes) for overlap in known.values())
    curves += "".join(_curve(reference, boxes) for reference in drawn)
    shown = "".join(_drawn_box(box, full) for box in boxes.values())
    return (
        f'<div class="scroll"><svg class="entities" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" role="img" aria-label="{escape(said)}">'
        f"{curves}{shown}</svg></div>"
    )


def _lines(table: TableProfile, references: Sequence[Reference]) -> list[tuple[str, str]]:
    """Columns worth showing: the key, and what refers; each with what it is."""
    key = table.primary_key.columns if table.primary_key is not None else ()
    refers = [
        column
        for reference in references
        if reference.from_table == table.full_name
        for column in reference.from_columns
    ]
    kinds = dict.fromkeys(key, "key")
    for name in refers:
        kinds[name] = "both" if name in key else "refers"
    return list(kinds.items())[:_MOST_LINES]


def _columns(
    boxes: dict[str, _Box], references: Sequence[Reference], linked_too: set[str]
) -> list[list[_Box]]:
    """Boxes by how far they are from what refers to nothing; circles are cut where they close."""
    above: dict[str, set[str]] = {name: set() for name in boxes}
    for reference in references:
        if reference.from_table != reference.to_table:
            above[reference.from_table].add(reference.to_table)
    depth: dict[str, int] = {}

    def deep(name: str, way: frozenset[str]) -> int:
        if name not in depth:
            ahead = [deep(other, way | {name}) for other in sorted(above[name] - way)]
            depth[name] = max(ahead, default=-1) + 1
        return depth[name]

    for name in sorted(boxes):
        deep(name, frozenset([name]))
    alone = {n for n in boxes if not above[n] and not any(n in o for o in above.values())}
    alone -= linked_too
    last = max(depth.values(), default=0)
    linked = [
        [boxes[n] for n in sorted(boxes) if depth[n] == d and n not in alone]
        for d in range(last + 1)
    ]
    found = [column for column in linked if column]
    rest = [boxes[name] for name in sorted(alone)]
    return [*found, *(rest[i : i + _MOST_ALONE] for i in range(0, len(rest), _MOST_ALONE))]


def _place(
    columns: list[list[_Box]], links: Sequence[tuple[str, str]], boxes: dict[str, _Box]
) -> float:
    """Sets the boxes' places, each near what it is linked with; returns the height of all."""
    near: dict[str, list[str]] = {name: [] for name in boxes}
    for one, other in links:
        near[one].append(other)
        near[other].append(one)
    for turn in range(_PLACED_BETTER):
        for number, column in enumerate(columns):
            if turn:
                column.sort(key=lambda box: _middle(box, near, boxes))
            y = 10.0
            for box in column:
                box.x, box.y = _MARGIN + number * (_WIDTH + _BETWEEN), y
                y += box.height + _GAP
    return max(box.y + box.height for box in boxes.values()) + 12


def _middle(box: _Box, near: dict[str, list[str]], boxes: dict[str, _Box]) -> float:
    others = [boxes[name].y + boxes[name].height / 2 for name in near[box.table.full_name]]
    return sum(others) / len(others) if others else box.y


def _curve(reference: Reference, boxes: dict[str, _Box]) -> str:
    start, end = boxes[reference.from_table], boxes[reference.to_table]
    y1 = start.line_y(reference.from_columns[0])
    y2 = end.line_y(reference.to_columns[0])
    if start.x > end.x:
        x1, x2, out = start.x, end.x + _WIDTH, -1
    elif start.x < end.x:
        x1, x2, out = start.x + _WIDTH, end.x, 1
    else:
        x1 = x2 = start.x + _WIDTH
        out = 0
    bend = max(30.0, abs(x2 - x1) / 2)
    way = (
        f"M{x1:.0f},{y1:.0f} C{x1 + out * bend:.0f},{y1:.0f} "
        f"{x2 - out * bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
        if out
        else f"M{x1:.0f},{y1:.0f} C{x1 + 46:.0f},{y1:.0f} {x2 + 46:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
    )
    tip = -4 if out == 1 else 4
    kind = "part" if reference.is_partial else "sure" if reference.score >= 0.7 else "maybe"
    told = (
        f"{reference.from_table} ({', '.join(reference.from_columns)}) refers to "
        f"{reference.to_table} ({', '.join(reference.to_columns)})"
    )
    return (
        f'<g class="link {kind}"><title>{escape(told)}</title><path d="{way}"/>'
        f'<path class="tip" d="M{x2:.0f},{y2:.0f} l{tip * 2},-4 v8 z"/></g>'
    )


def _same_curve(overlap: Overlap, boxes: dict[str, _Box]) -> str:
    left, right = boxes[overlap.left_table], boxes[overlap.right_table]
    if left.x > right.x:
        left, right = right, left
    y1, y2 = left.y + _HEAD / 2, right.y + _HEAD / 2
    if left.x == right.x:
        # A bow to the left of both, wider the further they are apart.
        bow = left.x - 8 - min(60, abs(y2 - y1) / 8)
        way = f"M{left.x:.0f},{y1:.0f} C{bow:.0f},{y1:.0f} {bow:.0f},{y2:.0f} {left.x:.0f},{y2:.0f}"
    else:
        x1, x2 = left.x + _WIDTH, right.x
        half = (x2 - x1) / 2
        way = (
            f"M{x1:.0f},{y1:.0f} C{x1 + half:.0f},{y1:.0f} {x2 - half:.0f},{y2:.0f} "
            f"{x2:.0f},{y2:.0f}"
        )
    told = (
        f"{overlap.left_table} and {overlap.right_table} know the same things: {overlap.shared:,} "
        f"values of {overlap.left_column} and {overlap.right_column}"
    )
    return f'<g class="same"><title>{escape(told)}</title><path d="{way}"/></g>'


def _drawn_box(box: _Box, full: bool) -> str:
    table = box.table
    name = table.full_name if full else table.name
    lines = "".join(
        f'<text x="{box.x + 9:.0f}" y="{box.y + _HEAD + _LINE * i + 14:.0f}" class="{kind}">'
        f"{escape(_cut(column))}</text>"
        for i, (column, kind) in enumerate(box.lines)
    )
    title = f"{table.full_name}: {table.rows:,} rows"
    return (
        f'<a href="#{anchor(table.full_name)}"><g class="box"><title>{escape(title)}</title>'
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{_WIDTH}" height="{box.height:.0f}" rx="5"/>'
        f'<text x="{box.x + 9:.0f}" y="{box.y + 16:.0f}" class="name">{escape(_cut(name))}</text>'
        f"{lines}</g></a>"
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def anchor(name: str) -> str:
    """The place of a table on the page."""
    return "table-" + "".join(c if c.isalnum() else "-" for c in name)
