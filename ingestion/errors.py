"""What can go wrong while reading sources, told so that a person can mend it.

fault -> one exception class per kind of cause -> one exit code per class

Every error says what was wrong and where (source, table, file, key), and carries a hint: what to do
next. No secret may stand in a message: `connections.redact` is applied when the message is made.
Left out: faults of single rows, which are no errors but entries in `ledger.rejected_records`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.redaction import redact


class IngestionError(Exception):
    """A fault that ends the work on a source, a table or the whole run.

    Args:
        message: What was wrong, and what was expected instead.
        hint: What to do next, as an imperative sentence; empty if there is nothing to add.
        source: Name of the source concerned.
        table: Name of its table concerned.
        file: Path of the file concerned, as a person would look for it.
        key: The setting, declaration key or record concerned.
        may_pass: Whether the same attempt may succeed a little later; by default as its class says.
    """

    exit_code = 1
    may_pass = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        source: str | None = None,
        table: str | None = None,
        file: str | Path | None = None,
        key: str | None = None,
        may_pass: bool | None = None,
    ) -> None:
        if may_pass is not None:
            self.may_pass = may_pass
        self.message = redact(message)
        self.hint = redact(hint)
        self.source = source
        self.table = table
        self.file = redact(str(file)) if file is not None else None
        self.key = key
        super().__init__(self.message)

    @property
    def where(self) -> str:
        """The place of the fault: `source shop, table orders, file x.csv, key cursor`."""
        parts = (
            ("source", self.source),
            ("table", self.table),
            ("file", self.file),
            ("key", self.key),
        )
        return ", ".join(f"{word} {value}" for word, value in parts if value)

    @property
    def sentence(self) -> str:
        """Message and hint in one line, without the place."""
        end = "" if not self.hint or self.message.endswith((".", ":")) else "."
        return f"{self.message}{end} {self.hint}".strip()

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(kind: type[IngestionError], state: dict[str, object]) -> IngestionError:
    error = kind.__new__(kind)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


class SettingsError(IngestionError):
    """`wellspring.toml` or an environment variable holds something that is not a setting."""

    exit_code = 3


@dataclass(frozen=True)
class DeclarationFault:
    """One wrong place in a declaration.

    Attributes:
        file: Path of the YAML file below the project's root.
        source: Name of the source.
        table: Name of the table, or None for a key of the source itself.
        key: Dotted path of the key below `meta.ingest`.
        found: What stands there, as a short text.
        expected: What should stand there.
    """

    file: str
    source: str
    table: str | None
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        table = f", table {self.table}" if self.table else ""
        return (
            f"{self.file}: source {self.source}{table}, {self.key}: found {self.found}; "
            f"expected {self.expected}"
        )


class DeclarationError(IngestionError):
    """One or more declarations are wrong; all their faults are reported at once.

    Args:
        faults: Every fault found in every file.
        message: Used instead of the list of faults, where dbt itself refuses the project.
    """

    exit_code = 3

    def __init__(
        self, faults: Sequence[DeclarationFault] = (), *, message: str = "", hint: str = ""
    ) -> None:
        self.faults = tuple(faults)
        if not message:
            count = len(self.faults)
            title = "1 fault" if count == 1 else f"{count} faults"
            message = f"{title} in the sources' declarations:\n" + "\n".join(
                f"  {fault}" for fault in self.faults
            )
        super().__init__(message, hint=hint)


class SourceUnreachable(IngestionError):
    """A source does not answer, refuses the login, or refuses the request."""

    exit_code = 4


class ConnectionMissing(IngestionError):
    """A declaration names a connection that is not configured."""

    exit_code = 4


class SourceFailed(IngestionError):
    """A source answered, but extraction could not be carried through."""

    exit_code = 4


class LockHeld(IngestionError):
    """Another process holds the warehouse."""

    exit_code = 5
    may_pass = True


class BadInput(IngestionError):
    """What a source delivered cannot be read, or breaks a declared contract."""

    exit_code = 6


class DiskFull(IngestionError):
    """There is no room left where the data folder lies."""

    exit_code = 7


# How DuckDB, Arrow and others, which pass no errno on, word ENOSPC, EDQUOT and EFBIG.
_FULL = (
    "no space left",
    "errno 28]",
    "failed to offload data",
    "disk quota exceeded",
    "file too large",
    "max_temp_directory",
    "database or disk is full",
)


def our_error(error: BaseException | None) -> IngestionError | None:
    """The first of our errors along the chain of causes: dlt wraps what a resource raises."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, IngestionError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def network_fault(error: BaseException | None) -> bool:
    """Whether an exception, or one that caused it, says that a peer did not answer or hung up.

    Network libraries do not share Python's own classes, but name theirs alike.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        name = type(error).__name__
        if isinstance(error, (ConnectionError, TimeoutError)) or (
            isinstance(error, Exception) and ("Connection" in name or "Timeout" in name)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


RIGHTS = "Give this user the right to write there, or set another [paths] data."


def not_allowed(error: BaseException | None) -> bool:
    """Whether an exception says that this user may not write there, or that nobody may."""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def not_allowed_error(error: OSError) -> IngestionError:
    """The error to tell when `not_allowed` recognised one."""
    return IngestionError(f"not allowed: {error.strerror}", file=error.filename, hint=RIGHTS)


def disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that caused it, says that no space is left."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, DiskFull):
            return True
        if isinstance(error, OSError) and error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        ):
            return True
        text = str(error).lower()
        if any(sign in text for sign in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full_error(place: Path, error: BaseException, *, source: str | None = None) -> DiskFull:
    """The error to raise when `disk_full` recognised one.

    Args:
        place: Folder that could not be written to.
        error: What the writer raised.
        source: Name of the source that was being written.
    """
    text = str(error).lower()
    if "max_temp_directory" in text:
        return DiskFull(
            f"DuckDB's room for temporary files is used up: {first_line(error)}",
            hint="Free space, or raise [limits] disk or [limits] memory in wellspring.toml, then "
            "run again: nothing is half-done.",
            source=source,
        )
    return DiskFull(
        f"no space left below {place}: {first_line(error)}",
        hint=(
            "Free space or set [paths] data in wellspring.toml (or WELLSPRING_DATA) to a larger "
            "disk, then run again: nothing was half-loaded."
        ),
        source=source,
    )


def first_line(error: BaseException) -> str:
    """First line of an exception's text, redacted; its class name if it has none."""
    lines = str(error).strip().splitlines()
    return redact(lines[0]) if lines else type(error).__name__
