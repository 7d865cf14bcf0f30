"""Versions: kept, rolled back, held back, approved, whatever kills it; readers notice nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from publishkit import Warehouse, child

from ingestion.errors import BadInput, DeclarationError
from runner.gates import Gate
from runner.publications import approve, rollback
from runner.version_list import version_fields
from runner.versions import (
    all_versions,
    current_version,
    find_version,
    waiting_version,
)

HALF = Gate(measure="sum(n)", moves="50%")


def states(warehouse: Warehouse) -> dict[str, str]:
    return {fields["version"]: fields["state"] for fields in version_fields(warehouse.settings)}


def actions(warehouse: Warehouse) -> list[tuple[str, str]]:
    found = warehouse.history.rows("select action, version from publications order by number")
    return [(row["action"], row["version"]) for row in found]


def back(warehouse: Warehouse, name: str | None = None) -> str:
    return rollback(warehouse.settings, warehouse.history, name).text


def age(warehouse: Warehouse, name: str, days: int) -> None:
    """Makes a version older than it is."""
    path = find_version(warehouse.settings, name).path / "manifest.json"
    manifest = json.loads(path.read_text())
    moment = datetime.now(UTC) - timedelta(days=days)
    manifest["created_at"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    path.write_text(json.dumps(manifest))


# -- rollback ----------------------------------------------------------------------------------


def test_rollback_gives_back_what_was_there_before(warehouse: Warehouse) -> None:
    first, second = warehouse.publish(1), warehouse.publish(2)

    said = back(warehouse)

    assert warehouse.read() == (1, 1)
    assert said == (f"readers get {first.version.name} again, {second.version.name} no longer")
    assert states(warehouse) == {
        second.version.name: "rolled back",
        first.version.name: "current",
    }
    assert actions(warehouse) == [
        ("publish", first.version.name),
        ("publish", second.version.name),
        ("rollback", first.version.name),
    ]


def test_rollback_done_again_changes_nothing_and_says_so(warehouse: Warehouse) -> None:
    for number in (1, 2, 3):
        warehouse.publish(number)
    back(warehouse)

    assert "is current already, since the rollback" in back(warehouse)
    assert warehouse.read() == (2, 2)
    assert len(actions(warehouse)) == 4


def test_same_content_does_not_come_back_by_itself_but_new_content_does(
    warehouse: Warehouse,
) -> None:
    first, second = warehouse.publish(1), warehouse.publish(2)
    back(warehouse)

    held = warehouse.publish()

    assert held.version == second.version
    assert held.error is not None
    assert held.error.exit_code == 8
    assert f"wellspring rollback {second.version.name}" in held.error.hint
    assert warehouse.read() == (1, 1)
    assert current_version(warehouse.settings) == first.version
    third = warehouse.publish(3)
    assert third.error is None
    assert warehouse.read() == (3, 3)
    assert warehouse.publish(2).held is not None
    assert warehouse.read() == (3, 3)


def test_version_that_was_rolled_back_can_be_brought_back(warehouse: Warehouse) -> None:
    first, second = warehouse.publish(1), warehouse.publish(2)
    back(warehouse)

    back(warehouse, second.version.name)

    assert warehouse.read() == (2, 2)
    assert states(warehouse) == {second.version.name: "current", first.version.name: "kept"}
    assert warehouse.publish().unchanged


def test_lost_history_brings_back_nothing_that_was_withdrawn(warehouse: Warehouse) -> None:
    first, second = warehouse.publish(1), warehouse.publish(2)
    back(warehouse)
    for table in ("publications", "published_versions"):
        warehouse.history._write(f"delete from {table}", ())

    assert warehouse.publish().held is not None
    assert warehouse.read() == (1, 1)
    assert states(warehouse)[second.version.name] == "rolled back"
    back(warehouse, second.version.name)
    assert "no longer" in back(warehouse, first.version.name)


@pytest.mark.parametrize("fault", ["shorter", "other", "gone"])
def test_damaged_version_is_refused(warehouse: Warehouse, fault: str) -> None:
    first, _ = warehouse.publish(1), warehouse.publish(2)
    database = first.version.database
    content = database.read_bytes()
    if fault == "gone":
        database.unlink()
    else:
        database.write_bytes(content[:-9] + (b"" if fault == "shorter" else b"otherwise"))

    with pytest.raises(BadInput, match=r"damaged: wellspring\.duckdb"):
        back(warehouse)

    assert warehouse.read() == (2, 2)
    assert actions(warehouse)[-1][0] == "publish"


def test_unknown_version_is_refused_with_those_that_are_like_it(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)

    with pytest.raises(BadInput) as caught:
        back(warehouse, first.version.name[:-1])

    assert f"Did you mean {first.version.name}?" in caught.value.hint


def test_first_version_has_none_before_it(warehouse: Warehouse) -> None:
    warehouse.publish(1)

    with pytest.raises(BadInput, match="there is no version before"):
        back(warehouse)


# -- what is kept ------------------------------------------------------------------------------


def test_versions_that_readers_had_last_are_kept(warehouse: Warehouse) -> None:
    made = [warehouse.publish(number).version.name for number in (1, 2, 3)]
    back(warehouse, made[0])

    fourth = warehouse.publish(4).version.name

    assert list(states(warehouse)) == [fourth, made[2], made[0]]
    back(warehouse)
    assert warehouse.read() == (1, 1)


def test_pinned_and_young_versions_stay_whatever_their_number(warehouse: Warehouse) -> None:
    made = [warehouse.publish(number).version for number in (1, 2, 3)]
    made[0].mark_pinned(True)
    warehouse.settings = replace(
        warehouse.settings, publish=replace(warehouse.settings.publish, keep=1, keep_days=7)
    )
    age(warehouse, made[0].name, 30)
    age(warehouse, made[1].name, 8)
    age(warehouse, made[2].name, 6)

    done = warehouse.publish(4)

    assert done.removed == (made[1].name,)
    assert [v.name for v in all_versions(warehouse.settings)] == [
        made[0].name,
        made[2].name,
        done.version.name,
    ]


# -- gates -------------------------------------------------------------------------------------


def test_gate_holds_back_what_moved_too_far_until_it_is_approved(warehouse: Warehouse) -> None:
    warehouse.publish(10, HALF)
    assert warehouse.publish(15, HALF).held is None

    held = warehouse.publish(30, HALF)

    assert held.error is not None
    assert held.error.exit_code == 8
    assert (
        "core.odd: sum(n) moved from 30,000 to 60,000 (+100.0%, declared: 50%)"
        in held.error.message
    )
    assert warehouse.read() == (15, 15)
    assert states(warehouse)[held.version.name] == "waiting"
    done = approve(warehouse.settings, warehouse.history, held.version.name)
    assert done.version == held.version
    assert warehouse.read() == (30, 30)
    assert states(warehouse)[held.version.name] == "current"
    assert actions(warehouse)[-1] == ("approve", held.version.name)
    again = approve(warehouse.settings, warehouse.history)
    assert "approved and current already" in again.text


def test_same_content_still_waits_and_a_wider_gate_lets_it_through(warehouse: Warehouse) -> None:
    warehouse.publish(10)
    held = warehouse.publish(30, HALF)

    again = warehouse.publish(None, HALF)

    assert again.version == held.version
    assert again.error is not None
    assert "still waits" in again.error.message
    through = warehouse.publish(None, Gate(measure="sum(n)", moves="200%"))
    assert through.version == held.version
    assert through.error is None
    assert warehouse.read() == (30, 30)
    assert waiting_version(warehouse.settings) is None


@pytest.mark.parametrize("number", [40, 11, 10])
def test_new_content_takes_the_place_of_what_waits(warehouse: Warehouse, number: int) -> None:
    warehouse.publish(10)
    held = warehouse.publish(30, HALF)

    later = warehouse.publish(number, HALF)

    assert not held.version.path.exists()
    waiting = waiting_version(warehouse.settings)
    assert waiting == (later.version if number == 40 else None)
    with pytest.raises(BadInput, match=f"version {held.version.name} does not wait"):
        approve(warehouse.settings, warehouse.history, held.version.name)


def test_waiting_version_is_kept_and_cannot_be_reached_by_rollback(warehouse: Warehouse) -> None:
    warehouse.publish(1)
    held = warehouse.publish(30, HALF)
    warehouse.settings = replace(
        warehouse.settings, publish=replace(warehouse.settings.publish, keep=1)
    )

    warehouse.publish(None, HALF)

    assert held.version.path.exists()
    with pytest.raises(BadInput, match="waits for approval and was never current"):
        back(warehouse, held.version.name)


def test_nothing_waits(warehouse: Warehouse) -> None:
    warehouse.publish(1)

    with pytest.raises(BadInput, match="no version waits for approval"):
        approve(warehouse.settings, warehouse.history)


def test_gate_that_cannot_be_asked_leaves_no_version(warehouse: Warehouse) -> None:
    warehouse.publish(1)

    with pytest.raises(DeclarationError, match=r"core\.odd: its gates cannot be measured"):
        warehouse.publish(2, Gate(measure="sum(nothing)", moves="1"))

    assert warehouse.read() == (1, 1)
    assert len(all_versions(warehouse.settings)) == 1


@pytest.mark.parametrize(
    ("moves", "before", "after", "holds"),
    [
        ("20%", 100, 120, True),
        ("20%", 100, 121, False),
        ("20%", -100, -120, True),
        ("20%", 0, 0, True),
        ("20%", 0, 1, False),
        ("500", 0, 500, True),
        ("500", 1000, 499, False),
        ("0", 0.3, 0.1 + 0.2, True),
        ("20%", None, None, True),
        ("20%", None, 1, False),
        ("20%", 1, None, False),
    ],
)
def test_how_far_a_measure_may_move(
    moves: str, before: float | None, after: float | None, holds: bool
) -> None:
    assert Gate(measure="rows", moves=moves).holds(before, after) is holds


def test_gate_measures_the_rows_it_names(warehouse: Warehouse) -> None:
    warehouse.publish(10)
    few = Gate(measure="rows", moves="0", where="n = 10")

    held = warehouse.publish(11, few).held

    assert held is not None
    assert [(move.before, move.after) for move in held.moves] == [(2000, 0)]


# -- kills -------------------------------------------------------------------------------------


PUBLISH = ("publish.copied", "publish.registered", "publish.renamed", "switch.noted")
GONE = ("publish.manifest_removed", "publish.removed")
PUBLISHED = (*PUBLISH, "switch.swapped", *GONE)
DEATHS = [
    *(("publish", point) for point in PUBLISHED),
    *(("gated", point) for point in (*PUBLISH[:3], "publish.waits")),
    *(("rollback", point) for point in ("rollback.marked", "switch.noted", "switch.swapped")),
    *(("approve", point) for point in ("switch.noted", "switch.swapped", *GONE)),
]


@pytest.mark.parametrize(("act", "point"), DEATHS)
def test_killed_command_done_again_ends_as_if_it_had_not_been(
    warehouse: Warehouse, act: str, point: str
) -> None:
    for number in (1, 2, 3):
        warehouse.publish(number)
    if act == "approve":
        warehouse.publish(30, HALF)
    elif act != "rollback":
        warehouse.write(30)
        warehouse.audit()

    done = child(warehouse, act, failpoint=point)

    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert warehouse.read() in ((2, 2), (3, 3), (30, 30))
    again = child(warehouse, act)
    assert again.returncode == 0, again.stderr
    read = {"publish": (30, 30), "gated": (3, 3), "rollback": (2, 2), "approve": (30, 30)}[act]
    assert warehouse.read() == read
    expected = {
        "publish": ["current", "kept", "kept"],
        "gated": ["waiting", "current", "kept", "kept"],
        "rollback": ["rolled back", "current", "kept"],
        "approve": ["current", "kept", "kept"],
    }[act]
    assert list(states(warehouse).values()) == expected
    noted = [action for action, _ in actions(warehouse)]
    assert noted == ["publish"] * 3 + {"gated": []}.get(act, [act])
    told = warehouse.history.rows("select version from published_versions where removed_at is null")
    assert {row["version"] for row in told} == set(states(warehouse))
    left = {path.name for path in warehouse.settings.published_dir.iterdir()}
    links = {"current", "waiting"} if act == "gated" else {"current"}
    assert left == links | set(states(warehouse))


def test_killed_publish_of_what_readers_have_lets_go_of_what_waits(warehouse: Warehouse) -> None:
    warehouse.publish(1)
    held = warehouse.publish(30, HALF)
    warehouse.write(1)
    warehouse.audit()

    assert child(warehouse, "publish", failpoint="publish.unlinked").returncode == -signal.SIGKILL

    assert warehouse.publish().unchanged
    assert not held.version.path.exists()
    assert list(states(warehouse).values()) == ["current"]


def test_rollback_that_never_happened_holds_nothing_back(warehouse: Warehouse) -> None:
    warehouse.publish(1)
    second = warehouse.publish(2)
    child(warehouse, "rollback", failpoint="rollback.marked")

    assert second.version.rolled_back
    warehouse.publish(3)
    assert not warehouse.publish(2).held
    assert warehouse.read() == (2, 2)


# -- readers -----------------------------------------------------------------------------------

READER = """
import os, sys
from pathlib import Path
import duckdb

# They never pause; the one that publishes must get on all the same.
os.nice(19)
path, stop = Path(sys.argv[1]), Path(sys.argv[2])
seen, looks = set(), 0
print("ready", flush=True)
while not stop.exists():
    with duckdb.connect(str(path), read_only=True, config={"threads": 1}) as connection:
        found = connection.execute(
            "select distinct n from (select n from core.odd union all select n from core.even)"
        ).fetchall()
    if len(found) != 1:
        sys.exit(f"mixture: {found}")
    seen.add(found[0][0])
    looks += 1
print(looks, len(seen))
"""


def test_ten_readers_notice_nothing_of_twenty_publishes_and_rollbacks(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    # Between looking where the version lies and opening it, a reader here may wait for its turn
    # longer than three publishes take.
    warehouse.settings = replace(
        warehouse.settings, publish=replace(warehouse.settings.publish, keep=8)
    )
    warehouse.publish(0)
    stop = tmp_path / "stop"
    path = warehouse.settings.published_dir / "current" / "wellspring.duckdb"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for number in range(1, 21):
            warehouse.publish(number)
            if number % 2 == 0:
                back(warehouse)
    finally:
        stop.touch()
    told: list[Any] = [reader.communicate(timeout=60) for reader in readers]

    assert [error for _, error in told if error] == []
    assert [reader.returncode for reader in readers] == [0] * 10
    looks, seen = zip(*(map(int, out.split()) for out, _ in told), strict=True)
    assert min(looks) > 1
    assert max(seen) > 5
    assert len(all_versions(warehouse.settings)) <= 8, "versions were removed meanwhile"
