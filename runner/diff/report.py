"""The difference between two versions, for people and for programs.

`VersionDiff` -> a line a table, then columns, cells and rows of those that differ; or JSON
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.diff.compare import Sample, TableDiff, VersionDiff
from runner.report import count

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN_CELLS = 12
_SHOWN_TEXT = 60


def diff_fields(diff: VersionDiff) -> dict[str, Any]:
    """The difference as named values."""
    return {
        "before": diff.before,
        "after": diff.after,
        "tables": [_table_fields(table) for table in diff.tables],
    }


def _table_fields(table: TableDiff) -> dict[str, Any]:
    samples = [
        {"kind": sample.kind, "row": sample.values}
        | (
            {"cells": {n: {"before": b, "after": a} for n, (b, a) in sample.cells.items()}}
            if sample.kind == "changed"
            else {}
        )
        for sample in table.samples
    ]
    retyped = [{"column": n, "before": b, "after": a} for n, b, a in table.columns_retyped]
    return {
        "table": table.table,
        "state": table.state,
        "rows": {"before": table.rows_before, "after": table.rows_after},
        "columns": {
            "added": dict(table.columns_added),
            "removed": dict(table.columns_removed),
            "retyped": retyped,
        },
        "key": list(table.key) or None,
        "added": table.added,
        "removed": table.removed,
        "changed": table.changed,
        "cells": table.cells,
        "samples": samples,
    }


def print_diff(diff: VersionDiff, console: Console) -> None:
    """Shows the difference to a person."""
    console.print(f"[bold]{diff.before}[/bold] (before) and [bold]{diff.after}[/bold] (after)")
    different = [table for table in diff.tables if table.state != "equal"]
    equal = len(diff.tables) - len(different)
    if not different:
        console.print(f"no difference in {count(len(diff.tables), 'table')}")
        return
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    shown.add_column("table", no_wrap=True)
    for name in ("rows before", "after", "added", "removed", "changed"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("by")
    for table in different:
        figures = (table.rows_before, table.rows_after, table.added, table.removed, table.changed)
        shown.add_row(table.table, *map(_figure, figures), _matched(table))
    console.print(shown)
    for table in different:
        _print_table(table, console)
    if equal:
        console.print(f"{count(equal, 'table')} equal")


def _figure(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _matched(table: TableDiff) -> str:
    if table.state in ("added", "removed"):
        return f"table {table.state}"
    return ", ".join(table.key) or "whole rows: no key"


def _print_table(table: TableDiff, console: Console) -> None:
    lines = []
    if table.state == "changed":
        lines += [f"column added    {name} {kind}" for name, kind in table.columns_added]
        lines += [f"column removed  {name} {kind}" for name, kind in table.columns_removed]
    lines += [f"column retyped  {name} {old} -> {new}" for name, old, new in table.columns_retyped]
    most = sorted(table.cells.items(), key=lambda item: (-item[1], item[0]))
    if most:
        told = ", ".join(f"{name} {number:,}" for name, number in most[:_SHOWN_CELLS])
        more = len(most) - _SHOWN_CELLS
        lines.append(f"cells changed   {told}" + (f" and {more} more columns" if more > 0 else ""))
    lines += [line for sample in table.samples for line in _sample_lines(sample)]
    if lines:
        console.print(f"[bold]{table.table}[/bold]")
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _sample_lines(sample: Sample) -> list[str]:
    sign = {"added": "+", "removed": "-", "changed": "~"}[sample.kind]
    values = ", ".join(f"{name}={_short(value)}" for name, value in sample.values.items())
    cells = [f"    {n}: {_short(old)} -> {_short(new)}" for n, (old, new) in sample.cells.items()]
    return [f"{sign} {values}", *cells]


def _short(value: Any) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= _SHOWN_TEXT else f"{text[: _SHOWN_TEXT - 3]}..."
