"""Compacts landing as a run of its own, and tells what came of it.

sources chosen -> `ingestion.compact` -> items of the run history, a table for people

Left out: how files are put together; ingestion knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from runner.backup.report import told_size
from runner.history import Item
from runner.machine import StepResult, Task
from runner.report import count
from runner.steps import Run

if TYPE_CHECKING:
    from rich.console import Console

    from ingestion.compact import Compacted

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)


class Compaction:
    """The step `compact`, and what it did.

    Args:
        smaller_than: A file of fewer bytes is small.

    Attributes:
        done: One entry a folder of landing, once it is done.
    """

    def __init__(self, smaller_than: int) -> None:
        self._smaller_than = smaller_than
        self.done: list[Compacted] = []

    @property
    def step(self) -> Task:
        """The step for the pipeline."""
        return Task("compact", "Put small files of landing together.", self._work)

    def _work(self, run: Run) -> StepResult:
        from ingestion.compact import compact

        self.done = compact(
            run.declarations,
            run.settings,
            smaller_than=self._smaller_than,
            on_table=lambda name: run.reporter.activity("compact", name, ""),
        )
        items = tuple(
            Item("table", f"{d.source}.{d.table}", "ok", files=d.files_after)
            for d in changed(self.done)
        )
        before = sum(d.files_before for d in self.done)
        after = sum(d.files_after for d in self.done)
        if not items:
            return StepResult("nothing_new", f"{count(before, 'file')}, none to put together")
        return StepResult("ok", f"{count(before, 'file')} became {after:,}", items)


def changed(done: Sequence[Compacted]) -> list[Compacted]:
    """Folders in which anything was put together or cleared."""
    return [d for d in done if d.parts or d.files_before != d.files_after]


def size_of(text: str) -> int:
    """Bytes of a size such as `16MB` or `4MiB`.

    Raises:
        BadInput: It is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None or not float(match[1]):
        raise BadInput(
            f"{text!r} is no size", key="--smaller-than", hint="Say it as 16MB or 512KiB."
        )
    unit = 1024 if match[3] else 1000
    return int(float(match[1]) * unit ** " KMGT".index(match[2].upper() or " "))


def compaction_fields(done: Sequence[Compacted]) -> list[dict[str, Any]]:
    """What was compacted, as named values."""
    return [vars(folder) for folder in changed(done)]


def print_compaction(done: Sequence[Compacted], console: Console) -> None:
    """Shows a person what was compacted."""
    from rich import box
    from rich.table import Table

    shown = changed(done)
    if not shown:
        console.print("nothing to put together: no two small files stand beside each other")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("table", no_wrap=True)
    for name in ("files before", "now", "size before", "now"):
        table.add_column(name, justify="right", no_wrap=True)
    for folder in shown:
        table.add_row(
            f"{folder.source}.{folder.table}",
            f"{folder.files_before:,}",
            f"{folder.files_after:,}",
            told_size(folder.bytes_before),
            told_size(folder.bytes_after),
        )
    console.print(table)
