"""The interpreter of flows: order, choices, retries, catches, parallel and mapped work."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from ingestion.errors import BadInput, IngestionError, SourceUnreachable
from runner.machine import (
    Catch,
    Choice,
    Fail,
    Flow,
    Machine,
    Map,
    Parallel,
    Retry,
    StepResult,
    Succeed,
    Task,
    Wait,
    Watch,
    to_later,
)

FAST = Retry(attempts=3, first_wait=0.01, longest_wait=0.02)


@dataclass
class Seen(Watch):
    """Notes what the machine tells."""

    begun: list[str] = field(default_factory=list)
    attempts: list[tuple[str, str, int, bool]] = field(default_factory=list)
    waited: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def begins(self, name: str) -> None:
        self.begun.append(name)

    def tried(
        self, name: str, thing: str, number: int, seconds: float, error: IngestionError | None
    ) -> None:
        self.attempts.append((name, thing, number, error is None))

    def waits(self, name: str, thing: str, seconds: float, error: IngestionError) -> None:
        self.waited.append(thing or name)

    def breaks(self, name: str, seconds: float, error: BaseException) -> None:
        self.broken.append(name)


def ok(text: str = "done") -> StepResult:
    return StepResult("ok", text)


def carry(
    flow: Flow, context: Any = None, retry: Retry = FAST, **more: Any
) -> tuple[list[Any], list[str], Seen]:
    seen = Seen()
    machine = Machine(flow, context, retry, seen, lambda error: None, **more)
    visits, not_done = machine.run()
    return visits, not_done, seen


def raising(error: Exception) -> Any:
    def work(context: Any) -> StepResult:
        raise error

    return work


def failing(times: int, error: Exception) -> Any:
    """Work that fails so many times, then succeeds."""
    left = [times]

    def work(context: Any) -> StepResult:
        if left[0]:
            left[0] -= 1
            raise error
        return ok()

    return work


def test_states_follow_each_other_and_a_fault_ends_the_flow() -> None:
    flow = Flow(
        (
            Wait("lock", ""),
            Task("one", "", lambda context: ok()),
            Task("two", "", raising(BadInput("no"))),
            Task("three", "", lambda context: ok()),
            Succeed("done", ""),
            Fail("failed", ""),
        )
    )

    visits, not_done, seen = carry(flow)

    assert [(v.name, v.result.status) for v in visits] == [("one", "ok"), ("two", "failed")]
    assert isinstance(visits[-1].result.stop, BadInput)
    assert not_done == ["three"]
    assert seen.begun == ["one", "two"]


def test_what_may_pass_is_tried_again_and_what_cannot_is_not() -> None:
    lost = SourceUnreachable("no answer", may_pass=True)
    flow = Flow(
        (
            Task("lost", "", failing(2, lost), retries=True),
            Task("refused", "", raising(SourceUnreachable("wrong password")), retries=True),
        )
    )

    visits, _, seen = carry(flow)

    assert [visit.attempts for visit in visits] == [3, 1]
    assert visits[0].result.status == "ok"
    assert visits[1].result.stop is not None
    assert seen.waited == ["lost", "lost"]
    assert [a[2:] for a in seen.attempts if a[0] == "lost"] == [(1, False), (2, False), (3, True)]


def test_attempts_have_an_end() -> None:
    lost = SourceUnreachable("no answer", may_pass=True)
    flow = Flow((Task("lost", "", raising(lost), retries=True),))

    visits, _, _ = carry(flow, retry=Retry(2, 0.01, 0.02))

    assert visits[0].attempts == 2
    assert visits[0].result.stop is lost


def test_waits_grow_and_have_a_limit() -> None:
    lost = SourceUnreachable("no answer", may_pass=True)
    told: list[float] = []

    class Waits(Watch):
        def waits(self, name: str, thing: str, seconds: float, error: IngestionError) -> None:
            told.append(seconds)

    flow = Flow((Task("lost", "", raising(lost), retries=True),))
    machine = Machine(flow, None, Retry(5, 10, 50), Waits(), lambda error: None)
    machine._stopped.wait = lambda seconds=None: False  # type: ignore[method-assign,assignment]  # no test waits so long

    machine.run()

    assert len(told) == 4
    assert all(low <= wait <= low + 1 for low, wait in zip((10, 20, 40), told, strict=False))
    assert told[3] == 50


def test_a_caught_fault_goes_on_and_is_told_at_the_end() -> None:
    caught = Catch((BadInput,), "goes on", lambda context, result: to_later(result))
    flow = Flow(
        (
            Task("one", "", raising(BadInput("no")), catch=caught),
            Task("two", "", lambda context: ok()),
        )
    )

    visits, not_done, _ = carry(flow)

    assert [visit.name for visit in visits] == ["one", "two"]
    assert not not_done
    assert visits[0].result.status == "failed"
    assert [str(error) for error in visits[0].result.later] == ["no"]


def test_another_fault_is_not_caught() -> None:
    caught = Catch((SourceUnreachable,), "goes on", lambda context, result: to_later(result))
    flow = Flow((Task("one", "", raising(BadInput("no")), catch=caught), Task("two", "", ok)))

    visits, not_done, _ = carry(flow)

    assert visits[0].result.stop is not None
    assert not_done == ["two"]


@pytest.mark.parametrize("changed", [True, False])
def test_choice_goes_on_or_skips_ahead(changed: bool) -> None:
    flow = Flow(
        (
            Choice(
                "changed",
                "",
                ask=lambda context: changed,
                otherwise="audit",
                needs=("build", "audit"),
                told=lambda context: StepResult("nothing_new", "as it was"),
            ),
            Task("build", "", lambda context: ok("built")),
            Task("audit", "", lambda context: ok()),
        )
    )

    visits, _, _ = carry(flow)

    expected = "built" if changed else "as it was"
    assert [visit.name for visit in visits] == ["build", "audit"]
    assert visits[0].result.text == expected


@pytest.mark.parametrize("calm", [True, False])
def test_choice_may_lead_to_a_wait_that_ends_the_flow(calm: bool) -> None:
    flow = Flow(
        (
            Task("publish", "", lambda context: ok()),
            Choice("calm", "", lambda context: calm, otherwise="approval", needs=("publish",)),
            Succeed("done", ""),
            Wait("approval", "", ends=True),
            Task("never", "", lambda context: ok()),
        )
    )

    visits, not_done, _ = carry(flow)

    assert [visit.name for visit in visits] == ["publish"]
    assert not not_done


def mapped(work: Any, things: list[str], at_once: int = 2, **more: Any) -> Map:
    return Map(
        "extract",
        "",
        over=lambda context: things,
        label=str,
        work=work,
        fault=lambda result: result if isinstance(result, IngestionError) else None,
        gather=lambda context, results: StepResult("ok", ",".join(map(str, results))),
        at_once=lambda context: at_once,
        retries=True,
        **more,
    )


def test_map_does_things_side_by_side_and_keeps_their_order() -> None:
    both = threading.Barrier(2, timeout=10)

    def work(context: Any, thing: str, former: Any) -> str:
        both.wait()
        return thing.upper()

    visits, _, _ = carry(Flow((mapped(work, ["a", "b", "c", "d"]),)))

    assert visits[0].result.text == "A,B,C,D"
    assert visits[0].attempts == 4


def test_map_tries_one_thing_again_with_its_former_result() -> None:
    given: list[tuple[str, Any]] = []

    def work(context: Any, thing: str, former: Any) -> Any:
        given.append((thing, former))
        if thing == "b" and former is None:
            return SourceUnreachable("no answer", may_pass=True)
        return thing

    visits, _, seen = carry(Flow((mapped(work, ["a", "b"], 1),)))

    assert visits[0].result.text == "a,b"
    assert [thing for thing, _ in given] == ["a", "b", "b"]
    assert isinstance(given[2][1], SourceUnreachable)
    assert seen.waited == ["b"]


def test_an_interruption_stops_what_waits_for_another_try() -> None:
    stopped: list[bool] = []

    def work(context: Any, thing: str, former: Any) -> Any:
        if thing == "a":
            time.sleep(0.1)
            raise KeyboardInterrupt
        return SourceUnreachable("no answer", may_pass=True)

    flow = Flow((mapped(work, ["a", "b"], interrupt=lambda: stopped.append(True)),))
    began = time.monotonic()
    seen = Seen()

    with pytest.raises(KeyboardInterrupt):
        Machine(flow, None, Retry(9, 60, 60), seen, lambda error: None).run()

    assert time.monotonic() - began < 30
    assert stopped == [True]
    assert seen.broken == ["extract"]


def test_parallel_branches_meet_before_the_flow_goes_on() -> None:
    both = threading.Barrier(2, timeout=10)
    order: list[str] = []

    def branch(name: str, seconds: float) -> Any:
        def work(context: Any) -> StepResult:
            both.wait()
            time.sleep(seconds)
            order.append(name)
            return ok()

        return work

    flow = Flow(
        (
            Parallel(
                "begin",
                "",
                (
                    Task("quick", "", branch("quick", 0)),
                    Task("slow", "", branch("slow", 0.1)),
                    Task("unwanted", "", branch("unwanted", 0), when=lambda context: False),
                ),
            ),
            Task("after", "", lambda context: (order.append("after"), ok())[1]),
        )
    )

    visits, _, _ = carry(flow)

    assert order == ["quick", "slow", "after"]
    assert [visit.name for visit in visits] == ["quick", "slow", "after"]


def test_a_fault_before_a_state_is_one_of_the_state() -> None:
    def before(name: str) -> None:
        if name == "two":
            raise BadInput("no room")

    flow = Flow((Task("one", "", lambda context: ok()), Task("two", "", lambda context: ok())))

    visits, _, _ = carry(flow, before=before)

    assert [visit.result.status for visit in visits] == ["ok", "failed"]


def test_a_part_of_a_flow_keeps_its_begin_its_ends_and_choices_that_make_sense() -> None:
    flow = Flow(
        (
            Wait("lock", ""),
            Parallel("begin", "", (Task("prepare", "", ok),)),
            Task("load", "", ok),
            Choice("changed", "", bool, otherwise="audit", needs=("build", "audit")),
            Task("build", "", ok),
            Task("audit", "", ok),
            Task("publish", "", ok),
            Choice("calm", "", bool, otherwise="approval", needs=("publish",)),
            Succeed("done", ""),
            Wait("approval", "", ends=True),
            Fail("failed", ""),
        )
    )
    own = Task("build", "another one", ok)

    def names(*steps: str | Task) -> list[str]:
        return [state.name for state in flow.only(steps).states]

    assert names("load") == ["lock", "begin", "load", "done", "failed"]
    assert names("build", "audit") == [
        *("lock", "begin", "changed", "build", "audit", "done", "failed")
    ]
    assert names("publish", "load") == [
        *("lock", "begin", "publish", "load", "calm", "done", "approval", "failed")
    ]
    assert flow.only([own, "audit"])["build"] is own
