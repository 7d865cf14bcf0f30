"""What change capture asks of a MariaDB beside its log: settings, rights, catalog, rows at a point.

connection -> `MariadbServer.check` -> `structure` of tables -> `MariadbReader`: snapshot, its place

Whatever is missing is told with the statement that mends it. Positions of the log are numbers: the
file's in the upper half, the place in it in the lower.
Left out: the log itself (`binlog`); MySQL, whose snapshots do not say where in the log they are.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ingestion.cdc.reading import Reading, TableReader
from ingestion.cdc.server import Structure
from ingestion.connections import Connection
from ingestion.databases.base import Column
from ingestion.databases.mysql import MySQL
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import SourceFailed
from ingestion.settings import Settings

if TYPE_CHECKING:
    import pymysql

_OLDEST = (10, 5)
# A table that was written anew after the snapshot.
_DEFINITION_CHANGED = 1412
_WANTED = {
    "binlog_format": ("ROW", "tells statements, not rows"),
    "binlog_row_image": ("FULL", "leaves out what did not change"),
    "binlog_row_metadata": ("FULL", "does not name columns"),
    "log_bin_compress": ("OFF", "is compressed"),
    "binlog_alter_two_phase": ("OFF", "tells an ALTER twice"),
}
_CHARSETS = ("utf8", "utf8mb3", "utf8mb4", "ascii", "latin1", "binary")
_UNTELLABLE = ("uuid", "inet4", "inet6", "xmltype")
_TABLE = """
select table_schema, table_name, table_type, engine
from information_schema.tables
where table_schema = coalesce(%s, database()) and table_name = %s
"""
_COLUMNS = """
select column_name, data_type, column_type, character_set_name, extra
from information_schema.columns
where table_schema = %s and table_name = %s
order by ordinal_position
"""
_CASCADES = """
select constraint_name, delete_rule, update_rule
from information_schema.referential_constraints
where constraint_schema = %s and table_name = %s
    and (delete_rule in ('CASCADE', 'SET NULL') or update_rule in ('CASCADE', 'SET NULL'))
"""


def position(file: str, place: int) -> int:
    """A place in a file of the log, such as `bin.000013`, as a number."""
    return int(file.rpartition(".")[2]) << 32 | place


def position_text(number: int) -> str:
    """A position for people."""
    return f"{number >> 32:06d}:{number & 0xFFFFFFFF}"


class MariadbServer:
    """A connection for everything but the log.

    Args:
        connection: Where the database is.
        declaration: The source.
    """

    def __init__(self, connection: Connection, declaration: SourceDeclaration) -> None:
        self.database = MySQL(connection)
        self._declaration = declaration
        self._open: pymysql.Connection[Any] = self.database.connect()
        self.ask("set session time_zone = '+00:00'")
        # A transaction of the catalog's would show it as it was once.
        self._open.autocommit(True)

    def close(self) -> None:
        """Ends the connection."""
        import pymysql

        try:
            self._open.close()
        except pymysql.Error:
            # Already closed by the server: that was reported where it was met.
            return

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Executes a statement and returns its rows."""
        with self._open.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def fault(self, message: str, hint: str, table: str | None = None) -> SourceFailed:
        """An error of this source."""
        return SourceFailed(message, source=self._declaration.name, table=table, hint=hint)

    def check(self) -> None:
        """Makes sure that the server tells its log, whole, and to us.

        Raises:
            SourceFailed: It does not; the hint holds the statement that mends it.
        """
        ((version, has_log, user),) = self.ask("select version(), @@log_bin, current_user()")
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if "mariadb" not in version.lower() or numbers < _OLDEST:
            raise self.fault(
                f"the server is {version}; change capture needs MariaDB 10.5 or later",
                "Read it as a source of kind: database.",
            )
        if has_log not in ("1", "ON"):
            raise self.fault(
                "the server keeps no log (log_bin is off)",
                "In its my.cnf, section [mariadbd]: log_bin, server_id = 1, binlog_format = ROW, "
                "binlog_row_metadata = FULL; then restart the server.",
            )
        told = {
            name.lower(): value for name, value in self.ask("show global variables like '%log%'")
        }
        for name, (wanted, why) in _WANTED.items():
            value = told.get(name, wanted)
            if value.upper() != wanted:
                raise self.fault(
                    f"the server's {name} is {value}: its log {why}",
                    f"As an administrator: set global {name} = '{wanted}'; and write the same into "
                    "its my.cnf. Sessions that are open keep the former setting.",
                )
        self._check_rights(user)

    def _check_rights(self, user: str) -> None:
        grants = " ".join(text for (text,) in self.ask("show grants")).upper()
        everything = "ALL PRIVILEGES ON *.*" in grants
        for right, other in (
            ("REPLICATION SLAVE", "REPLICATION REPLICA"),
            ("BINLOG MONITOR", "REPLICATION CLIENT"),
        ):
            if not everything and right not in grants and other not in grants:
                name = "@".join(f"'{part}'" for part in user.rsplit("@", 1))
                raise self.fault(
                    f"the user {user} may not read the log: it lacks {right.lower()}",
                    "As an administrator: grant replication slave, binlog monitor on *.* "
                    f"to {name};",
                )

    @property
    def system(self) -> str:
        """What tells this server from others."""
        found = self.ask("show global variables like 'server_uid'")
        return str(found[0][1] if found else self.ask("select @@server_id")[0][0])

    def position(self) -> int:
        """Where the server's log ends now."""
        file, place, *_ = self.ask("show master status")[0]
        return position(str(file), int(place))

    def files(self) -> dict[int, tuple[str, int]]:
        """Names and sizes of the log's files, by their numbers."""
        found = {}
        for name, size, *_ in self.ask("show binary logs"):
            found[position(str(name), 0) >> 32] = (str(name), int(size))
        return found

    # Tables

    def structure(self, table: TableDeclaration) -> Structure | None:
        """A declared table as the catalog has it; None if it is not there.

        Raises:
            SourceFailed: The log does not tell all of it.
        """
        ingest = table.database
        found = self.ask(_TABLE, [ingest.schema_name, ingest.origin or table.name])
        if not found:
            return None
        schema, name, kind, engine = found[0]
        label = f"{schema}.{name}"
        other = "Read it as a source of kind: database."
        if kind != "BASE TABLE":
            raise self.fault(f"{label} is a {kind.lower()}: it has no log", other, table.name)
        if engine.lower() != "innodb":
            raise self.fault(
                f"{label} is kept by {engine}, which has no transactions",
                f"alter table {label} engine = InnoDB; or read it as kind: database.",
                table.name,
            )
        for constraint, *rules in self.ask(_CASCADES, [schema, name]):
            raise self.fault(
                f"the foreign key {constraint} of {label} changes rows by itself "
                f"({' / '.join(rules).lower()}), and the log does not tell those changes",
                f"Make it restrict, or read it otherwise. {other}",
                table.name,
            )
        return Structure(zlib.crc32(label.encode()), schema, name, (), self._untold(table, label))

    def _untold(self, table: TableDeclaration, label: str) -> tuple[str, ...]:
        ingest = table.database
        untold = []
        for name, kind, full, charset, extra in self.ask(_COLUMNS, label.split(".", 1)):
            if "compressed" in full.lower():
                # Where such a column is, the library misreads those behind it.
                raise self.fault(
                    f"the column {name} of {label} is compressed: the log cannot be read",
                    f"alter table {label} modify it without compressed; or read it as "
                    "kind: database.",
                    table.name,
                )
            if "virtual" in extra.lower():
                untold.append(name)
                continue
            if (ingest.columns and name not in ingest.columns) or name in ingest.exclude_columns:
                continue
            what = kind if kind in _UNTELLABLE else None
            if charset and charset not in _CHARSETS:
                what = f"written in {charset}"
            if what:
                raise self.fault(
                    f"the column {name} of {label} is {what}: its values cannot be told by the log",
                    f"Leave it out (exclude_columns: [{name}]), or read it as kind: database.",
                    table.name,
                )
        return tuple(untold)

    def publish(self, structures: Sequence[Structure]) -> None:
        """The log tells of all tables."""

    def typed(self, columns: Sequence[tuple[str, int, int]]) -> list[Column]:
        """Types come with the log itself."""
        raise NotImplementedError(columns)

    def converted(self, texts: Sequence[str], column: Column) -> list[str]:
        """Texts of the log are those that reading writes."""
        return list(texts)


class MariadbReader(TableReader):
    """Reads tables of a MariaDB.

    Args:
        server: The database.
        declaration: The source.
        settings: The project's settings.
    """

    def __init__(
        self, server: MariadbServer, declaration: SourceDeclaration, settings: Settings
    ) -> None:
        super().__init__(server, declaration, settings)
        self._server = server

    def _read(self, tables: Sequence[str], first: Sequence[str]) -> dict[str, Reading] | None:
        import pymysql

        folder = self._folder()
        present = {}
        for name in tables:
            structure = self._server.structure(self._declared(name))
            if structure is not None:
                present[name] = structure
        found = {}
        database = MySQL(self._server.database.connection)
        try:
            with database.consistent_view(), database.session() as session:
                point, moment = _place(database)
                for name, structure in present.items():
                    rows = self._rows(session, name, structure, folder / name)
                    found[name] = Reading(point, moment, structure, rows, name in first)
        except pymysql.Error as error:
            if error.args and error.args[0] == _DEFINITION_CHANGED:
                return None
            raise
        return found


def _place(database: MySQL) -> tuple[int, int]:
    """The position of a view in the log, and the server's time in microseconds since 1970."""
    told = dict(database.ask("show status like 'binlog_snapshot_%'"))
    file, place = told["Binlog_snapshot_file"], told["Binlog_snapshot_position"]
    ((seconds,),) = database.ask("select unix_timestamp(now(6))")
    whole, _, fraction = str(seconds).partition(".")
    return position(str(file), int(place)), int(whole + fraction.ljust(6, "0"))
