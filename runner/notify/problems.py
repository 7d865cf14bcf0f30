"""What is wrong at present: problems, from the run that met them first to the run that did not.

items of a run's steps -> failing things -> compared with the open problems of the history ->
new, still there, recovered

A problem is named by step, kind and name (this source, this model, this test), so that it is the
same one however its message changes. It is over when a run looked at that thing again and found it
well, or did the whole step and the thing is no more. A run that was interrupted tells nothing. Left
out: warnings, and tables of a failed source, which its message names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.redaction import redact
from runner.history import History, Item, now

if TYPE_CHECKING:
    from runner.machine import Visit
    from runner.observers import Ending
    from runner.steps import Run

Key = tuple[str, str, str]
# Of a source's tables its own item tells; comparisons are answers to a question that was put.
_TOLD_BY_OTHERS = ("table", "comparison")
# One problem however many versions are held back, one after the other, until a person decides.
_WAITING = ("version", "waiting for approval")
_LONGEST = 600
_LINES = 4


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, from its first run on.

    Attributes:
        step: The step that met it.
        kind: What it is: source, file, model, seed, test, freshness, anomaly, landing, version,
            `step` for a step that broke off; of a watch, `watch` for its cycles and
            `schema_change` for a table whose contract refuses what came.
        name: Its name, such as `shop` or `fct_orders`.
        message: What was said when it was met last.
        first_seen: When it was met first (ISO 8601, UTC).
        first_run: By which run.
        last_seen: When it was met last.
        last_run: By which run.
    """

    step: str
    kind: str
    name: str
    message: str
    first_seen: str
    first_run: str
    last_seen: str
    last_run: str

    @property
    def key(self) -> Key:
        """What makes it the same problem in another run."""
        return (self.step, self.kind, self.name)


@dataclass(frozen=True)
class Change:
    """How a run changed what is wrong.

    Attributes:
        new: Problems that were not there before.
        recovered: Problems that are over.
        remaining: Problems that were there before and still are.
    """

    new: tuple[Problem, ...]
    recovered: tuple[Problem, ...]
    remaining: tuple[Problem, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.recovered)


def open_problems(history: History) -> list[Problem]:
    """What is wrong at present, the oldest first."""
    columns = "step, kind, name, message, first_seen, first_run, last_seen, last_run"
    rows = history.rows(
        f"select {columns} from problems where cleared_at is null order by problem_id"
    )
    return [Problem(**row) for row in rows]


def compare(run: Run, ending: Ending, before: Sequence[Problem]) -> Change:
    """Finds out what a run has changed, and notes nothing.

    Args:
        run: The run.
        ending: How it ended.
        before: What was wrong before it.
    """
    found = dict(_found(ending))
    return differences(found, before, run.run_id, lambda known: _is_over(known, run, ending))


def differences(
    found: Mapping[Key, str],
    before: Sequence[Problem],
    run_id: str,
    is_over: Callable[[Problem], bool],
) -> Change:
    """What is new, over and still there, and notes nothing.

    Args:
        found: What is wrong now, with what to say of it.
        before: What was wrong before.
        run_id: The run that found it.
        is_over: Whether a problem that was not found has recovered.
    """
    moment = now()
    known = {problem.key: problem for problem in before}
    new = [
        Problem(*key, text, moment, run_id, moment, run_id)
        for key, text in found.items()
        if key not in known
    ]
    remaining, recovered = [], []
    for key, problem in known.items():
        seen = {**vars(problem), "last_seen": moment, "last_run": run_id}
        if key in found:
            remaining.append(Problem(**{**seen, "message": found[key]}))
        elif is_over(problem):
            recovered.append(Problem(**seen))
        else:
            remaining.append(problem)
    return Change(tuple(new), tuple(recovered), tuple(remaining))


def statements(change: Change, run_id: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What notes a change in the history."""
    for problem in change.new:
        yield (
            "insert into problems (step, kind, name, message, first_seen, first_run, last_seen, "
            "last_run) values (?, ?, ?, ?, ?, ?, ?, ?)",
            tuple(vars(problem).values()),
        )
    where = "where step = ? and kind = ? and name = ? and cleared_at is null"
    for problem in change.remaining:
        yield (
            f"update problems set message = ?, last_seen = ?, last_run = ? {where}",
            (problem.message, problem.last_seen, problem.last_run, *problem.key),
        )
    for problem in change.recovered:
        yield (
            f"update problems set cleared_at = ?, cleared_run = ? {where}",
            (problem.last_seen, run_id, *problem.key),
        )


def decided(history: History, run_id: str) -> None:
    """Notes that a person has decided on the version that was held back; nobody need be told."""
    history.write_all(
        [
            (
                "update problems set cleared_at = ?, cleared_run = ? "
                "where kind = ? and name = ? and cleared_at is null",
                (now(), run_id, *_WAITING),
            )
        ]
    )


def _found(ending: Ending) -> Iterator[tuple[Key, str]]:
    """Every failing thing of a run, with what to say of it."""
    if ending.result is None:
        yield ("run", "step", "a fault in the program"), shortened(ending.message)
        return
    for step in ending.result.steps:
        failing = [item for item in step.result.items if _is_bad(item)]
        for item in failing:
            yield _key(step.name, item), shortened(item.message)
        error = step.result.stop or next(iter(step.result.later), None)
        text = shortened(str(error) if error else step.result.text)
        if step.result.status == "waiting":
            yield (step.name, *_WAITING), text
        elif step.result.status == "failed" and not failing:
            yield (step.name, "step", type(error).__name__ if error else "failed"), text


def _is_bad(item: Item) -> bool:
    return item.status == "failed" and item.kind not in _TOLD_BY_OTHERS


def _key(step: str, item: Item) -> Key:
    # A folder that was lost has a fault for each of its files; it is one problem.
    return (step, item.kind, "landing" if item.kind == "landing" else item.name)


def shortened(text: str) -> str:
    """What is kept of a message: its first lines, without secrets."""
    lines = [line.rstrip() for line in redact(text).strip().splitlines() if line.strip()]
    return "\n".join(lines[:_LINES])[:_LONGEST]


def _is_over(problem: Problem, run: Run, ending: Ending) -> bool:
    """Whether a run that did not meet a problem shows that it is over."""
    if ending.result is None:
        return False
    if problem.step == "run":
        return True
    steps = [step for step in ending.result.steps if step.name == problem.step]
    return any(_has_passed(problem, step, run.selection.everything) for step in steps)


def _has_passed(problem: Problem, step: Visit, everything: bool) -> bool:
    items = step.result.items
    same = [item for item in items if _key(step.name, item) == problem.key]
    if any(item.status in ("ok", "nothing_new", "warned") for item in same):
        return True
    if same or step.result.status == "skipped":
        return False
    if problem.kind == "step" or problem.key[1:] == _WAITING:
        return step.result.status not in ("failed", "waiting")
    # The step went over all there is, and got as far as such things: this one is no more.
    reached = step.result.status != "failed" or any(item.kind == problem.kind for item in items)
    return everything and reached
