"""Reads landed files again that were refused, or that today's declaration reads otherwise.

ledger + landing + declarations -> `due_again` -> `SourceLoader.replay` -> begin, take out their
rows and entries, load them anew, `ledger.replays`, commit

Afterwards raw is what loading all of landing into an empty warehouse would give: where a changed
declaration concerns files that are loaded, the whole table is made anew, with load ids, positions
and columns as if it had always been read so. Killed at any instruction, a source is all as before
or all replayed. Left out: what staging makes of the rows, which the next build decides.
"""

from __future__ import annotations

import fnmatch
import posixpath
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass

from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import BadInput
from ingestion.ledger import Cause, KnownFile, has_ledger, known_files
from ingestion.load import Again, LoadResult, SourceLoader, loading
from ingestion.progress import OnProgress
from ingestion.settings import Settings
from ingestion.warehouse import connect


@dataclass(frozen=True)
class FileAgain:
    """A file that a replay reads again.

    Attributes:
        source: Name of the source.
        table: Name of its table.
        file: Its path below landing.
        origin_name: Its name at the origin; None where the origin is no file.
        cause: It was `refused`, its `declaration` has changed, or it was `asked` for.
        rows_loaded: Its rows in raw now.
        rows_rejected: Its rejected records now.
    """

    source: str
    table: str
    file: str
    origin_name: str | None
    cause: Cause
    rows_loaded: int
    rows_rejected: int


def replay(
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    *,
    files: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> LoadResult:
    """Reads files again under today's declarations, one transaction a source.

    Args:
        declarations: Sources and tables to look at.
        settings: The project's settings.
        files: Only these, changed or not: names at the origin or paths in landing, with `*`.
        on_progress: Told of each table.

    Returns:
        What was loaded; `replays` has each file before and after. Files that still cannot be read
        are in `refused`.

    Raises:
        LockHeld: Another process has the warehouse open.
        BadInput: No file bears a given name, a loaded file could not be read any more (nothing of
            its source is changed then), or landing is damaged.
        DiskFull: There is no room; the source at work is as before.
    """
    started = time.monotonic()
    result = LoadResult()
    with loading(settings) as connection:
        loaders = [
            SourceLoader(connection, settings, declaration, result, on_progress)
            for declaration in declarations
        ]
        known = [known_files(connection, declaration.name) for declaration in declarations]
        found = [
            _again(loader, declaration, entered, files)
            for loader, declaration, entered in zip(loaders, declarations, known, strict=True)
        ]
        _check_named(files, [entry.known for again, _ in found for entry in again.values()], known)
        for loader, (again, whole) in zip(loaders, found, strict=True):
            if again:
                loader.replay(again, whole)
    result.seconds = time.monotonic() - started
    return result


def due_again(
    declarations: Sequence[SourceDeclaration], settings: Settings, files: Sequence[str] = ()
) -> list[FileAgain]:
    """The files that `replay` would read again, and why; nothing is written.

    Raises:
        LockHeld: Another process has the warehouse open.
        BadInput: There is no warehouse, or no file bears a given name.
    """
    listed: list[FileAgain] = []
    with closing(connect(settings, read_only=True)) as connection:
        known = [
            known_files(connection, declaration.name) if has_ledger(connection) else {}
            for declaration in declarations
        ]
        for declaration, entered in zip(declarations, known, strict=True):
            loader = SourceLoader(connection, settings, declaration, LoadResult(), None)
            again, _ = _again(loader, declaration, entered, files)
            listed += [
                FileAgain(
                    declaration.name,
                    entry.known.table,
                    entry.known.file,
                    entry.known.origin_name,
                    entry.cause,
                    entry.known.rows_loaded,
                    entry.known.rows_rejected,
                )
                for entry in again.values()
                if entry.cause is not None
            ]
    _check_named(files, listed, known)
    return listed


def _again(
    loader: SourceLoader,
    declaration: SourceDeclaration,
    known: dict[tuple[str, str], KnownFile],
    files: Sequence[str],
) -> tuple[dict[tuple[str, str], Again], set[str]]:
    """The files of a source that are read again, and the tables that are made anew by it."""
    again: dict[tuple[str, str], Again] = {}
    whole: set[str] = set()
    for table in declaration.tables:
        found = _of_table(loader, table, known, files)
        if any(e.cause == "declaration" and e.known.status == "loaded" for e in found.values()):
            whole.add(table.name)
        else:
            found = {file: entry for file, entry in found.items() if entry.cause}
        if found and len(found) == sum(name == table.name for name, _ in known):
            whole.add(table.name)
        again |= {(table.name, file): entry for file, entry in found.items()}
    return again, whole


def _of_table(
    loader: SourceLoader,
    table: TableDeclaration,
    known: dict[tuple[str, str], KnownFile],
    files: Sequence[str],
) -> dict[str, Again]:
    """Each entered file of a table with its cause, if it has one."""
    found: dict[str, Again] = {}
    for due in loader.landed(table):
        entered = known.get((table.name, due.file))
        if entered is None:
            continue
        cause: Cause | None = None
        if files:
            if not _is_named(entered.origin_name, due.file, files):
                continue
            cause = "asked"
        elif loader.reads_otherwise(table, due, entered):
            cause = "declaration"
        if entered.status == "refused":
            cause = "refused"
        found[due.file] = Again(entered, cause)
    return found


def _is_named(origin_name: str | None, file: str, files: Sequence[str]) -> bool:
    names = {file, posixpath.basename(file)}
    if origin_name:
        names |= {origin_name, posixpath.basename(origin_name)}
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in files)


def _check_named(
    files: Sequence[str],
    found: Collection[KnownFile | FileAgain],
    known: Sequence[dict[tuple[str, str], KnownFile]],
) -> None:
    """Every given name is that of a file.

    Raises:
        BadInput: One is not.
    """
    for pattern in files:
        if any(_is_named(entry.origin_name, entry.file, [pattern]) for entry in found):
            continue
        entered = [entry for entries in known for entry in entries.values()]
        names = [entry.origin_name or entry.file for entry in entered]
        raise BadInput(
            f"no loaded or refused file is called {pattern!r}",
            hint="A file is named as at its origin or as in `_file`, `*` stands for any text; "
            + (f"for example {names[-1]}." if names else "nothing is loaded yet."),
        )
