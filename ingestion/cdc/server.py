"""What change capture asks of a PostgreSQL server beside its log: catalog, publication, slot.

connection -> `Server.check` -> `publish`, `slot` -> `structure` of tables -> `typed` columns

Whatever is missing is told with the statement that mends it. Left out: reading rows, which
`ingestion.databases.postgres` does, and the log itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.cdc.pgoutput import lsn_number
from ingestion.connections import Connection
from ingestion.databases.base import Column
from ingestion.databases.postgres import Postgres, typed_columns
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import SourceFailed

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_GENERATED_IN_LOG = 180_000
_TABLE = """
select
    pg_class.oid::bigint, pg_namespace.nspname, pg_class.relname, pg_class.relkind::text,
    pg_class.relreplident::text, pg_class.relpersistence::text
from pg_catalog.pg_class
inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
where pg_class.relname = %(name)s and pg_class.relkind in ('r', 'p', 'v', 'm', 'f')
    and case when %(schema)s::text is null then pg_catalog.pg_table_is_visible(pg_class.oid)
        else pg_namespace.nspname = %(schema)s end
"""
_COLUMNS = """
select attname, atttypid::bigint, atttypmod, attgenerated::text
from pg_catalog.pg_attribute
where attrelid = %s and attnum > 0 and not attisdropped
order by attnum
"""
# The columns by which the log tells which row it was: of the primary key, or of a chosen index.
_IDENTITY_COLUMNS = """
select pg_attribute.attname
from pg_catalog.pg_index
inner join pg_catalog.pg_attribute
    on pg_attribute.attrelid = pg_index.indrelid
    and pg_attribute.attnum = any(pg_index.indkey::smallint[])
where pg_index.indrelid = %s
    and case when %s = 'i' then pg_index.indisreplident else pg_index.indisprimary end
"""
_REWRITTEN = """
select bool_and(relfilenode = pg_catalog.pg_relation_filenode(oid))
from pg_catalog.pg_class
where relkind = 'r'
    and (
        oid = %s
        or oid in (select relid from pg_catalog.pg_partition_tree(%s::bigint::oid::regclass))
    )
"""
_SLOT = """
select
    plugin, active, active_pid, database = pg_catalog.current_database() as is_here,
    confirmed_flush_lsn::text as confirmed, wal_status,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint as kept
from pg_catalog.pg_replication_slots
where slot_name = %s
"""


@dataclass(frozen=True)
class Structure:
    """A table as the catalog has it.

    Attributes:
        oid: PostgreSQL's number of the table.
        schema: Its schema.
        name: Its name.
        columns: Name, number of the type and modifier of the columns that the log tells.
        untold: Columns that the log does not tell: generated ones.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[tuple[str, int, int], ...]
    untold: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A replication slot.

    Attributes:
        confirmed: Everything before this position has been confirmed.
        is_lost: Whether the server has given up the log that it stands for.
        kept_bytes: How much log the server keeps for it.
    """

    confirmed: int
    is_lost: bool
    kept_bytes: int


class Server:
    """A connection for everything but the log.

    Args:
        connection: Where the database is.
        declaration: The source.
    """

    def __init__(self, connection: Connection, declaration: SourceDeclaration) -> None:
        self._database = Postgres(connection)
        self._declaration = declaration
        self._open = self._database.connect()
        assert declaration.cdc is not None
        self._declared = declaration.cdc
        self.slot_name = self._declared.slot or f"wellspring_{declaration.name}"
        self.publication = self._declared.publication or f"wellspring_{declaration.name}"

    @property
    def url(self) -> str:
        """The address as libpq takes it."""
        return self._database.libpq_url

    def close(self) -> None:
        """Ends the connection."""
        self._open.close()

    def ask(self, statement: str, values: Any = None) -> list[Any]:
        """Executes a statement and returns its rows, if it has any."""
        cursor = self._open.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def fault(self, message: str, hint: str, table: str | None = None) -> SourceFailed:
        """An error of this source."""
        return SourceFailed(message, source=self._declaration.name, table=table, hint=hint)

    def check(self) -> None:
        """Makes sure that the server streams its log, and to us.

        Raises:
            SourceFailed: It does not; the hint holds the statement that mends it.
        """
        ((level,),) = self.ask("show wal_level")
        if level != "logical":
            raise self.fault(
                f"the server's wal_level is {level}, change capture needs logical",
                "As a superuser: alter system set wal_level = 'logical'; then restart the server.",
            )
        ((may, user),) = self.ask(
            "select rolreplication or rolsuper, rolname from pg_catalog.pg_roles "
            "where rolname = current_user"
        )
        # A managed service grants it by a role of its own, which the catalog does not show.
        managed = self.ask(
            "select 1 from pg_catalog.pg_roles where rolname in ('rds_replication', "
            "'cloudsqlsuperuser', 'azure_pg_admin')"
        )
        if not may and not managed:
            raise self.fault(
                f"the user {user} may not replicate",
                f'As a superuser: alter role "{user}" replication;',
            )

    def position(self) -> int:
        """Where the server's log ends now."""
        ((text,),) = self.ask("select pg_catalog.pg_current_wal_lsn()::text")
        return lsn_number(text)

    def moment(self) -> int:
        """The server's time, in microseconds since 1970."""
        ((value,),) = self.ask("select (extract(epoch from now()) * 1000000)::bigint")
        return int(value)

    # Tables

    def structure(
        self, table: TableDeclaration, through: psycopg.Connection[Any] | None = None
    ) -> Structure | None:
        """A declared table as the catalog has it; None if it is not there.

        Args:
            table: The table.
            through: A connection in a snapshot; by default the catalog as it is now.

        Raises:
            SourceFailed: It is something that has no log.
        """
        ingest = table.database
        place = {"schema": ingest.schema_name, "name": ingest.origin or table.name}
        connection = through or self._open
        found = connection.execute(_TABLE, place).fetchall()
        if not found:
            return None
        oid, schema, name, kind, identity, persistence = found[0]
        if kind not in ("r", "p") or persistence != "p":
            what = "unlogged or temporary" if kind in ("r", "p") else "a view or foreign table"
            raise self.fault(
                f"{schema}.{name} is {what}: it has no log",
                "Read it as a source of kind: database.",
                table.name,
            )
        self._check_identity(table, oid, f"{schema}.{name}", identity)
        told, untold = [], []
        generated = self._generated_in_log()
        for column, type_id, modifier, made in connection.execute(_COLUMNS, [oid]):
            if made and not (made == "s" and generated):
                untold.append(column)
            else:
                told.append((column, type_id, modifier))
        return Structure(oid, schema, name, tuple(told), tuple(untold))

    def _check_identity(self, table: TableDeclaration, oid: int, label: str, identity: str) -> None:
        """The log must tell by which key a row was changed or deleted."""
        if identity == "f":
            return
        wanted = set(table.database.primary_key)
        known = {name for (name,) in self.ask(_IDENTITY_COLUMNS, [oid, identity])}
        if identity == "n":
            known = set()
        if wanted <= known:
            return
        told = f"only {', '.join(sorted(known))}" if known else "nothing"
        raise self.fault(
            f"of a changed or deleted row of {label} the log tells {told}; the declared "
            f"primary_key is {', '.join(sorted(wanted))}",
            f"alter table {label} replica identity full; or declare a key that it has.",
            table.name,
        )

    def _generated_in_log(self) -> bool:
        """Whether the publication tells stored generated columns."""
        if self._open.info.server_version < _GENERATED_IN_LOG:
            return False
        found = self.ask(
            "select pubgencols::text from pg_catalog.pg_publication where pubname = %s",
            [self.publication],
        )
        # Ours is made so.
        return not found or found[0][0] == "s"

    def is_as_seen(self, oid: int, through: psycopg.Connection[Any]) -> bool:
        """Whether a snapshot shows a table's rows: one that was written anew since seems empty.

        Args:
            oid: PostgreSQL's number of the table, which is locked.
            through: The connection in the snapshot.
        """
        ((same,),) = through.execute(_REWRITTEN, [oid, oid]).fetchall()
        return bool(same)

    def typed(self, columns: Sequence[tuple[str, int, int]]) -> list[Column]:
        """Columns with the types that reading the table gives them."""
        return typed_columns(self._open, columns)

    def converted(self, texts: Sequence[str], column: Column) -> list[str]:
        """Texts of the log as reading the table writes them, such as arrays as JSON.

        Raises:
            psycopg.Error: The type is not there any more.
        """
        from psycopg import sql

        assert column.select is not None
        value = sql.SQL("(told.value::{})").format(sql.SQL(column.native))
        expression = sql.SQL(column.select).format(value)
        statement = sql.SQL(
            "select {} from unnest(%s::text[]) with ordinality as told (value, place) "
            "order by place"
        ).format(expression)
        return [text for (text,) in self._open.execute(statement, [list(texts)]).fetchall()]

    # Publication and slot

    def publish(self, structures: Sequence[Structure]) -> None:
        """Makes sure that the publication tells of these tables.

        Raises:
            SourceFailed: It does not, and may not be changed by us.
        """
        from psycopg import sql

        name = sql.Identifier(self.publication)
        tables = {table.oid: sql.Identifier(table.schema, table.name) for table in structures}
        found = self.ask(
            "select puballtables, pubviaroot, pubinsert and pubupdate and pubdelete and pubtruncate"
            " from pg_catalog.pg_publication where pubname = %s",
            [self.publication],
        )
        listed = sql.SQL(", ").join(tables.values())
        if not found:
            generated = self._open.info.server_version >= _GENERATED_IN_LOG
            more = ", publish_generated_columns = stored" if generated else ""
            self._mend(
                f"there is no publication {self.publication}",
                sql.SQL("create publication {} for table {} with ({})").format(
                    name, listed, sql.SQL("publish_via_partition_root = true" + more)
                ),
            )
            return
        every, by_root, whole = found[0]
        if not whole or not by_root:
            self._mend(
                f"the publication {self.publication} does not tell everything",
                sql.SQL(
                    "alter publication {} set (publish = 'insert, update, delete, truncate', "
                    "publish_via_partition_root = true)"
                ).format(name),
            )
        if every:
            return
        published = self.ask(
            "select prrelid::bigint from pg_catalog.pg_publication_rel "
            "inner join pg_catalog.pg_publication on pg_publication.oid = prpubid "
            "where pubname = %s",
            [self.publication],
        )
        missing = sorted(set(tables) - {oid for (oid,) in published})
        if missing:
            listed = sql.SQL(", ").join(tables[oid] for oid in missing)
            self._mend(
                f"the publication {self.publication} lacks {len(missing)} of the declared tables",
                sql.SQL("alter publication {} add table {}").format(name, listed),
            )

    def _mend(self, wrong: str, statement: Any) -> None:
        """Executes a statement, or asks for it where it is not ours to do."""
        import psycopg

        text = statement.as_string(self._open)
        if not self._declared.create:
            raise self.fault(wrong, f"It is declared `create: false`, so do it by hand: {text};")
        try:
            self._open.execute(statement)
        except psycopg.Error as error:
            raise self.fault(
                f"{wrong}, and the server refuses to change that: {error.diag.message_primary}",
                f"As the owner of the tables or a superuser: {text};",
            ) from error
        log.info("%s: %s", self._declaration.name, text)

    def slot(self) -> Slot | None:
        """Our slot; None if there is none.

        Raises:
            SourceFailed: It is of another kind or database.
        """
        found = self.ask(_SLOT, [self.slot_name])
        if not found:
            return None
        plugin, _, _, is_here, confirmed, status, kept = found[0]
        if plugin != "pgoutput" or not is_here:
            raise self.fault(
                f"the slot {self.slot_name} belongs to another database or plugin ({plugin})",
                "Declare another name under cdc.slot.",
            )
        position = lsn_number(confirmed) if confirmed else 0
        return Slot(position, status == "lost" or not confirmed, kept or 0)

    def make_slot(self) -> None:
        """Creates our slot; from here on the server keeps its log for us.

        Raises:
            SourceFailed: It may not be made by us, or the server refuses.
        """
        statement = "select pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')"
        shown = statement.replace("%s", f"'{self.slot_name}'")
        if not self._declared.create:
            raise self.fault(
                f"there is no replication slot {self.slot_name}",
                f"It is declared `create: false`, so do it by hand: {shown};",
            )
        self.ask(statement, [self.slot_name])

    def drop_slot(self) -> None:
        """Removes a slot that is of no use any more."""
        self.ask("select pg_catalog.pg_drop_replication_slot(%s)", [self.slot_name])

    @property
    def database(self) -> Postgres:
        """The database system, which knows what its driver's exceptions mean."""
        return self._database
