"""What the work may take of the machine: memory, room for temporary files, space that stays free.

`[limits]` -> `apply_budget` for every DuckDB that is opened, `require_free` before each step

DuckDB sorts and joins in its memory limit and writes the rest to a temporary folder, one for each
process, so that what a killed process left there can be told from what is in use. The budget is the
process's: DuckDB gets what Python and its libraries leave of it. Left out: what they come to hold
after DuckDB was opened, which are batches, not tables.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.errors import DiskFull
from ingestion.settings import Settings
from ingestion.units import bytes_of, tell_bytes

if TYPE_CHECKING:
    import duckdb

# DuckDB cannot sort or join in a few megabytes.
_LEAST_MEMORY = 256 * 2**20
# Buffers of readers, what the allocator keeps and modules that are imported later: a process of
# 145 MB that loaded a CSV file of 1 GB with a limit of 1,000 MB came to 1,374 MB.
_UNCOUNTED = 256 * 10**6
# What is committed waits in the log, and in memory, before DuckDB writes it into the tables. With
# its 16 MB that came in the middle of a build, and row groups were written more than once.
_LOG, _SHARE_OF_LOG = 256 * 2**20, 8
# A budget up to here is DuckDB's alone: Python would leave it too little to work with.
_ALL_TO_DUCKDB = 512 * 10**6


def memory_limit(settings: Settings, among: int = 1) -> str:
    """DuckDB's memory limit as a size; a share is taken of the machine's (or cgroup's) memory.

    Args:
        settings: The project's settings.
        among: How many databases work at the same time.
    """
    text = settings.limits.memory.strip()
    if not text.endswith("%") and among == 1:
        return text
    share = bytes_of(text, _machine_memory()) // among
    return f"{max(share, _LEAST_MEMORY) // 2**20}MiB"


def duckdb_limit(settings: Settings) -> int:
    """Bytes that a DuckDB of this process may take now, so that the process stays in its budget."""
    import psutil

    budget = bytes_of(memory_limit(settings))
    resident = int(psutil.Process().memory_info().rss)
    left = budget - resident - max(budget // 8, _UNCOUNTED)
    return max(left, budget // 2, min(budget, _ALL_TO_DUCKDB))


def temporary_limit(settings: Settings) -> int:
    """Bytes that DuckDB may write to its temporary folder; a share is taken of what is free now."""
    return bytes_of(settings.limits.disk, free_space(settings.state_dir)[0])


def temporary_dir(settings: Settings) -> Path:
    """This process's folder for DuckDB's temporary files."""
    return settings.temporary_dir / f"{socket.gethostname()}-{os.getpid()}"


def apply_budget(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Holds a connection, and all that share its database, to the project's limits."""
    connection.execute("set memory_limit = ?", [f"{duckdb_limit(settings) // 2**10}KiB"])
    log = min(_LOG, bytes_of(memory_limit(settings)) // _SHARE_OF_LOG)
    connection.execute("set wal_autocheckpoint = ?", [f"{log // 2**10}KiB"])
    connection.execute("set temp_directory = ?", [str(temporary_dir(settings))])
    size = f"{temporary_limit(settings) // 2**10}KiB"
    connection.execute("set max_temp_directory_size = ?", [size])


def sweep_temporary(settings: Settings) -> list[Path]:
    """Removes temporary files of processes that are no more, and returns their folders."""
    removed = abandoned_temporary(settings)
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
    return removed


def abandoned_temporary(settings: Settings) -> list[Path]:
    """Folders of temporary files whose process is no more; those of other machines are left out."""
    if not settings.temporary_dir.is_dir():
        return []
    prefix = f"{socket.gethostname()}-"
    found = []
    for folder in sorted(settings.temporary_dir.iterdir()):
        number = folder.name.removeprefix(prefix)
        if folder.name.startswith(prefix) and number.isdigit() and not _is_alive(int(number)):
            found.append(folder)
    return found


def free_space(place: Path) -> tuple[int, int]:
    """Free and total bytes of the disk on which a place lies or would lie."""
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return usage.free, usage.total


def required_space(settings: Settings) -> int:
    """Bytes that have to be free for a run to start or to go on."""
    return bytes_of(settings.limits.min_free, free_space(settings.data_dir)[1])


def require_free(settings: Settings, what: str) -> None:
    """Ends the work, in good order, before the disk is full.

    Args:
        settings: The project's settings.
        what: What is left undone, such as `the run does not start`.

    Raises:
        DiskFull: Less is free than `[limits] min_free` says.
    """
    places = (settings.data_dir, settings.landing_dir, settings.warehouse_path.parent)
    for place in dict.fromkeys((*places, settings.published_dir, settings.state_dir)):
        free, total = free_space(place)
        wanted = bytes_of(settings.limits.min_free, total)
        if free < wanted:
            raise DiskFull(
                f"{what}: {tell_bytes(free)} are free below {place}, {tell_bytes(wanted - free)} "
                f"less than [limits] min_free = {settings.limits.min_free} asks for",
                hint="Free space, then run again: nothing is half-done. `wellspring clean` removes "
                "what can be made again, `wellspring prune` what is older than it has to be kept.",
            )


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _machine_memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
