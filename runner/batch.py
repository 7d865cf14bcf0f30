"""Data tests as few queries, with the verdicts that `dbt test` gives.

compiled tests -> one select a test, many in a query -> failures and limits -> `NodeResult`s

dbt takes some 60 ms of Python for a test whose query takes three. The tests of a warehouse that
nobody reads before the audit is over need not run one by one: dbt compiles them, they are asked
here. Left out: tests that keep their failures in a table, which dbt runs itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.errors import disk_full, disk_full_error, first_line
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from runner.withholding import Former

# More in one query take DuckDB longer to plan than they save in calls.
_BATCH = 20
# How the last good version is called where it stands in for what is withheld.
FORMER = "wellspring_former"
_THREADS = 2


@dataclass(frozen=True)
class Verdict:
    """What one test came to.

    Attributes:
        node: dbt's node of the test.
        status: pass, warn, fail or error, as dbt calls it.
        failures: Rows that it found, by its `fail_calc`; None if it could not be asked.
        message: dbt's wording; empty for a test that passed.
        seconds: Its share of the time that its batch took.
    """

    node: Any
    status: str
    failures: int | None
    message: str
    seconds: float


def can_batch(node: Any) -> bool:
    """Whether a test may be asked here: it keeps no failures, and is compiled SQL."""
    return not node.config.store_failures and bool(node.compiled_code)


def judge(
    nodes: Sequence[Any],
    settings: Settings,
    on_done: Callable[[Any], None],
    former: Former | None = None,
) -> list[Verdict]:
    """Asks compiled tests of the warehouse.

    Args:
        nodes: dbt's nodes, compiled; each of them `can_batch`.
        settings: The project's settings.
        on_done: Told of each node when its batch is done.
        former: What stands in for relations that are withheld.

    Returns:
        A verdict a node, in their order.

    Raises:
        DiskFull: A query had no room to spill.
    """
    from ingestion.warehouse import connect

    batches = [nodes[start : start + _BATCH] for start in range(0, len(nodes), _BATCH)]
    if not nodes:
        return []
    with connect(settings, read_only=True) as connection:
        if former is not None:
            place = str(former.database).replace("'", "''")
            connection.execute(f"attach '{place}' as {FORMER} (read_only)")

        def work(batch: Sequence[Any]) -> list[Verdict]:
            with connection.cursor() as cursor:
                return list(_asked(cursor, batch, settings, former))

        verdicts: list[Verdict] = []
        with ThreadPoolExecutor(_THREADS, "audit") as pool:
            for found in pool.map(work, batches):
                verdicts += found
                for verdict in found:
                    on_done(verdict.node)
    return verdicts


def ask(
    connection: duckdb.DuckDBPyConnection, nodes: Sequence[Any], settings: Settings
) -> list[Verdict]:
    """Asks compiled tests on a connection that is open already, one batch after the other.

    Args:
        connection: The warehouse.
        nodes: dbt's nodes, compiled; each of them `can_batch`.
        settings: The project's settings.

    Returns:
        A verdict a node, in their order.

    Raises:
        DiskFull: A query had no room to spill.
    """
    verdicts: list[Verdict] = []
    for start in range(0, len(nodes), _BATCH):
        verdicts += _asked(connection, nodes[start : start + _BATCH], settings, None)
    return verdicts


def _asked(
    cursor: duckdb.DuckDBPyConnection,
    batch: Sequence[Any],
    settings: Settings,
    former: Former | None,
) -> Iterator[Verdict]:
    """Asks a batch at once, and one by one if any of it is refused."""
    import duckdb

    began = time.monotonic()
    parts = [_question(place, node, former) for place, node in enumerate(batch)]
    try:
        answers = cursor.execute("\nunion all\n".join(parts)).fetchall()
    except duckdb.Error as error:
        if disk_full(error):
            raise disk_full_error(settings.data_dir, error) from error
        if len(batch) > 1:
            for node in batch:
                yield from _asked(cursor, [node], settings, former)
        else:
            seconds = time.monotonic() - began
            yield Verdict(batch[0], "error", None, first_line(error), seconds)
        return
    seconds = (time.monotonic() - began) / len(batch)
    for place, failures, should_warn, should_fail in sorted(answers):
        yield _verdict(batch[place], failures, should_warn, should_fail, seconds)


def _question(place: int, node: Any, former: Former | None) -> str:
    config = node.config
    sql = former.rewritten(node.compiled_code) if former else node.compiled_code
    limit = f"limit {config.limit}" if config.limit is not None else ""
    return (
        f"select {place} as place, {config.fail_calc} as failures, "
        f"{config.fail_calc} {config.warn_if} as should_warn, "
        f"{config.fail_calc} {config.error_if} as should_fail "
        f"from (\n{sql}\n{limit}\n) as dbt_internal_test"
    )


def _verdict(
    node: Any, failures: Any, should_warn: bool, should_fail: bool, seconds: float
) -> Verdict:
    count = int(failures or 0)
    told = f"Got {count} result{'' if count == 1 else 's'}, configured to"
    if node.config.severity.upper() == "ERROR" and should_fail:
        return Verdict(node, "fail", count, f"{told} fail if {node.config.error_if}", seconds)
    if should_warn:
        return Verdict(node, "warn", count, f"{told} warn if {node.config.warn_if}", seconds)
    return Verdict(node, "pass", 0, "", seconds)
