"""What a run and its steps take: the most memory in use, rows and bytes handled.

the process and its children, looked at ten times a second -> `MemoryWatch` -> `Recorder` -> history

Memory is what the operating system counts as resident, of this process and all below it, such as
workers and the companion; memory that processes share counts in each of them. A peak between two
looks is missed. Left out: time, which the pipeline notes, and limits, which others keep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.observers import Ending, Observer

if TYPE_CHECKING:
    import duckdb
    import psutil

    from runner.machine import Visit
    from runner.steps import Run

_PAUSE_SECONDS = 0.1
# To list a process's children, all processes of the machine are looked through.
_LISTING_SECONDS = 2.0


@dataclass
class MemoryWatch:
    """Looks at the memory in use until it is stopped; peaks are kept by name, several at once."""

    _peaks: dict[str, int] = field(default_factory=dict, init=False)
    _open: set[str] = field(default_factory=set, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _children: list[psutil.Process] = field(default_factory=list, init=False)
    _listed: float = field(default=float("-inf"), init=False)

    def start(self) -> None:
        """Begins to look."""
        threading.Thread(target=self._watch, name="memory", daemon=True).start()

    def stop(self) -> None:
        """Looks no more."""
        self._ended.set()

    def open(self, name: str) -> None:
        """Begins to keep a peak under this name."""
        with self._lock:
            self._open.add(name)
            self._peaks[name] = 0
        self.look()

    def close(self, name: str) -> int:
        """The peak in bytes since `open`."""
        self.look()
        with self._lock:
            self._open.discard(name)
            return self._peaks.pop(name, 0)

    def look(self) -> None:
        """Takes what is in use now into all open peaks."""
        with self._lock:
            used = self._used()
            for name in self._open:
                self._peaks[name] = max(self._peaks[name], used)

    def _watch(self) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            self.look()

    def _used(self) -> int:
        import psutil

        own = psutil.Process()
        if time.monotonic() - self._listed > _LISTING_SECONDS:
            self._children = own.children(recursive=True)
            self._listed = time.monotonic()
        used = own.memory_info().rss
        for child in self._children:
            try:
                used += child.memory_info().rss
            except psutil.Error:
                # It has ended since it was listed.
                continue
        return int(used)


def count_rows(
    connection: duckdb.DuckDBPyConnection, relations: Collection[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """Rows of tables, all asked in one query.

    Args:
        connection: The warehouse.
        relations: Schema and name of each; views, and what is not there, are passed over.
    """
    tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
    wanted = [table for table in tables if table in relations]
    if not wanted:
        return {}
    counts = " union all ".join(
        f'select {place}, count(*) from "{schema}"."{name}"'
        for place, (schema, name) in enumerate(wanted)
    )
    return {wanted[place]: int(rows) for place, rows in connection.execute(counts).fetchall()}


class Recorder(Observer):
    """Notes in the run history what a run and its steps took."""

    name = "run history"

    def __init__(self) -> None:
        self._memory = MemoryWatch()

    def on_begin(self, run: Run) -> None:
        """Begins to look at the memory."""
        self._memory.open("")
        self._memory.start()

    def on_step_begin(self, run: Run, step: str) -> None:
        """Begins the step's own peak."""
        self._memory.open(step)

    def on_step(self, run: Run, step: Visit) -> None:
        """Notes the step's peak with its rows and bytes."""
        peak = self._memory.close(step.name)
        run.history.measure_step(
            run.run_id, step.name, step.result.rows, step.result.bytes, peak or None
        )

    def on_end(self, run: Run, ending: Ending) -> None:
        """Notes the run's peak."""
        self._memory.stop()
        run.history.measure_run(run.run_id, self._memory.close("") or None)
