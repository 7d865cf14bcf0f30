"""Builds nodes without dbt, by the statements that dbt sent for them.

kept project, catalog of the warehouse -> ways of each node -> workers, parents first -> one
transaction a node -> what is built, and what is left to dbt

A node that is not kept, or whose statements the warehouse refuses, is left to dbt with all below
it: dbt finds the right words for what is wrong. Left out: whether a node has to be built at all.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.compiled.recording import GIVE_WAY, Recording
from runner.compiled.store import REPLACED, Kept, short_hash
from runner.compiled.versions import put_mark
from runner.project import made_from, parents, sources_above

if TYPE_CHECKING:
    import duckdb

# Threads of ours hand over to DuckDB's own; more of them wait for each other.
_MOST_WORKERS = 4
Places = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Built:
    """What was built without dbt.

    Attributes:
        done: Unique ids of nodes that were built, with the seconds each took, in order.
        unknown: Unique ids of nodes that only dbt can build.
        left: Unique ids of these and of what lies below them.
    """

    done: dict[str, float]
    unknown: frozenset[str]
    left: frozenset[str]


@dataclass
class Player:
    """Plays nodes on one warehouse.

    Args:
        kept: The project.
        settings: The project's settings.
        connection: The warehouse, open for writing.
        on_done: Called with the unique id of each node as soon as it is built.
        versions: What data a node has once it is built; noted with it.
    """

    kept: Kept
    settings: Settings
    connection: duckdb.DuckDBPyConnection
    on_done: Callable[[str], None]
    versions: Mapping[str, str | None] = field(default_factory=dict)
    _places: Places = field(default_factory=dict, init=False)
    _open: set[Any] = field(default_factory=set, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)

    def play(self, chosen: Collection[str], full_refresh: bool) -> Built:
        """Builds what can be built without dbt.

        Args:
            chosen: Unique ids of models, seeds and snapshots.
            full_refresh: Whether to build incremental models and seeds anew.
        """
        self._places = places(self.connection)
        shapes = grounds(self.kept, self.connection, chosen)
        plans = {key: self._ways(self.kept.view.nodes[key], full_refresh) for key in chosen}
        grounded = {key for key in chosen if self.kept.grounds.get(key) == shapes[key]}
        unknown = {key for key in chosen if not plans[key] or key not in grounded}
        left = unknown | (made_from(self.kept.view, unknown) & set(chosen))
        if left == set(chosen):
            return Built({}, frozenset(unknown), frozenset(left))
        if not self._hooks_played():
            return Built({}, frozenset(chosen), frozenset(chosen))
        self._make_schemas(set(chosen) - left)
        done = self._carried(plans, unknown, left)
        return Built(done, frozenset(unknown), frozenset(left))

    # -- which way -----------------------------------------------------------------------------

    def _ways(self, node: Any, full_refresh: bool) -> list[Recording]:
        """What may build a node here and now; the answers of the moment tell which."""
        asked = node.config.full_refresh if node.config.full_refresh is not None else full_refresh
        there = self._places.get((node.schema, node.alias))
        may_add = there == "table" and not asked
        found = self.kept.recordings.get(node.unique_id, [])
        if node.config.materialized in REPLACED:
            return found
        return [one for one in found if one.on_existing == may_add]

    # -- playing -------------------------------------------------------------------------------

    def _hooks_played(self) -> bool:
        """Plays what dbt does before a build; false if it is not kept."""
        hooks = [n for n in self.kept.view.nodes.values() if str(n.resource_type) == "operation"]
        known = self.kept.recordings
        if any("on-run-end" in n.tags or n.unique_id not in known for n in hooks):
            return False
        for hook in sorted(hooks, key=lambda node: node.index or 0):
            if any(recording.answers for recording in known[hook.unique_id]):
                return False
            for sql in known[hook.unique_id][-1].statements:
                self.connection.execute(sql)
        return True

    def _make_schemas(self, plans: Collection[str]) -> None:
        for schema in sorted({self.kept.view.nodes[key].schema for key in plans}):
            self.connection.execute(f'create schema if not exists "{schema}"')

    def _carried(
        self, plans: Mapping[str, Sequence[Recording]], unknown: set[str], left: set[str]
    ) -> dict[str, float]:
        """Plays nodes as soon as their parents are done; what fails joins what is left."""
        nodes = self.kept.view.nodes
        order = TopologicalSorter({key: set(parents(self.kept.view, key)) for key in nodes})
        order.prepare()
        done: dict[str, float] = {}
        at_work: dict[Future[float | None], str] = {}
        workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
        with ThreadPoolExecutor(workers, "build") as pool, self._interruptible():
            while order.is_active():
                for key in order.get_ready():
                    if key in plans and key not in left:
                        at_work[pool.submit(self._played, nodes[key], plans[key])] = key
                    else:
                        order.done(key)
                if not at_work:
                    continue
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    key, seconds = at_work.pop(future), future.result()
                    order.done(key)
                    if seconds is None:
                        unknown.add(key)
                        left |= {key} | (made_from(self.kept.view, {key}) & set(plans))
                    else:
                        done[key] = seconds
                        self.on_done(key)
        return done

    def _played(self, node: Any, ways: Sequence[Recording]) -> float | None:
        """Builds a node in one transaction; None if the warehouse refuses, and nothing changed."""
        import duckdb

        began = time.monotonic()
        with self._cursor() as cursor:
            try:
                cursor.execute("begin")
                recording = _fitting(cursor, ways)
                if recording is None:
                    roll_back(cursor)
                    return None
                for sql in recording.statements:
                    if sql == GIVE_WAY:
                        self._give_way(cursor, node)
                    else:
                        cursor.execute(sql)
                    failpoint("build.statement_done")
                version = self.versions.get(node.unique_id)
                if version is not None:
                    put_mark(cursor, node, version)
                failpoint("build.before_commit")
                cursor.execute("commit")
                failpoint("build.committed")
            except duckdb.Error:
                roll_back(cursor)
                return None
        return time.monotonic() - began

    def _give_way(self, cursor: duckdb.DuckDBPyConnection, node: Any) -> None:
        there = self._places.get((node.schema, node.alias))
        if there is not None:
            cursor.execute(f"drop {there} if exists {node.relation_name} cascade")

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self.connection.cursor()
        with self._guard:
            self._open.add(cursor)
        try:
            set_up(cursor, self.kept)
            yield cursor
        finally:
            with self._guard:
                self._open.discard(cursor)
            cursor.close()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ends what DuckDB is doing if the run is to end."""
        try:
            yield
        except BaseException:
            with self._guard:
                for cursor in self._open:
                    cursor.interrupt()
            raise


def _fitting(cursor: duckdb.DuckDBPyConnection, ways: Sequence[Recording]) -> Recording | None:
    """The way whose questions are answered now as they were then; None if there is none."""
    told: dict[str, bool] = {}

    def is_answered(sql: str) -> bool:
        if sql not in told:
            told[sql] = bool(cursor.execute(sql).fetchall()[0][0])
        return told[sql]

    for recording in ways:
        if all(is_answered(sql) == answer for sql, answer in recording.answers):
            return recording
    return None


def set_up(cursor: duckdb.DuckDBPyConnection, kept: Kept) -> None:
    """Sets a connection as the project's profile says, as dbt does."""
    for name, value in ((kept.connection or {}).get("settings") or {}).items():
        text = str(value).replace("'", "''")
        cursor.execute(f"set {name} = '{text}'")


def places(connection: duckdb.DuckDBPyConnection) -> Places:
    """Tables and views by schema and name, with the word that drops them."""
    found = connection.execute(
        "select schema_name, table_name, 'table' from duckdb_tables() "
        "where database_name = current_database() and not internal and not temporary "
        "union all select schema_name, view_name, 'view' from duckdb_views() "
        "where database_name = current_database() and not internal"
    ).fetchall()
    return {(schema, name): kind for schema, name, kind in found}


def grounds(
    kept: Kept, connection: duckdb.DuckDBPyConnection, chosen: Collection[str]
) -> dict[str, str]:
    """By unique id, the shape of the source tables that a node is made from, however far above."""
    columns: dict[tuple[str, str], list[str]] = {}
    rows = connection.execute(
        "select schema_name, table_name, column_name || ' ' || data_type from duckdb_columns() "
        "where database_name = current_database() and not internal order by all"
    ).fetchall()
    for schema, table, column in rows:
        columns.setdefault((schema, table), []).append(column)
    shapes = {
        key: short_hash(columns.get((source.schema, source.identifier), ()))
        for key, source in kept.view.sources.items()
    }
    # Whether there is a ledger decides what staging notes.
    ledger = ("ledger", "files") in columns
    return {
        key: short_hash([ledger, *(shapes[one] for one in sorted(above) if one in shapes)])
        for key in chosen
        for above in (sources_above(kept.view, [key]),)
    }


def roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    """Ends a transaction that failed."""
    import duckdb

    try:
        cursor.execute("rollback")
    except duckdb.Error:
        # A failed commit has rolled back by itself.
        return
