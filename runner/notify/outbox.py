"""Messages on their way: each is kept until every target has it.

message -> history, in one transaction with its problems -> targets, side by side -> told

A message that was delivered but not noted as such, because the machine died in between, is sent
again with the same id: at least once, never lost. What nobody took for a week is given up.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ingestion.failpoints import failpoint
from runner.history import History, now
from runner.notify.message import Message
from runner.notify.targets import DeliveryFailed, Target
from runner.report import Reporter

_PAUSES = (0.0, 1.0, 3.0)
_GIVEN_UP_DAYS = 7
_KEPT_DAYS = 90


@dataclass(frozen=True)
class Delivery:
    """What became of the messages to a target.

    Attributes:
        target: Its name.
        delivered: How many messages it took.
        waiting: How many it did not take; they are sent again after the next run.
        error: Why; empty if it took all.
    """

    target: str
    delivered: int
    waiting: int
    error: str = ""


def statements(
    message: Message, targets: Iterable[Target]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What puts a message into the outbox, for each target."""
    content = json.dumps(message.content(), ensure_ascii=False)
    for target in targets:
        yield (
            "insert or ignore into notices (message_id, target, made_at, content) "
            "values (?, ?, ?, ?)",
            (message.message_id, target.name, now(), content),
        )


def deliver(history: History, targets: Sequence[Target]) -> list[Delivery]:
    """Sends whatever waits, the oldest first, to all targets side by side.

    Returns:
        What became of it, for each target that something waited for.
    """
    _tidy(history)
    waiting: dict[str, list[dict[str, Any]]] = {target.name: [] for target in targets}
    for notice in history.rows("select * from notices where told_at is null order by made_at"):
        if notice["target"] in waiting:
            waiting[notice["target"]].append(notice)
    due = [target for target in targets if waiting[target.name]]
    if not due:
        return []
    one_at_a_time = threading.Lock()

    def note(sql: str, *values: str) -> None:
        with one_at_a_time:
            history.write_all([(sql, values)])

    with ThreadPoolExecutor(len(due), "notify") as pool:
        return list(pool.map(lambda to: _deliver_to(to, waiting[to.name], note), due))


def deliver_all(history: History, targets: Sequence[Target], reporter: Reporter) -> None:
    """Sends whatever waits, and says whom it did not reach."""
    for delivery in deliver(history, targets):
        if delivery.error:
            reporter.warn(
                f"{delivery.target} could not be told: {delivery.error}; "
                "it is tried again after the next run, or by `wellspring notify`"
            )


def try_thrice(target: Target, content: dict[str, Any]) -> None:
    """Delivers a message, again after a pause where that can help.

    Raises:
        DeliveryFailed: It could not be delivered.
    """
    for attempt, pause in enumerate(_PAUSES, start=1):
        time.sleep(pause)
        try:
            target.deliver(content)
        except DeliveryFailed as error:
            if attempt == len(_PAUSES) or not error.may_pass:
                raise
        else:
            return


def _deliver_to(
    target: Target, notices: Sequence[dict[str, Any]], note: Callable[..., None]
) -> Delivery:
    for place, notice in enumerate(notices):
        key = (notice["message_id"], notice["target"])
        try:
            try_thrice(target, json.loads(notice["content"]))
        except DeliveryFailed as error:
            # The others would meet the same fault, and a run waits for this.
            note(_FAILED, str(error), *key)
            return Delivery(target.name, place, len(notices) - place, str(error))
        failpoint("notify.delivered")
        note(_TOLD, now(), *key)
    return Delivery(target.name, len(notices), 0)


_TOLD = (
    "update notices set told_at = ?, last_error = null, attempts = attempts + 1 "
    "where message_id = ? and target = ?"
)
_FAILED = (
    "update notices set last_error = ?, attempts = attempts + 1 where message_id = ? and target = ?"
)


def _tidy(history: History) -> None:
    def ago(days: int) -> str:
        return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")

    history.write_all(
        [
            ("delete from notices where told_at is null and made_at < ?", (ago(_GIVEN_UP_DAYS),)),
            ("delete from notices where told_at < ?", (ago(_KEPT_DAYS),)),
            ("delete from problems where cleared_at < ?", (ago(_KEPT_DAYS),)),
        ]
    )
