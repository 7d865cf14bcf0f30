"""Gates: measures of a public mart that may not move further than declared without a person's word.

`meta.gates` of models -> `Gate`s -> asked of the current version and of the candidate -> `Move`s

The candidate is measured as it was sealed, so what is approved is what was measured. A measure that
the current version cannot answer (a new table, a new column) has nothing to be compared with and
holds nothing back. Left out: what is unusual against many former runs, which `veracity` knows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, field_validator

from ingestion.errors import DeclarationError, first_line
from ingestion.settings import Settings
from runner.project import published_relations
from runner.versions import Version

if TYPE_CHECKING:
    import duckdb

    from runner.compiled.view import Project

log = logging.getLogger(__name__)

ROWS = "rows"
_LIMIT = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")


class Gate(BaseModel):
    """One entry of `meta.gates`.

    Attributes:
        measure: `rows`, or an aggregate such as `sum(amount_usd)`.
        moves: How far it may move: a share of its former value (`20%`) or an amount (`500`).
        where: A condition on the rows that are measured; empty for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str
    moves: str
    where: str = ""

    @field_validator("moves", mode="before")
    @classmethod
    def _is_limit(cls, given: Any) -> str:
        text = str(given).strip() if not isinstance(given, bool) else ""
        if not _LIMIT.fullmatch(text):
            raise ValueError("expected a share of the former value (20%) or an amount (500)")
        return text

    @property
    def sql(self) -> str:
        """The measure as an SQL expression."""
        return "count(*)" if self.measure == ROWS else self.measure

    @property
    def label(self) -> str:
        """The measure as people read it."""
        return f"{self.measure} where {self.where}" if self.where else self.measure

    def holds(self, before: float | None, after: float | None) -> bool:
        """Whether a value may take the other's place without a word."""
        if before is None or after is None:
            return before == after
        found = _LIMIT.fullmatch(self.moves)
        assert found is not None
        limit = float(found[1])
        if found[2]:
            limit *= abs(before) / 100
        # A sum of floating point numbers depends on their order, in its last digits.
        return abs(after - before) <= limit + 1e-9 * max(abs(before), abs(after))


class _Gates(RootModel[tuple[Gate, ...]]):
    """The list as it stands in the project."""


@dataclass(frozen=True)
class Move:
    """A measure that moved further than it may.

    Attributes:
        table: Schema and name of the table.
        gate: What was declared.
        before: Its value in the current version; None where it has none.
        after: Its value in the candidate; None where it has none.
    """

    table: str
    gate: Gate
    before: float | None
    after: float | None

    def __str__(self) -> str:
        change = ""
        if self.before and self.after is not None:
            change = f"{(self.after - self.before) / abs(self.before):+.1%}, "
        return (
            f"{self.table}: {self.gate.label} moved from {_figure(self.before)} to "
            f"{_figure(self.after)} ({change}declared: {self.gate.moves})"
        )


def gates(manifest: Project) -> dict[str, tuple[Gate, ...]]:
    """Gates by table (`schema.name`), of the tables that have any.

    Raises:
        DeclarationError: A declaration is wrong; all faults are named.
    """
    faults: list[str] = []
    found: dict[str, tuple[Gate, ...]] = {}
    published = {relation.unique_id: str(relation) for relation in published_relations(manifest)}
    for key, node in sorted(manifest.nodes.items()):
        given = (node.config.meta or {}).get("gates")
        if given is None:
            continue
        place = f"{_file(node)}: model {node.name}"
        if key not in published:
            faults.append(f"{place}, meta.gates: found gates; only a published mart can have them")
        else:
            found[published[key]] = _parsed(node, given, place, faults)
    if faults:
        title = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise DeclarationError(
            message=f"{title} in what is declared about gates:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            hint="docs/guides/versions.md has every key.",
        )
    return found


def _parsed(node: Any, given: Any, place: str, faults: list[str]) -> tuple[Gate, ...]:
    try:
        declared = _Gates.model_validate(given).root
    except ValidationError as error:
        for fault in error.errors():
            path = ".".join(map(str, ("meta.gates", *fault["loc"])))
            said = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{place}, {path}: found {fault['input']!r}; {said}")
        return ()
    for number, gate in enumerate(declared):
        where = f"{place}, meta.gates.{number}"
        if gate.measure != ROWS:
            _check(node, gate.measure, f"{where}.measure", faults, is_measure=True)
        if gate.where:
            _check(node, gate.where, f"{where}.where", faults, is_measure=False)
    return declared


def _check(node: Any, sql: str, place: str, faults: list[str], *, is_measure: bool) -> None:
    """Whether a text is an aggregate, or a condition, over columns that the model has."""
    import sqlglot
    from sqlglot import exp

    wanted = "`rows` or an aggregate such as sum(amount)" if is_measure else "a condition on a row"
    try:
        parsed = sqlglot.parse_one(sql, dialect="duckdb")
    except sqlglot.ParseError:
        faults.append(f"{place}: found {sql!r}; expected {wanted}")
        return
    # A function that the parser does not know may well be an aggregate.
    is_aggregate = parsed.find(exp.AggFunc, exp.Anonymous) is not None
    is_query = parsed.find(exp.Query) is not None
    is_total = parsed.find(exp.AggFunc) is not None
    if is_query or (not is_aggregate if is_measure else is_total):
        faults.append(f"{place}: found {sql!r}; expected {wanted}")
    known = {name.lower() for name in node.columns}
    for column in sorted({found.name for found in parsed.find_all(exp.Column)}):
        if known and column.lower() not in known:
            listed = ", ".join(sorted(known))
            faults.append(f"{place}: the model has no column {column}; known: {listed}")


def _file(node: Any) -> str:
    return str(getattr(node, "patch_path", "") or node.original_file_path).rpartition("://")[2]


def moved(
    settings: Settings, declared: Mapping[str, Sequence[Gate]], former: Version, candidate: Version
) -> tuple[Move, ...]:
    """Measures that moved further than declared between two versions.

    Args:
        settings: The project's settings.
        declared: Gates by table.
        former: The version that readers have.
        candidate: The version that is to take its place.

    Raises:
        DeclarationError: A gate cannot be asked of the candidate.
    """
    from ingestion.warehouse import in_memory

    asked = _tables(declared, candidate) & _tables(declared, former)
    if not asked:
        return ()
    found = []
    with closing(in_memory(settings)) as connection:
        for name, version in (("former", former), ("candidate", candidate)):
            path = str(version.database).replace("'", "''")
            connection.execute(f"attach '{path}' as {name} (read_only)")
        for table in sorted(asked):
            before = _former_values(connection, table, declared[table])
            after = _candidate_values(connection, table, declared[table])
            for gate, was, value in zip(declared[table], before, after, strict=True):
                if was is not _UNASKED and not gate.holds(was, value):
                    found.append(Move(table, gate, was, value))
    return tuple(found)


_UNASKED: Any = object()


def _tables(declared: Mapping[str, Sequence[Gate]], version: Version) -> set[str]:
    return {table["name"] for table in version.manifest()["tables"]} & set(declared)


def _values(
    connection: duckdb.DuckDBPyConnection, catalog: str, table: str, asked: Sequence[Gate]
) -> tuple[float | None, ...]:
    """Values of all gates of a table, in one query."""
    schema, _, name = table.partition(".")
    place = f'{catalog}."{schema}"."{name}"'
    parts = [
        f"(select ({gate.sql})::double from {place} where {gate.where or 'true'})" for gate in asked
    ]
    row: tuple[float | None, ...] | None = connection.execute(
        f"select {', '.join(parts)}"
    ).fetchone()
    assert row is not None
    return row


def _former_values(
    connection: duckdb.DuckDBPyConnection, table: str, asked: Sequence[Gate]
) -> list[Any]:
    import duckdb

    try:
        return list(_values(connection, "former", table, asked))
    except duckdb.Error:
        found: list[Any] = []
    for gate in asked:
        try:
            found += _values(connection, "former", table, [gate])
        except duckdb.Error as error:
            log.info("%s: %s has no former value: %s", table, gate.label, first_line(error))
            found.append(_UNASKED)
    return found


def _candidate_values(
    connection: duckdb.DuckDBPyConnection, table: str, asked: Sequence[Gate]
) -> tuple[float | None, ...]:
    import duckdb

    try:
        return _values(connection, "candidate", table, asked)
    except duckdb.Error as error:
        measures = ", ".join(gate.label for gate in asked)
        raise DeclarationError(
            message=f"{table}: its gates cannot be measured ({measures}): {first_line(error)}",
            hint="Mend `meta.gates` of the model: measures are numbers over columns that it has.",
        ) from error


def _figure(value: float | None) -> str:
    if value is None:
        return "nothing"
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.2f}"
