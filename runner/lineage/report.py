"""What is told of a column or a table: as a tree, as values, as a picture in Mermaid's language.

`ColumnGraph` + a name -> `find` -> `lineage_fields` -> text, JSON, Mermaid
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from runner.lineage.graph import ColumnGraph, Link, Table
from runner.lineage.queries import Column
from runner.query import nearest
from runner.report import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

_HOW = {
    "unchanged": "as it is",
    "computed": "computed",
    "filter": "filtered by it",
    "join": "joined on it",
    "grouping": "grouped by it",
    "limit": "cut off by it",
    "unnest": "a row for each part of it",
    "rule": "rows judged by it",
    "key": "rows told apart by it",
}


def find(graph: ColumnGraph, name: str) -> Column:
    """The column or table that a user means.

    Args:
        graph: The project's columns.
        name: `model`, `schema.model`, `source.table`, each with or without `.column`.

    Returns:
        The column; without a name for a table.

    Raises:
        BadInput: There is none, or several tables have the name.
    """
    wanted = name.strip().lower()
    for text, column in ((wanted, ""), (wanted.rpartition(".")[0], wanted.rpartition(".")[2])):
        found = [table for table in graph.tables.values() if text and text in _names(table)]
        if len(found) > 1:
            listed = ", ".join(table.relation for table in found)
            raise BadInput(
                f"{text} is the name of {len(found)} tables", hint=f"Say which: {listed}."
            )
        if found and (not column or column in found[0].columns):
            return Column(found[0].relation, column)
        if found:
            known = nearest(column, list(found[0].columns))
            raise BadInput(
                f"{found[0].name} has no column {column}", hint=f"Perhaps: {', '.join(known[:5])}."
            )
    told = [table.name for table in graph.tables.values()]
    likely = nearest(wanted.rpartition(".")[0] or wanted, told)[:3] + nearest(wanted, told)[:3]
    raise BadInput(
        f"the project has no table or column {name}",
        hint=f"Perhaps: {', '.join(dict.fromkeys(likely))}.",
    )


def _names(table: Table) -> set[str]:
    return {table.relation, table.name.lower(), table.relation.rpartition(".")[2]}


def lineage_fields(
    graph: ColumnGraph, column: Column, up: bool, down: bool, depth: int | None
) -> dict[str, Any]:
    """The links of a column or a table in both directions, as values.

    Args:
        graph: The project's columns.
        column: As `find` gives it.
        up: Whether to tell what it is made of.
        down: Whether to tell what is made of it.
        depth: How many steps to go; None for all the way.
    """
    table = graph.tables[column.relation]
    begun = [column] if column.name else [Column(column.relation, name) for name in table.columns]
    above = _walk(begun, graph.above, lambda link: link.above, depth) if up else []
    below = _walk(begun, graph.below, lambda link: link.below, depth) if down else []
    fields: dict[str, Any] = {
        "table": table.relation,
        "name": table.name,
        "kind": table.kind,
        "column": column.name or None,
        "note": table.note or None,
    }
    if up:
        fields["made_of"] = [_link_fields(link) for link in above]
        rows = Column(column.relation, "")
        fields["rows_decided_by"] = [_link_fields(link) for link in graph.above(rows)]
    if down:
        fields["goes_into"] = [_link_fields(link) for link in below]
        fields["affects"] = [
            {
                "table": found.table.relation,
                "name": found.table.name,
                "columns": list(found.columns),
                "rows": found.rows,
            }
            for found in graph.affected(begun).values()
        ]
    return fields


def _link_fields(link: Link) -> dict[str, Any]:
    return {
        "from": {"table": link.above.relation, "column": link.above.name},
        "to": {"table": link.below.relation, "column": link.below.name or None},
        "how": link.how,
    }


def _walk(
    begun: Iterable[Column],
    links: Callable[[Column], Sequence[Link]],
    other: Callable[[Link], Column],
    depth: int | None,
) -> list[Link]:
    """Links of values and, downwards, to rows; each once, the nearest first."""
    found: dict[Link, None] = {}
    seen = set(begun)
    ahead = list(seen)
    while ahead and depth != 0:
        following = []
        for column in sorted(ahead):
            for link in links(column):
                found[link] = None
                if other(link).name and other(link) not in seen:
                    seen.add(other(link))
                    following.append(other(link))
        ahead = following
        depth = None if depth is None else depth - 1
    return list(found)


def print_lineage(
    graph: ColumnGraph, column: Column, up: bool, down: bool, depth: int | None, console: Console
) -> None:
    """Prints what a column or a table is made of, and what is made of it."""
    table = graph.tables[column.relation]
    told = f".{column.name}" if column.name else ""
    console.print(f"[bold]{table.relation}{told}[/bold]  [dim]{table.kind}[/dim]")
    if table.note:
        console.print(f"Its columns cannot be followed: {table.note}")
    if column.name:
        _print_column(graph, column, up, down, depth, console)
    else:
        _print_table(graph, table, up, down, console)


def _print_column(
    graph: ColumnGraph, column: Column, up: bool, down: bool, depth: int | None, console: Console
) -> None:
    from rich.tree import Tree

    if up:
        if graph.above(column):
            tree = Tree("made of")
            _grow(tree, graph, column, graph.above, lambda link: link.above, depth, set())
            console.print(tree)
        else:
            console.print(_nothing_above(graph.tables[column.relation]))
        _print_deciding(graph, column.relation, console)
    if down:
        values = [link for link in graph.below(column) if link.below.name]
        if values:
            tree = Tree("goes into")
            _grow(tree, graph, column, graph.below, lambda link: link.below, depth, set())
            console.print(tree)
        _print_affected(graph, [column], console)


def _nothing_above(table: Table) -> str:
    if table.kind in ("source", "seed", "snapshot"):
        return f"made of nothing here: {'an' if table.kind[0] in 'aeiou' else 'a'} {table.kind}"
    return "made of no column: a constant, or a count of rows"


def _grow(
    tree: Tree,
    graph: ColumnGraph,
    column: Column,
    links: Callable[[Column], Sequence[Link]],
    other: Callable[[Link], Column],
    depth: int | None,
    seen: set[Column],
) -> None:
    if depth == 0:
        return
    for link in links(column):
        found = other(link)
        if not found.name:
            continue
        table = graph.tables[found.relation]
        again = found in seen and bool(links(found))
        how = _HOW.get(link.how, link.how) + (", see above" if again else "")
        kind = " [dim](source)[/dim]" if table.kind == "source" else ""
        branch = tree.add(f"{table.name}.{found.name}  [dim]{how}[/dim]{kind}")
        if not again:
            seen.add(found)
            left = None if depth is None else depth - 1
            _grow(branch, graph, found, links, other, left, seen)


def _print_deciding(graph: ColumnGraph, relation: str, console: Console) -> None:
    links = graph.above(Column(relation, ""))
    if not links:
        return
    console.print("which rows there are is decided by")
    for how in dict.fromkeys(link.how for link in links):
        names = [_name(graph, link.above) for link in links if link.how == how]
        console.print(f"  {how}: {', '.join(names)}", soft_wrap=True)


def _print_affected(graph: ColumnGraph, columns: Sequence[Column], console: Console) -> None:
    found = graph.affected(columns)
    if not found:
        console.print("nothing is made of it")
        return
    console.print(f"a change of it reaches {count(len(found), 'table')}:")
    for affected in found.values():
        parts = [", ".join(affected.columns)] if affected.columns else []
        parts += ["which rows there are"] if affected.rows else []
        console.print(f"  {affected.table.name}: {'; '.join(parts)}", soft_wrap=True)


def _print_table(graph: ColumnGraph, table: Table, up: bool, down: bool, console: Console) -> None:
    for name in table.columns:
        column = Column(table.relation, name)
        parts = []
        if up:
            above = [_name(graph, link.above) for link in graph.above(column)]
            parts.append(f"<- {', '.join(above)}" if above else "")
        if down:
            below = [_name(graph, link.below) for link in graph.below(column) if link.below.name]
            parts.append(f"-> {', '.join(below)}" if below else "")
        text = "  ".join(part for part in parts if part)
        console.print(f"  {name}  [dim]{text}[/dim]", soft_wrap=True)
    if up:
        _print_deciding(graph, table.relation, console)
    if down:
        _print_affected(graph, [Column(table.relation, name) for name in table.columns], console)


def _name(graph: ColumnGraph, column: Column) -> str:
    return f"{graph.tables[column.relation].name}.{column.name}"


def mermaid(graph: ColumnGraph, column: Column, up: bool, down: bool, depth: int | None) -> str:
    """The links as a flowchart in Mermaid's language, a box for each table."""
    fields = lineage_fields(graph, column, up, down, depth)
    links = [*fields.get("made_of", ()), *fields.get("goes_into", ())]
    boxes: dict[str, dict[str, None]] = {}
    lines = []
    for link in links:
        ends = []
        for end in (link["from"], link["to"]):
            boxes.setdefault(end["table"], {})[end["column"] or "rows"] = None
            ends.append(_identifier(end["table"], end["column"] or "rows"))
        arrow = "-->" if link["how"] == "unchanged" else f"-- {link['how']} -->"
        lines.append(f"  {ends[0]} {arrow} {ends[1]}")
    drawn = []
    for relation, columns in boxes.items():
        drawn.append(f'  subgraph {_identifier(relation)}["{graph.tables[relation].name}"]')
        drawn += [f'    {_identifier(relation, name)}["{name}"]' for name in columns]
        drawn.append("  end")
    return "\n".join(["flowchart LR", *drawn, *dict.fromkeys(lines)])


def _identifier(*parts: str) -> str:
    return "__".join("".join(c if c.isalnum() else "_" for c in part) for part in parts)
