"""Reads tables whole at an exact point of the log, for what the log does not tell.

PostgreSQL: temporary slot -> its consistent point and snapshot ┐
MariaDB: snapshot -> its position in the log (`mariadb`) ───────┴> rows of the tables -> `Reading`

At first nothing has landed; later a column came that rows have values of, or the log was lost. The
rows are kept until the log has come to that point: then they are compared with landing, and what
differs is landed in its place among the changes. Left out: the comparison.
"""

from __future__ import annotations

import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ingestion.cdc.pgoutput import lsn_number, lsn_text
from ingestion.cdc.replication import Replication, joined, make_slot
from ingestion.cdc.server import Server, Structure
from ingestion.cdc.writing import spool
from ingestion.database import read_whole
from ingestion.databases.base import Session
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.delta import Spool
from ingestion.errors import SourceFailed
from ingestion.failpoints import failpoint
from ingestion.settings import Settings

log = logging.getLogger(__name__)

_BEAT_SECONDS = 5.0
_ATTEMPTS = 5


@dataclass(frozen=True)
class Reading:
    """All rows of a table as of a point of the log.

    Attributes:
        point: What was committed before this position is in the rows, nothing else is.
        moment: The time of the reading, in microseconds since 1970.
        structure: What the table looked like.
        rows: The rows.
        is_first: Whether changes before the point say nothing to us.
    """

    point: int
    moment: int
    structure: Structure
    rows: Spool
    is_first: bool


class Catalog(Protocol):
    """What the server tells of its tables."""

    def structure(self, table: TableDeclaration) -> Structure | None:
        """A declared table as the catalog has it; None if it is not there."""

    def fault(self, message: str, hint: str, table: str | None = None) -> SourceFailed:
        """An error of this source."""


class TableReader(ABC):
    """Reads tables of one source.

    Args:
        catalog: The database.
        declaration: The source.
        settings: The project's settings.
    """

    def __init__(
        self, catalog: Catalog, declaration: SourceDeclaration, settings: Settings
    ) -> None:
        self._catalog = catalog
        self._declaration = declaration
        self._settings = settings
        self._missing: set[str] = set()
        self._number = 0
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def structures(self, known: Mapping[str, Any]) -> dict[str, Structure]:
        """Every declared table as the catalog has it now; without those that were dropped.

        Args:
            known: Names of the tables that have landed: only these may be missing.

        Raises:
            SourceFailed: A table has never been there, or has no log.
        """
        found = {}
        for table in self._declaration.all_tables:
            structure = self._catalog.structure(table)
            if structure is not None:
                self._missing.discard(table.name)
                self._tell_untold(table, structure)
                found[table.name] = structure
            elif table.name in known:
                if table.name not in self._missing:
                    self._missing.add(table.name)
                    log.warning(
                        "%s.%s: the table is gone from the database; what has landed of it stays",
                        self._declaration.name,
                        table.name,
                    )
            else:
                raise self._catalog.fault(
                    f"the database has no table {table.database.origin or table.name}",
                    "Correct its name, `from` or `schema`; or grant the user the right to see it.",
                    table.name,
                )
        if not found:
            raise self._catalog.fault("none of its tables is there", "See whether it is the one.")
        return found

    def _tell_untold(self, table: TableDeclaration, structure: Structure) -> None:
        told = (table.name, structure.untold)
        if structure.untold and told not in self._told:
            self._told.add(told)
            log.warning(
                "%s.%s: left out %s: generated, so the log does not tell it",
                self._declaration.name,
                table.name,
                joined(structure.untold),
            )

    def read(
        self, tables: Sequence[str], first: Sequence[str], beat: Callable[[], None]
    ) -> dict[str, Reading]:
        """Reads tables at one point of the log.

        Args:
            tables: Their names.
            first: Those of which changes before that point say nothing to us.
            beat: Called every few seconds meanwhile.

        Returns:
            The readings; without tables that are gone.
        """
        log.info("%s: reading %s whole", self._declaration.name, joined(tables))
        for _ in range(_ATTEMPTS):
            with ThreadPoolExecutor(1, "snapshot") as pool:
                found = _await(pool.submit(self._read, tables, first), beat)
            if found is not None:
                return found
        raise SourceFailed(
            "its tables are being written anew all the time",
            source=self._declaration.name,
            may_pass=True,
            hint="Wait until changes of tables are through.",
        )

    @abstractmethod
    def _read(self, tables: Sequence[str], first: Sequence[str]) -> dict[str, Reading] | None:
        """None if a table was written anew between the snapshot and its reading."""

    def _folder(self) -> Path:
        """An empty folder for the next reading."""
        self._number += 1
        folder = spool(self._settings, self._declaration.name) / f"reading{self._number}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def _declared(self, name: str) -> TableDeclaration:
        return next(t for t in self._declaration.all_tables if t.name == name)

    def _rows(self, session: Session, name: str, structure: Structure, folder: Path) -> Spool:
        from ingestion.warehouse import in_memory

        folder.mkdir(parents=True)
        connection = in_memory(self._settings)
        try:
            connection.execute("set threads = 2")
            rows = read_whole(
                session,
                self._declaration,
                self._declared(name),
                connection,
                folder,
                structure.untold,
            )
            failpoint("cdc.table_read")
            return rows
        finally:
            connection.close()


class Reader(TableReader):
    """Reads tables of a PostgreSQL.

    Args:
        server: The database.
        declaration: The source.
        settings: The project's settings.
    """

    def __init__(self, server: Server, declaration: SourceDeclaration, settings: Settings) -> None:
        super().__init__(server, declaration, settings)
        self._server = server

    def _read(self, tables: Sequence[str], first: Sequence[str]) -> dict[str, Reading] | None:
        from psycopg import sql

        from ingestion.databases.postgres import PostgresSession, at_snapshot

        folder = self._folder()
        found = {}
        with Replication(self._server.url) as side:
            name = f"{self._server.slot_name[:40]}_{os.getpid()}_{self._number}"
            made = make_slot(side, name, temporary=True)
            point, moment = lsn_number(made["consistent_point"] or "0/0"), self._server.moment()
            snapshot = made["snapshot_name"] or ""
            with at_snapshot(self._server.database.connection, snapshot) as view:
                present = {}
                for table in tables:
                    structure = self._server.structure(self._declared(table), view)
                    if structure is not None:
                        present[table] = structure
                        label = sql.Identifier(structure.schema, structure.name)
                        view.execute(sql.SQL("lock table {} in access share mode").format(label))
                if not all(self._server.is_as_seen(s.oid, view) for s in present.values()):
                    return None
                for table, structure in present.items():
                    rows = self._rows(PostgresSession(view), table, structure, folder / table)
                    is_first = table in first
                    found[table] = Reading(point, moment, structure, rows, is_first)
        log.info("%s: read at %s", self._declaration.name, lsn_text(point))
        return found


def _await(
    future: Future[dict[str, Reading] | None], beat: Callable[[], None]
) -> dict[str, Reading] | None:
    while True:
        try:
            return future.result(timeout=_BEAT_SECONDS)
        except TimeoutError:
            if future.done():
                raise
            beat()
