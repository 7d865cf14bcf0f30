"""How old the newest row of each source table is, asked without dbt.

source tables with `freshness` -> one query each -> age against `warn_after` and `error_after`

Left out: tables whose newest row a query of their own tells, and those whose query is refused; dbt
asks them, and says what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Age:
    """How old a source table is.

    Attributes:
        node: The source table.
        status: pass, warn or error, as dbt calls it.
        max_loaded_at: When it got its newest row; the year 1 for none.
        age: Seconds since then.
        execution_time: Seconds that the question took.
        message: Nothing; dbt has one for what could not be asked.
    """

    node: Any
    status: str
    max_loaded_at: datetime
    age: float
    execution_time: float
    message: str = ""


def ages(
    connection: duckdb.DuckDBPyConnection, sources: Iterable[Any]
) -> tuple[list[Age], list[Any]]:
    """Asks how old tables are.

    Returns:
        An answer for each that could be asked here, and those that are left to dbt.
    """
    import duckdb

    found: list[Age] = []
    left: list[Any] = []
    for node in sources:
        if not node.loaded_at_field or getattr(node, "loaded_at_query", None):
            left.append(node)
            continue
        chosen = getattr(node.freshness, "filter", None)
        where = f" where {chosen}" if chosen else ""
        began = time.monotonic()
        try:
            newest, now = connection.execute(
                f"select max({node.loaded_at_field}), now() from {node.relation_name}{where}"
            ).fetchall()[0]
        except duckdb.Error:
            left.append(node)
            continue
        moment = datetime.min if newest is None else newest
        if not isinstance(moment, datetime):
            left.append(node)
            continue
        # What bears no zone is UTC.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        age = (now - moment).total_seconds()
        status = _status(node.freshness, age)
        found.append(Age(node, status, moment, age, time.monotonic() - began))
    return found, left


def _status(freshness: Any, age: float) -> str:
    for name, status in (("error_after", "error"), ("warn_after", "warn")):
        allowed = getattr(freshness, name, None)
        if allowed is not None and allowed.count is not None and allowed.period is not None:
            longest = timedelta(**{f"{allowed.period}s": allowed.count})
            if age > longest.total_seconds():
                return status
    return "pass"
