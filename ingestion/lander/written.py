"""Files of a stream in landing: their names, how they are written, and the checkpoint they hold.

messages as columns -> temporary file -> fsync -> rename -> fsync of the folder
landing/<source>/<table>/<day>/<load>.<first>-<last>.parquet -> footer of the newest -> checkpoint

A file that bears its name is whole and durable, and counts from then on: there is no mark beside
it. Load ids are times that grow strictly within a table, whatever the clock does. Left out: what
the messages are and when a file is closed, which `stream` knows.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.durable import sync
from ingestion.errors import BadInput, LockHeld, first_line
from ingestion.failpoints import failpoint
from ingestion.lander.consumer import Gap
from ingestion.landing import DAY_FOLDER
from ingestion.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

CHECKPOINT_KEY = b"wellspring_checkpoint"
GAPS_KEY = b"wellspring_gaps"
_NAME = re.compile(r"^(\d+\.\d{6})\.([^.-]*)-([^.-]*)\.parquet$")
_TEMPORARY = ".landing.tmp"
_ROW_GROUP = 122_880


@dataclass(frozen=True)
class Newest:
    """The newest file of a stream.

    Attributes:
        load_id: Its load id; empty where there is no file yet.
        checkpoint: Last landed sequence number by shard.
        path: Where it lies; None where there is none.
    """

    load_id: str = ""
    checkpoint: Mapping[str, int] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class Written:
    """A file that was just made durable.

    Attributes:
        path: Where it lies.
        load_id: Its load id.
        rows: Its messages.
        bytes: Its size.
    """

    path: Path
    load_id: str
    rows: int
    bytes: int


class StreamFolder:
    """The files of one stream; to write, hold its lock.

    Args:
        settings: The project's settings.
        source: Name of the source.
        table: Name of the table.
        width: Digits to which sequence numbers are padded in names.
    """

    def __init__(self, settings: Settings, source: str, table: str, width: int = 20) -> None:
        self.path = settings.landing_dir / source / table
        self.source, self.table = source, table
        self._width = width
        self._lock_path = state_folder(settings) / f"{source}.{table}.lock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Makes this process the only one that lands the stream.

        Raises:
            LockHeld: Another process does.
        """
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockHeld(
                    "a lander is at work on it already",
                    source=self.source,
                    table=self.table,
                    hint="One is enough: `wellspring status` shows it.",
                ) from None
            yield

    def clean(self) -> None:
        """Removes what a killed lander was writing."""
        for day in self.days():
            for path in (self.path / day).glob(f".*{_TEMPORARY}"):
                path.unlink()

    def days(self) -> list[str]:
        """Names of the folders of days, oldest first."""
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(self.path) if DAY_FOLDER.match(entry.name))

    def newest(self) -> Newest:
        """The newest file and the checkpoint in it. Compaction leaves that file alone.

        Raises:
            BadInput: It cannot be read.
        """
        best = max(
            (
                (load, self.path / day / name)
                for day in self.days()
                for name, load in _loads(self.path / day)
            ),
            default=None,
        )
        if best is None:
            return Newest()
        return Newest(best[0], read_checkpoint(best[1]), best[1])

    def write(
        self,
        content: pa.Table,
        names: tuple[int, int],
        checkpoint: Mapping[str, int],
        gaps: Sequence[Gap],
        after: str,
    ) -> Written:
        """Makes a file durable.

        Args:
            content: Its rows.
            names: First and last sequence number, for its name.
            checkpoint: Last sequence number by shard once it is landed.
            gaps: What was found missing since the file before.
            after: Load id of the file before; empty if there is none.
        """
        import pyarrow.parquet as pq

        load_id = next_load_id(after)
        folder = self._day_folder(load_id)
        first, last = (str(number).zfill(self._width) for number in names)
        target = folder / f"{load_id}.{first}-{last}.parquet"
        temporary = folder / f".{load_id}{_TEMPORARY}"
        told = {
            CHECKPOINT_KEY: json.dumps(dict(checkpoint)).encode(),
            GAPS_KEY: json.dumps([asdict(gap) for gap in gaps]).encode(),
        }
        try:
            pq.write_table(
                content.replace_schema_metadata(told),
                temporary,
                compression="zstd",
                compression_level=1,
                use_dictionary=["_shard", "_topic", "_key"],
                write_statistics=["_sequence"],
                row_group_size=_ROW_GROUP,
            )
            size = temporary.stat().st_size
            failpoint("land.file_written")
            sync(temporary)
            failpoint("land.before_rename")
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        failpoint("land.renamed")
        sync(folder)
        return Written(target, load_id, content.num_rows, size)

    def _day_folder(self, load_id: str) -> Path:
        day = datetime.fromtimestamp(int(load_id.partition(".")[0]), UTC).date().isoformat()
        folder = self.path / day
        if not folder.is_dir():
            folder.mkdir(parents=True)
            failpoint("land.day_made")
            # A folder whose name is lost in a power cut would take its files with it.
            for parent in (self.path, self.path.parent, self.path.parent.parent):
                sync(parent)
        return folder


def state_folder(settings: Settings) -> Path:
    """Where landers keep locks and tell what they do."""
    return settings.state_dir / "lander"


def next_load_id(after: str) -> str:
    """A load id of now, or the next one after the given id if the clock lags behind it."""
    now = time.time_ns() // 1000
    if after:
        seconds, _, rest = after.partition(".")
        now = max(now, int(seconds) * 1_000_000 + int(rest.ljust(6, "0")) + 1)
    return f"{now // 1_000_000}.{now % 1_000_000:06d}"


def read_footer(path: Path) -> Mapping[bytes, bytes]:
    """What a landed file says of itself.

    Raises:
        BadInput: It cannot be read, or no lander has written it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        told: dict[bytes, bytes] = dict(pq.read_schema(path).metadata or {})
        if CHECKPOINT_KEY not in told:
            raise ValueError("its footer holds no checkpoint")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(
            f"a landed file of a stream cannot be read: {first_line(error)}",
            file=path,
            hint="Restore it from a backup of landing; the lander goes on behind the newest file.",
        ) from error
    return told


def read_checkpoint(path: Path) -> dict[str, int]:
    """Last landed sequence number by shard, as a file's footer says.

    Raises:
        BadInput: It cannot be read.
    """
    checkpoint: dict[str, int] = json.loads(read_footer(path)[CHECKPOINT_KEY])
    return checkpoint


def read_gaps(path: Path) -> list[Gap]:
    """What a file's footer says is missing before its messages.

    Raises:
        BadInput: It cannot be read.
    """
    told: list[dict[str, Any]] = json.loads(read_footer(path).get(GAPS_KEY, b"[]"))
    return [Gap(**gap) for gap in told]


def _loads(folder: Path) -> Iterator[tuple[str, str]]:
    """The newest landed file of a day with its load id; nothing where there is none."""
    newest = max((name for name in os.listdir(folder) if _NAME.match(name)), default=None)  # noqa: PTH208 - names are all that is needed, of many files
    if newest is not None:
        yield newest, newest[: newest.index(".", newest.index(".") + 1)]
