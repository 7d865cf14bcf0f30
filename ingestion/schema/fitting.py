"""The contract `quarantine`: rows that a raw table cannot hold as it is declared are kept aside.

staged rows + changes that the table would need -> rows that fit ─> raw
                                               -> the others ────> `ledger.rejected_records`

A row fits if it says nothing in a column that is not declared, and if the type of each column holds
its value exactly: cast there and back, it is the same. Rows that do not fit come with a reason for
each value; they go in once the declaration has changed and they are read again from landing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ingestion.declarations import TableDeclaration
from ingestion.evolution import Change, literal, quoted, widened

if TYPE_CHECKING:
    import duckdb

    from ingestion.stage import Relation

# In the fingerprint of a reading, what stands before that of the columns.
CONTRACT = " columns:"


def kept_by(table: TableDeclaration) -> str:
    """Names what decides which rows of a table fit; empty if its contract keeps none aside."""
    if table.ingest.contract != "quarantine":
        return ""
    told = json.dumps([[column.name, column.data_type] for column in table.columns])
    return CONTRACT + hashlib.sha256(told.encode()).hexdigest()[:16]


def undeclared(changes: Sequence[Change], declared: Mapping[str, str]) -> list[Change]:
    """Changes of a raw table that its declaration does not ask for.

    Args:
        changes: Changes that staged rows ask for.
        declared: Declared columns and their DuckDB types.
    """
    return [
        change
        for change in changes
        if change.change != "settled" and not _is_declared(change, declared)
    ]


def _is_declared(change: Change, declared: Mapping[str, str]) -> bool:
    kind = declared.get(change.column)
    if kind is None or change.change == "added":
        return kind is not None
    return change.old_type != kind and widened(kind, change.new_type) == kind


class Fitting:
    """Divides staged rows by whether they fit.

    Args:
        connection: The warehouse, in the transaction that loads the rows.
        source: Name of the source.
        table: Name of the table.
        load_id: Id of the load, for rows that do not bring their own.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, source: str, table: str, load_id: str
    ) -> None:
        self._connection = connection
        self._source = source
        self._table = table
        self._load_id = load_id

    def of(self, relation: Relation, odd: Sequence[Change]) -> Relation:
        """The rows that fit; the others are noted as rejected.

        Args:
            relation: Staged rows.
            odd: Changes that the table is not to make for them.
        """
        if not relation.sql:
            return relation
        faults = [(_misfit(change, relation.columns), _reason(change)) for change in odd]
        misfit = " or ".join(condition for condition, _ in faults)
        aside = self._set_aside(relation, faults, misfit)
        added = [change.column for change in odd if change.change == "added"]
        recast = [change for change in odd if change.change != "added"]
        columns = {name: kind for name, kind in relation.columns.items() if name not in added}
        columns |= {change.column: str(change.old_type) for change in recast}
        left_out = f" exclude ({', '.join(map(quoted, added))})" if added else ""
        casts = ", ".join(f"{_cast(c)} as {quoted(c.column)}" for c in recast)
        replaced = f" replace ({casts})" if casts else ""
        sql = (
            f"select data.*{left_out}{replaced} from ({relation.sql}) as data "
            f"where not coalesce({misfit}, false)"
        )
        files = tuple(
            replace(
                counted,
                loaded=counted.loaded - aside.get(counted.due.file, 0),
                aside=counted.aside + aside.get(counted.due.file, 0),
            )
            for counted in relation.files
        )
        return replace(relation, files=files, columns=columns, sql=sql, pieces=(), origins=None)

    def _set_aside(
        self, relation: Relation, faults: Sequence[tuple[str, str]], misfit: str
    ) -> dict[str, int]:
        """Notes the rows that do not fit; returns their number by file."""
        reasons = ", ".join(f"case when {told} then {why} end" for told, why in faults)
        record = ", ".join(f"{quoted(n)} := data.{quoted(n)}" for n in relation.columns)
        load = "data._load_id" if relation.has_load else literal(self._load_id)
        self._connection.execute(
            "insert into ledger.rejected_records by name "
            f"select {literal(self._source)} as source, {literal(self._table)} as table_name, "
            "data._file as file, data._row as record_number, "
            f"concat_ws('; ', {reasons}) as reason, "
            f"to_json(struct_pack({record})) as raw_record, "
            f"{load} as load_id from ({relation.sql}) as data where coalesce({misfit}, false)"
        )
        found = self._connection.execute(
            f"select data._file, count(*) from ({relation.sql}) as data "
            f"where coalesce({misfit}, false) group by all"
        ).fetchall()
        return dict(found)


def _cast(change: Change) -> str:
    return f"try_cast(data.{quoted(change.column)} as {change.old_type})"


def _misfit(change: Change, kinds: Mapping[str, str]) -> str:
    """Condition that a row does not fit because of one column."""
    value = f"data.{quoted(change.column)}"
    if change.change == "added":
        return f"{value} is not null"
    back = f"try_cast({_cast(change)} as {kinds[change.column]})"
    return f"({value} is not null and {back} is distinct from {value})"


def _reason(change: Change) -> str:
    """Expression that says what does not fit."""
    if change.change == "added":
        return literal(f"the column {change.column} is not declared")
    value = f"left(data.{quoted(change.column)}::varchar, 80)"
    return f"{literal(f'{change.column} is no {change.old_type}: ')} || {value}"
