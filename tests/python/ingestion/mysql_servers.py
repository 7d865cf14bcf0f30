"""Servers for the tests of the MySQL path.

`mariadb` is a real MariaDB, used where `mariadbd` is installed. `protocol` is mysql-mimic, which
speaks the real protocol and hands each statement, translated by sqlglot, to DuckDB: it proves
connecting, logging in, streaming, decoding and what the statements mean, not MySQL's own types.
Those need `mariadb`.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pymysql
import sqlglot
from mysql_mimic import IdentityProvider, MysqlServer, User
from mysql_mimic.auth import NativePasswordAuthPlugin
from mysql_mimic.errors import MysqlError
from mysql_mimic.session import BaseSession
from mysql_mimic.variables import GlobalVariables, SessionVariables
from sqlglot import exp

USER, PASSWORD = "reader", "pw@x/1"
_NAMES = {"VARCHAR": "varchar", "INTEGER": "int", "BIGINT": "bigint", "TIMESTAMP": "datetime"}


class Server(Protocol):
    """A server with an empty database `shop`."""

    port: int

    def execute(self, sql: str) -> None:
        """Runs statements as the owner of the database."""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Mariadb:
    def __init__(self, port: int) -> None:
        self.port = port

    def execute(self, sql: str) -> None:
        with (
            closing(
                pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("set session sql_mode = ''")
            cursor.execute("create database if not exists shop character set utf8mb4")
            cursor.execute("use shop")
            for statement in filter(str.strip, sql.split(";")):
                cursor.execute(statement)


@contextmanager
def mariadb(folder: Path, *more: str) -> Iterator[Server]:
    """A real MariaDB on a free port, with its data in `folder`; `more` are its options."""
    data, port = folder / "data", free_port()
    plain = ["--no-defaults", f"--datadir={data}", "--user=root"]
    setup = shutil.which("mariadb-install-db")
    assert setup, "no MariaDB server on this machine (Debian: mariadb-server)"
    subprocess.run(
        [setup, *plain, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    network = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s"]
    process = subprocess.Popen(
        [
            shutil.which("mariadbd") or "mariadbd",
            *plain,
            *network,
            "--innodb-flush-log-at-trx-commit=0",
            *more,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = _Mariadb(port)
    try:
        for attempt in range(100):
            try:
                server.execute(
                    f"create user '{USER}'@'127.0.0.1' identified by '{PASSWORD}'; "
                    f"create user '{USER}'@'localhost' identified by '{PASSWORD}'; "
                    f"grant all on *.* to '{USER}'@'127.0.0.1'; grant all on *.* to "
                    f"'{USER}'@'localhost'"
                )
                break
            except pymysql.OperationalError:
                if attempt == 99 or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


class _Users(IdentityProvider):
    async def get_user(self, username: str) -> User | None:
        if username != USER:
            return None
        secret = NativePasswordAuthPlugin.create_auth_string(PASSWORD)
        return User(name=USER, auth_string=secret, auth_plugin="mysql_native_password")


class _Session(BaseSession):
    """Answers with what DuckDB answers to the translated statement."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self.variables = SessionVariables(GlobalVariables())
        self.username: str | None = None
        self.database: str | None = None
        self._database = database
        self._connection: Any = None

    async def init(self, connection: Any) -> None:
        self._connection = connection

    async def handle_query(self, sql: str, attrs: dict[str, str]) -> Any:
        if sql.lower().startswith(("set ", "start ", "commit", "rollback")):
            return [], []
        tree = sqlglot.parse_one(sql, dialect="mysql")
        table = tree.find(exp.Table)
        if table is not None and table.db.lower() == "information_schema":
            wanted = re.search(r"table_name = '(\w+)'", sql)
            return self._catalog(table.name.lower(), wanted.group(1) if wanted else "")
        for found in tree.find_all(exp.Table):
            found.set("db", None)
        cursor = self._database.cursor()
        try:
            cursor.execute(tree.sql(dialect="duckdb"))
        except duckdb.Error as error:
            raise MysqlError(str(error)) from error
        names = [column[0] for column in cursor.description or []]
        if table is not None and table.name == "broken":
            return self._cut(cursor), names
        return cursor.fetchall(), names

    async def _cut(self, cursor: duckdb.DuckDBPyConnection) -> Any:
        """Sends some rows and then drops the connection."""
        for row in cursor.fetchmany(10):
            yield row
        self._connection.stream.writer.transport.abort()

    def _catalog(self, relation: str, table: str) -> Any:
        where = f"table_name = '{table}'"
        if relation == "tables":
            sql = "select distinct table_name from information_schema.tables order by 1"
            return self._database.cursor().execute(sql).fetchall(), ["table_name"]
        if relation == "statistics":
            sql = (
                "select unnest(constraint_column_names) from duckdb_constraints() "
                f"where constraint_type = 'PRIMARY KEY' and {where}"
            )
            return self._database.cursor().execute(sql).fetchall(), ["column_name"]
        sql = (
            "select column_name, data_type, numeric_precision, numeric_scale, is_nullable, "
            "column_default "
            f"from information_schema.columns where {where} order by ordinal_position"
        )
        rows = [
            (name, kind, kind, digits, scale, *rest)
            for name, found, digits, scale, *rest in self._database.cursor().execute(sql).fetchall()
            for kind in [_NAMES.get(found, found.partition("(")[0].lower())]
        ]
        names = ["name", "data_type", "column_type", "digits", "scale", "nullable", "default"]
        return rows, names


class _Protocol:
    def __init__(self) -> None:
        self.port = free_port()
        self._database = duckdb.connect()

    def execute(self, sql: str) -> None:
        for statement in filter(str.strip, sql.split(";")):
            self._database.cursor().execute(sqlglot.transpile(statement, "mysql", "duckdb")[0])

    async def serve(self, ready: threading.Event) -> None:
        server = MysqlServer(
            session_factory=lambda: _Session(self._database), identity_provider=_Users()
        )
        await server.start_server(port=self.port, host="127.0.0.1")
        ready.set()
        await server.serve_forever()


@contextmanager
def protocol(_: Path) -> Iterator[Server]:
    """mysql-mimic on a free port, in a thread."""
    server, loop, ready = _Protocol(), asyncio.new_event_loop(), threading.Event()
    task = loop.create_task(server.serve(ready))

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10), "the protocol server did not start"
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
