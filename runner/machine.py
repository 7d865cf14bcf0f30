"""A small state machine: what a flow is made of, and the interpreter that carries it through.

flow (states in order) -> `Machine.run` -> each state with its attempts -> `Visit`s -> the end

States have the kinds that are usual for such machines: `Task`, `Choice`, `Parallel`, `Map`, `Wait`,
`Succeed`, `Fail`; a task or map says what is tried again (`Retry`) and which faults it survives
(`Catch`). Everything of it is data, so that `plan` can show a flow without doing it. Left out: what
the states do, which `steps` knows, and which there are, which `flow` declares.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from ingestion.errors import IngestionError
from runner.history import Item


@dataclass(frozen=True)
class StepResult:
    """What a state did.

    Attributes:
        status: ok, nothing_new, warned, failed, skipped or waiting.
        text: One line for people.
        items: What it did to each thing.
        later: Faults that do not stop the run but make it end non-zero.
        stop: The fault that ends the run; None if it goes on.
        rows: Rows that came of it; None where that means nothing.
        bytes: Size of what came of it, likewise.
    """

    status: str
    text: str
    items: tuple[Item, ...] = ()
    later: tuple[IngestionError, ...] = ()
    stop: IngestionError | None = None
    rows: int | None = None
    bytes: int | None = None


Work = Callable[[Any], StepResult]


@dataclass(frozen=True)
class Retry:
    """How often something is tried, and how long is waited in between.

    Waits double from the first to the longest, each with up to a second of chance on top, so that
    many who wait for the same thing do not come back at once.

    Attributes:
        attempts: Tries in all, at least 1.
        first_wait: Seconds before the second try.
        longest_wait: Seconds before any try, at most.
    """

    attempts: int = 1
    first_wait: float = 1.0
    longest_wait: float = 60.0


@dataclass(frozen=True)
class Catch:
    """A fault that a state survives.

    Attributes:
        faults: The classes of faults.
        title: What happens instead, in one sentence.
        handle: Is given the context and the result that holds the fault; returns the result to go
            on with. One that leaves `stop` as it is lets the run end.
    """

    faults: tuple[type[IngestionError], ...]
    title: str
    handle: Callable[[Any, StepResult], StepResult]

    def meets(self, result: StepResult) -> bool:
        """Whether the result holds such a fault."""
        found = (*result.later, *([result.stop] if result.stop else []))
        return any(isinstance(fault, self.faults) for fault in found)


@dataclass(frozen=True)
class State:
    """A place in a flow.

    Attributes:
        name: Its name, unique in the flow.
        title: What happens there, in one sentence.
    """

    name: str
    title: str


@dataclass(frozen=True)
class Task(State):
    """Does one thing.

    Attributes:
        work: The function that does it.
        retries: Whether it is tried again after a fault that may pass.
        catch: The fault that it survives.
        when: Whether it is to be done at all; without it, always.
    """

    work: Work
    retries: bool = False
    catch: Catch | None = None
    when: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Parallel(State):
    """Does several things side by side and goes on when all are done.

    Attributes:
        branches: The things; the first is done by the thread that carries the flow.
    """

    branches: tuple[Task, ...]


@dataclass(frozen=True)
class Map(State):
    """Does the same for each of several things, some of them side by side.

    Attributes:
        over: The things.
        label: The name of a thing.
        work: Does it to one thing; on a further attempt it is given the former result.
        fault: What went wrong with a thing, by its result.
        gather: Makes one result of all.
        at_once: How many are done side by side.
        retries: Whether a thing is tried again after a fault that may pass.
        catch: The fault that it survives.
        around: Held while things are done.
        interrupt: Called when the flow breaks off, so that what is under way ends soon.
    """

    over: Callable[[Any], Sequence[Any]]
    label: Callable[[Any], str]
    work: Callable[[Any, Any, Any], Any]
    fault: Callable[[Any], IngestionError | None]
    gather: Callable[[Any, Sequence[Any]], StepResult]
    at_once: Callable[[Any], int]
    retries: bool = False
    catch: Catch | None = None
    around: Callable[[Any], AbstractContextManager[Any]] | None = None
    interrupt: Callable[[], None] | None = None


@dataclass(frozen=True)
class Choice(State):
    """Goes on with the next state, or skips ahead.

    Attributes:
        ask: The question; the title words it. True goes on with the next state.
        otherwise: The state to skip to.
        needs: The states without which the question is pointless.
        told: What is said of a task that is skipped.
    """

    ask: Callable[[Any], bool]
    otherwise: str
    needs: tuple[str, ...]
    told: Callable[[Any], StepResult] = lambda context: StepResult("skipped", "")


@dataclass(frozen=True)
class Wait(State):
    """Waits for something outside of the flow.

    Attributes:
        ends: Whether a choice that leads here ends the run, and a command goes on from here; else
            it is waited for before the first state, by whoever carries the flow.
    """

    ends: bool = False


@dataclass(frozen=True)
class Succeed(State):
    """The end of a flow that was carried through, with or without faults that were caught."""


@dataclass(frozen=True)
class Fail(State):
    """The end of a flow that a fault broke off."""


@dataclass(frozen=True)
class Flow:
    """States in their order.

    Attributes:
        states: The states; each is followed by the next unless it says otherwise.
    """

    states: tuple[State, ...]

    def __getitem__(self, name: str) -> State:
        return next(state for state in self.states if state.name == name)

    def __contains__(self, name: object) -> bool:
        return any(state.name == name for state in self.states)

    def only(self, steps: Sequence[str | State]) -> Flow:
        """The part of the flow that does the given steps, in the order given.

        What comes before the first step of the flow stays, and so do its ends. A choice stays if
        what it needs does.

        Args:
            steps: Names of states, or states that this flow does not have.
        """
        names = [step if isinstance(step, str) else step.name for step in steps]
        own = {state.name: state for state in self.states}
        given = {step.name: step for step in steps if not isinstance(step, str)}
        tasks = [given[name] if name in given else own[name] for name in names]
        begins = [s for s in self.states if isinstance(s, Parallel) or self._is_waited_for(s)]
        ends = [s for s in self.states if isinstance(s, Succeed | Fail | Wait) and s not in begins]
        chosen: list[State] = []
        for state in (*(b for b in begins if b not in tasks), *tasks, *ends):
            before = self._before(state)
            if isinstance(before, Choice) and set(before.needs) <= set(names):
                chosen.append(before)
            if isinstance(state, Wait) and state in ends and not _leads_to(chosen, state):
                continue
            chosen.append(state)
        return Flow(tuple(chosen))

    @staticmethod
    def _is_waited_for(state: State) -> bool:
        return isinstance(state, Wait) and not state.ends

    def _before(self, state: Any) -> State | None:
        place = self.states.index(state) if state in self.states else 0
        return self.states[place - 1] if place else None


def _leads_to(states: Sequence[State], target: State) -> bool:
    return any(isinstance(s, Choice) and s.otherwise == target.name for s in states)


@dataclass(frozen=True)
class Visit:
    """A state that was entered.

    Attributes:
        name: Its name.
        seconds: How long it took.
        result: What it did.
        attempts: How often it was tried; of a map, the tries of all things.
    """

    name: str
    seconds: float
    result: StepResult
    attempts: int = 1


class Watch:
    """Is told what the machine does; the parent of those that note it."""

    def begins(self, name: str) -> None:
        """A state is entered."""

    def tried(
        self, name: str, thing: str, number: int, seconds: float, error: IngestionError | None
    ) -> None:
        """An attempt has ended, well or with an error."""

    def waits(self, name: str, thing: str, seconds: float, error: IngestionError) -> None:
        """An attempt failed in a way that may pass; the next begins in so many seconds."""

    def ends(self, visit: Visit) -> None:
        """A state has ended."""

    def breaks(self, name: str, seconds: float, error: BaseException) -> None:
        """A state was left by an exception that is no fault of the work: an interruption, a bug."""


Translate = Callable[[Exception], IngestionError | None]


class Machine:
    """Carries a flow through.

    Args:
        flow: The flow.
        context: What its states work on.
        retry: How faults that may pass are tried again.
        watch: Is told what happens.
        translate: Turns an exception into a fault with words for people; None for a bug.
        before: Called with the name of each state that does something; may raise a fault.
    """

    def __init__(
        self,
        flow: Flow,
        context: Any,
        retry: Retry,
        watch: Watch,
        translate: Translate,
        before: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._flow = flow
        self._context = context
        self._retry = retry
        self._watch = watch
        self._translate = translate
        self._before = before
        self._stopped = threading.Event()

    def run(self) -> tuple[list[Visit], list[str]]:
        """Enters one state after the other until the flow ends.

        Returns:
            The states that were entered, and the names of those that were not because a fault
            ended the flow before.
        """
        visits: list[Visit] = []
        ahead = list(self._flow.states)
        target: str | None = None
        while ahead:
            state = ahead.pop(0)
            if isinstance(state, Succeed | Fail) or (
                isinstance(state, Wait) and state.name == target
            ):
                break
            for visit in self._enter(state):
                visits.append(visit)
                if visit.result.stop is not None:
                    return visits, [s.name for s in ahead if isinstance(s, Task | Map)]
            if isinstance(state, Choice) and not state.ask(self._context):
                ahead, target = self._skip(state, ahead, visits), state.otherwise
        return visits, []

    @staticmethod
    def _passes(state: State, target: str | None) -> bool:
        """Whether the flow goes on after a state that does nothing itself."""
        return isinstance(state, Wait) and state.name != target

    def _skip(self, choice: Choice, ahead: list[State], visits: list[Visit]) -> list[State]:
        while ahead[0].name != choice.otherwise:
            skipped = ahead.pop(0)
            if not isinstance(skipped, Task | Map):
                continue
            self._watch.begins(skipped.name)
            visits.append(Visit(skipped.name, 0.0, choice.told(self._context)))
            self._watch.ends(visits[-1])
        return ahead

    def _enter(self, state: State) -> Iterator[Visit]:
        if isinstance(state, Task):
            yield self._noted(state, lambda: self._do_task(state))
        elif isinstance(state, Map):
            yield self._noted(state, lambda: self._do_map(state))
        elif isinstance(state, Parallel):
            yield from self._do_parallel(state)

    def _noted(self, state: State, do: Callable[[], tuple[StepResult, int]]) -> Visit:
        self._watch.begins(state.name)
        began = time.monotonic()
        try:
            result, attempts = do()
        except BaseException as error:
            self._stopped.set()
            self._watch.breaks(state.name, time.monotonic() - began, error)
            raise
        visit = Visit(state.name, time.monotonic() - began, result, attempts)
        self._watch.ends(visit)
        return visit

    def _do_task(self, task: Task) -> tuple[StepResult, int]:
        tries = 0

        def attempt(former: StepResult | None) -> StepResult:
            nonlocal tries
            tries += 1
            return self._tried(task, task.work)

        result = self._again(task, "", attempt, lambda done: done.stop)
        return _caught(task.catch, self._context, result), tries

    def _tried(self, state: State, work: Work) -> StepResult:
        try:
            self._before(state.name)
            return work(self._context)
        except IngestionError as error:
            return StepResult("failed", error.message, stop=error)
        except Exception as error:
            fault = self._translate(error)
            if fault is None:
                raise
            return StepResult("failed", fault.message, stop=fault)

    def _do_map(self, state: Map) -> tuple[StepResult, int]:
        things = state.over(self._context)
        tries = [0]

        def work(thing: Any) -> Any:
            def attempt(former: Any) -> Any:
                tries[0] += 1
                return state.work(self._context, thing, former)

            return self._again(state, state.label(thing), attempt, state.fault)

        def gather(context: Any) -> StepResult:
            around = state.around(context) if state.around else nullcontext()
            with around:
                return state.gather(context, self._each(state, things, work))

        result = self._tried(state, gather)
        return _caught(state.catch, self._context, result), max(1, tries[0])

    def _each(self, state: Map, things: Sequence[Any], work: Callable[[Any], Any]) -> Sequence[Any]:
        at_once = max(1, min(state.at_once(self._context), len(things)))
        with ThreadPoolExecutor(at_once, state.name) as pool:
            try:
                return list(pool.map(work, things))
            except BaseException:
                self._stopped.set()
                if state.interrupt is not None:
                    state.interrupt()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _do_parallel(self, state: Parallel) -> Iterator[Visit]:
        wanted = [task for task in state.branches if task.when is None or task.when(self._context)]
        first, others = wanted[0], wanted[1:]
        done: dict[str, tuple[StepResult, float] | BaseException] = {}

        def aside(task: Task) -> None:
            began = time.monotonic()
            try:
                result, _ = self._do_task(task)
                done[task.name] = (result, time.monotonic() - began)
            except BaseException as error:
                # Raised again by the thread that waits, which is where a run can be ended.
                done[task.name] = error

        # Daemons: an interrupted run does not wait for them.
        threads = [threading.Thread(target=aside, args=(task,), daemon=True) for task in others]
        for thread in threads:
            thread.start()
        yield self._noted(first, lambda: self._do_task(first))
        for thread, task in zip(threads, others, strict=True):
            thread.join()
            outcome = done[task.name]
            if isinstance(outcome, BaseException):
                raise outcome
            self._watch.begins(task.name)
            visit = Visit(task.name, outcome[1], outcome[0])
            self._watch.ends(visit)
            yield visit

    def _again(
        self,
        state: Task | Map,
        thing: str,
        attempt: Callable[[Any], Any],
        fault: Callable[[Any], IngestionError | None],
    ) -> Any:
        """Attempts until it is well, the fault will not pass, or it was tried often enough."""
        from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt
        from tenacity.wait import wait_exponential_jitter

        former: Any = None
        attempts = self._retry.attempts if state.retries else 1

        def once() -> Any:
            nonlocal former
            began = time.monotonic()
            former = attempt(former)
            number = int(calls.statistics["attempt_number"])
            seconds = time.monotonic() - began
            self._watch.tried(state.name, thing, number, seconds, fault(former))
            return former

        def may_pass(result: Any) -> bool:
            error = fault(result)
            return error is not None and error.may_pass and not self._stopped.is_set()

        def tell(call: RetryCallState) -> None:
            error = fault(former)
            if error is not None:
                self._watch.waits(state.name, thing, call.upcoming_sleep, error)

        calls = Retrying(
            stop=stop_after_attempt(attempts),
            wait=wait_exponential_jitter(
                max=self._retry.longest_wait, multiplier=self._retry.first_wait
            ),
            retry=retry_if_result(may_pass),
            before_sleep=tell,
            sleep=self._pause,
            retry_error_callback=lambda call: former,
        )
        return calls(once)

    def _pause(self, seconds: float) -> None:
        # Woken at once when the flow breaks off: then nothing is tried again.
        self._stopped.wait(seconds)


def _caught(catch: Catch | None, context: Any, result: StepResult) -> StepResult:
    return catch.handle(context, result) if catch and catch.meets(result) else result


def to_later(result: StepResult, status: str = "failed") -> StepResult:
    """The result with the fault that would end the run among those that only make it end badly."""
    if result.stop is None:
        return result
    return replace(result, status=status, later=(*result.later, result.stop), stop=None)
