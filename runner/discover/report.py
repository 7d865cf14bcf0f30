"""What was discovered, for the terminal.

`Discovery` -> tables with keys -> references -> entities -> what staging has to deal with -> text

The page and the JSON have all of it; here is what one wants to see first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runner.discover.model import ColumnProfile, Discovery, Key, Overlap, Reference, TableProfile

_MOST_REFERENCES = 200
_TABLE_HEADS = ("table", ">rows", "key", "new rows by", "to deal with")
_REFERENCE_HEADS = ("from", "to", ">score", ">orphans", "why")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Tells on stderr which table is on; on a terminal it leaves nothing behind."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda name: None
        return
    with console.status("reading the project") as status:
        yield lambda name: status.update(f"looking at {name}")


def print_discovery(found: Discovery, console: Any, page: str) -> None:
    """Shows what was found.

    Args:
        found: The discovery.
        console: Where to.
        page: Where the page lies.
    """
    from rich.text import Text

    tables = _grid(f"{len(found.tables)} tables", _TABLE_HEADS)
    for table in found.tables:
        cells = (table.full_name, f"{table.rows:,}", key_text(table.primary_key))
        tables.add_row(*(Text(cell) for cell in (*cells, cursor_text(table), trouble_text(table))))
    console.print(tables)
    references = _grid(f"\n{len(found.references)} references", _REFERENCE_HEADS)
    for reference in found.references[:_MOST_REFERENCES]:
        references.add_row(*(Text(cell) for cell in reference_cells(reference)))
    if found.references:
        console.print(references)
    for entity in found.entities:
        console.print(Text(f"\nthe same {entity.name} in {', '.join(entity.tables)}"))
        for overlap in entity.overlaps:
            console.print(Text(f"  {overlap_text(overlap)}"))
    console.print(Text(f"\nAll of it: {page}"), soft_wrap=True)


def _grid(title: str, heads: Sequence[str]) -> Any:
    from rich.table import Table

    grid = Table(title=title, title_justify="left", box=None)
    for head in heads:
        right = head.startswith(">")
        grid.add_column(
            head.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    return grid


def key_text(key: Key | None) -> str:
    """A key in words."""
    if key is None:
        return "none found"
    text = ", ".join(key.columns)
    return text if key.holds else f"{text} (not for {key.duplicates + key.nulls:,} rows)"


def cursor_text(table: TableProfile) -> str:
    """The best cursor of a table."""
    return table.cursors[0].column if table.cursors else ""


def trouble_text(table: TableProfile) -> str:
    """What staging has to deal with, in a few words."""
    typed = sum(column.behind is not None for column in table.columns)
    personal = sum(column.personal is not None for column in table.columns)
    problems = sum(len(column.problems) for column in table.columns)
    counted = ((typed, "to type"), (personal, "personal"), (problems, "problems"))
    return ", ".join(f"{number} {word}" for number, word in counted if number)


def reference_cells(reference: Reference) -> tuple[str, str, str, str, str]:
    """A reference as cells: from, to, score, orphans, why."""
    return (
        f"{reference.from_table}.{', '.join(reference.from_columns)}",
        f"{reference.to_table}.{', '.join(reference.to_columns)}",
        f"{reference.score:.2f}",
        f"{reference.orphan_rows:,}" if reference.orphan_rows else "",
        "; ".join(reference.reasons),
    )


def overlap_text(overlap: Overlap) -> str:
    """What two tables have in common, in words."""
    left = f"{overlap.left_table}.{overlap.left_column}"
    right = f"{overlap.right_table}.{overlap.right_column}"
    return (
        f"{left} and {right}: {overlap.shared:,} in common of {overlap.left_values:,} and "
        f"{overlap.right_values:,}"
    )


def behind_text(column: ColumnProfile) -> str:
    """What the texts of a column mean, in words; empty if nothing but texts."""
    behind = column.behind
    if behind is None:
        return ""
    told = [behind.kind]
    if behind.format:
        told.append(behind.format)
    if behind.decimal_mark == ",":
        told.append("decimal comma")
    if behind.thousands_mark:
        told.append(f"groups by {behind.thousands_mark!r}")
    if behind.is_ambiguous:
        told.append("ambiguous")
    if behind.misses:
        told.append(f"{behind.misses:,} cannot be read so")
    return ", ".join(told)
