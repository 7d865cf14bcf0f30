"""The short version of `make torture`, and that the long one knows every failpoint."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import warm

PROJECT = Path(__file__).resolve().parents[3]
TORTURE = PROJECT / "tests" / "torture"
GUIDE = PROJECT / "docs" / "guides" / "crashes.md"
sys.path.append(str(TORTURE))

from change_capture import AREAS as CHANGE_AREAS  # noqa: E402  # by the same line
from failpoints_in_code import failpoint_calls, failpoints_in_code  # noqa: E402  # by the line above
from streams import AREAS as STREAM_AREAS  # noqa: E402  # by the same line
from torture import AREAS, BY_NAME  # noqa: E402  # by the same line


def test_every_failpoint_has_a_name_of_its_own() -> None:
    names = Counter(name for name, _ in failpoint_calls())
    assert names, "no failpoint was found"
    places = [place for name, place in failpoint_calls() if names[name] > 1]
    assert not places, f"used twice, or no literal: {places}"
    odd = [name for name in names if not re.fullmatch(r"[a-z]+\.[a-z_]+", name)]
    assert not odd, f"not `<area>.<moment>`: {odd}"


def test_every_failpoint_is_crashed_by_a_command_and_its_area_is_documented() -> None:
    areas = {name.partition(".")[0] for name in failpoints_in_code()}
    tried = {*AREAS, *STREAM_AREAS, *CHANGE_AREAS}
    assert areas <= tried, f"add to AREAS in one of {TORTURE}/*.py: {areas - tried}"
    assert {name for names in AREAS.values() for name in names} <= set(BY_NAME)
    lines = re.findall(r"^\|( `[a-z`, ]+`) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    told = set(re.findall(r"`([a-z]+)`", " ".join(lines)))
    assert areas <= told, f"say in {GUIDE} what {areas - told} stand for"


def test_after_crash_upon_crash_a_rerun_gives_what_an_undisturbed_run_gives(tmp_path: Path) -> None:
    done = warm.run(
        [
            *[TORTURE / "torture.py", "--short"],
            *["--trials", "6", "--jobs", "1", "--keep", str(tmp_path)],
        ],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    lines = (tmp_path / "worker0" / "results.jsonl").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    assert [result["trial"]["command"] for result in results] == ["extract", "load", "publish"]
    assert not any(result["faults"] for result in results)
    # A later crash of a chain may find everything done; the first one, at a failpoint, cannot.
    assert all(result["killed"] for result in results)


def test_a_stream_is_landed_and_loaded_exactly_once_whatever_is_killed(tmp_path: Path) -> None:
    done = warm.run(
        [
            *[TORTURE / "streams.py", "--short", "--kills", "6"],
            *["--seed", "3", "--rate", "400", "--keep", str(tmp_path)],
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "sent = landed = loaded" in done.stdout
