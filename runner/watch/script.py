"""The statements that bring the live models up to date, learnt from dbt.

dbt builds the live models twice -> the second time, when nothing is new, its statements are
recorded -> `Script` -> `stands`? -> `play` in one transaction, cycle after cycle

dbt takes a second to begin and 40 ms a model; the statements of its models of events and of its
incremental models are the same each time, because what they have taken is kept in tables (`marks`)
and not in their text. So they are executed as they are, as long as the marks bear the code that
they were recorded with and staging says that it may be added to. Left out: anything else that dbt
does; whoever finds that the script no longer stands asks dbt again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ingestion.errors import first_line
from ingestion.failpoints import failpoint
from runner.errors import BuildFailed
from runner.project import in_order, parents
from runner.transform import Dbt, NodeResult, Selection, Statement

if TYPE_CHECKING:
    import duckdb
    from dbt.contracts.graph.manifest import Manifest

TAG = "live"
_MATERIALIZED = ("staging", "incremental")
_COMMENT = re.compile(r"\A\s*/\*.*?\*/\s*", re.DOTALL)
# What dbt only asks; BEGIN and COMMIT are ours.
_ASKS = re.compile(r"(select|with|describe|begin|commit|rollback|show|pragma)\b", re.IGNORECASE)
_STANDS = re.compile(r"\bas is_continued\b")
_TEMPORARY = re.compile(r"\Acreate\s+temporary\s+table\b", re.IGNORECASE)
# Where staging ends a transaction that has made nothing but temporary tables.
_APART = re.compile(r"\bcommit;\s*begin transaction;", re.IGNORECASE)


@dataclass(frozen=True)
class LiveModels:
    """What is kept up to date.

    Attributes:
        nodes: dbt's nodes of the models that are built in each cycle, in order.
        tagged: Unique ids of those that are tagged themselves; the others lie above them.
        sources: Unique ids of the source tables that they read.
        tests: dbt's nodes of the tests that read nothing but live models, compiled.
    """

    nodes: Sequence[Any]
    tagged: frozenset[str]
    sources: frozenset[str]
    tests: Sequence[Any] = ()


@dataclass(frozen=True)
class Script:
    """What brings the live models up to date.

    Attributes:
        statements: What to execute, in order.
        questions: Queries that must all be answered with true before.
        codes: By name of a live model, the code that its marks bear.
    """

    statements: tuple[Statement, ...]
    questions: tuple[str, ...]
    codes: dict[str, tuple[str, ...]]

    def stands(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether playing it gives what dbt would give."""
        import duckdb

        try:
            if marks_of(connection, self.codes)[0] != self.codes:
                return False
            return all(connection.execute(sql).fetchall()[0][0] for sql in self.questions)
        except duckdb.CatalogException:
            # A table is not there any more, or not yet: dbt will make it.
            return False

    def play(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Executes it, all or nothing.

        Raises:
            BuildFailed: A statement failed; nothing has changed.
        """
        import duckdb

        name = ""
        try:
            connection.execute("begin")
            for statement in self.statements:
                name = statement.unique_id
                connection.execute(statement.sql)
                failpoint("watch.statement_done")
            failpoint("watch.before_commit")
            connection.execute("commit")
            failpoint("watch.committed")
        except duckdb.Error as error:
            _roll_back(connection)
            raise BuildFailed(f"{name.rpartition('.')[2]}: {first_line(error)}") from error
        finally:
            _drop_temporary(connection)


def find_live(dbt: Dbt) -> LiveModels:
    """The models tagged `live`, the models of events and incremental ones above them.

    Raises:
        BuildFailed: There are none, or one is of a kind that cannot be kept up to date.
    """
    manifest = dbt.manifest
    tagged = {
        key
        for key, node in manifest.nodes.items()
        if TAG in node.tags and str(node.resource_type) == "model"
    }
    if not tagged:
        raise BuildFailed(
            f"no model is tagged `{TAG}`, so there is nothing to watch",
            hint="`config: {tags: [live]}` makes a model live; docs/guides/live.md tells how.",
        )
    for key in sorted(tagged):
        _check_kind(manifest.nodes[key])
    chosen = set(tagged)
    ahead = list(tagged)
    while ahead:
        for key in parents(manifest, ahead.pop()):
            if key not in chosen and key in manifest.nodes and _is_kept(manifest.nodes[key]):
                chosen.add(key)
                ahead.append(key)
    sources = {key for one in chosen for key in parents(manifest, one) if key in manifest.sources}
    tests = _tests(dbt, manifest, chosen)
    return LiveModels(in_order(manifest, chosen), frozenset(tagged), frozenset(sources), tests)


def _check_kind(node: Any) -> None:
    kind = node.config.materialized
    if _is_kept(node) or kind == "view":
        return
    raise BuildFailed(
        f"{node.name} is tagged `{TAG}` and materialized as {kind}"
        + (" without `events: true`" if kind == "staging" else ""),
        file=node.original_file_path,
        hint="Expected an incremental model, a staging model of events, or a view.",
    )


def _is_kept(node: Any) -> bool:
    if node.config.materialized == "staging":
        declared = (node.config.meta or {}).get("staging", {})
        return bool(declared.get("events") is True)
    return bool(node.config.materialized == "incremental")


def _tests(dbt: Dbt, manifest: Manifest, chosen: set[str]) -> list[Any]:
    """Those that read live models and nothing that only a batch builds."""
    compiled = dbt.compiled_tests(Selection((f"tag:{TAG}",)))
    found = []
    for node in compiled:
        read = {key for key in parents(manifest, node.unique_id) if key in manifest.nodes}
        if read <= chosen and node.compiled_code and not node.config.store_failures:
            found.append(node)
    return found


def missing_above(
    connection: duckdb.DuckDBPyConnection, manifest: Manifest, live: LiveModels
) -> list[str]:
    """Unique ids of seeds and models above the live ones that are not in the warehouse yet."""
    there = set(
        connection.execute(
            "select schema_name || '.' || table_name from duckdb_tables() "
            "union all select schema_name || '.' || view_name from duckdb_views()"
        ).fetchall()
    )
    own = {node.unique_id for node in live.nodes}
    found: set[str] = set()
    ahead = [key for one in own for key in parents(manifest, one)]
    while ahead:
        key = ahead.pop()
        node = manifest.nodes.get(key)
        if node is None or key in found or key in own:
            continue
        if (f"{node.schema}.{node.alias}",) in there and str(node.resource_type) != "ephemeral":
            continue
        found.add(key)
        ahead += parents(manifest, key)
    return sorted(found)


def learn(dbt: Dbt, live: LiveModels, before: Sequence[str]) -> Script:
    """Builds the live models with dbt, then records what it does when nothing is new.

    Args:
        dbt: The project.
        live: The live models.
        before: Unique ids of what they need and what is not there.

    Raises:
        BuildFailed: A model cannot be built.
    """
    wanted = [node.unique_id for node in live.nodes]
    _require(dbt.build(Selection(), only=[*before, *wanted]))
    failpoint("watch.built")
    results, recorded = dbt.build_recorded(wanted)
    _require(results)
    failpoint("watch.recorded")
    return _script(live, recorded)


def _require(results: Sequence[NodeResult]) -> None:
    failed = [result for result in results if result.status == "failed"]
    if failed:
        first = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise BuildFailed(
            f"{first.name} could not be built{more}: {first.message}",
            file=first.file,
            hint="If it needs what a batch builds, `wellspring run` once; otherwise mend it.",
        )


def _script(live: LiveModels, recorded: Sequence[Statement]) -> Script:
    kept = {node.unique_id for node in live.nodes if node.config.materialized in _MATERIALIZED}
    plain = [
        Statement(s.unique_id, _COMMENT.sub("", s.sql).strip())
        for s in recorded
        if s.unique_id in kept
    ]
    questions = tuple(s.sql for s in plain if _STANDS.search(s.sql) and _ASKS.match(s.sql))
    # All of a cycle is one transaction, in which former models may have written.
    statements = tuple(
        Statement(
            s.unique_id, _APART.sub("", _TEMPORARY.sub("create or replace temporary table", s.sql))
        )
        for s in plain
        if s.sql and not _ASKS.match(s.sql)
    )
    names = [node.name for node in live.nodes if node.unique_id in kept]
    return Script(statements, questions, dict.fromkeys(names, ()))


def bound(script: Script, connection: duckdb.DuckDBPyConnection) -> Script:
    """A script just recorded, bound to the code that the marks bear now."""
    there = {
        name
        for (name,) in connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'marks'"
        ).fetchall()
    }
    return replace(script, codes=marks_of(connection, set(script.codes) & there)[0])


Marks = dict[str, tuple[str | None, int | None]]


def marks_of(
    connection: duckdb.DuckDBPyConnection, names: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], Marks]:
    """By live model, the code that its marks bear; and its newest load and generation."""
    listed = sorted(names)
    parts = [
        f"select '{name}' as name, code, load_id, generation from marks.\"{name}\""
        for name in listed
    ]
    codes: dict[str, tuple[str, ...]] = dict.fromkeys(listed, ())
    marks: Marks = {}
    if parts:
        for name, code, load_id, generation in connection.execute(
            "\nunion all\n".join(parts) + "\norder by all"
        ).fetchall():
            codes[name] = tuple(dict.fromkeys((*codes[name], code)))
            marks[name] = (load_id, generation)
    return codes, marks


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    import duckdb

    try:
        connection.execute("rollback")
    except duckdb.Error:
        # A failed commit has rolled back by itself.
        return


def _drop_temporary(connection: duckdb.DuckDBPyConnection) -> None:
    found = connection.execute("select table_name from duckdb_tables() where temporary").fetchall()
    for (name,) in found:
        connection.execute(f'drop table if exists temp."{name}"')
