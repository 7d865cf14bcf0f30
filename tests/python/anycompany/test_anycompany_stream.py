"""Events of now: clicks come as whole files, no advance takes them away, devices are waited for."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

from anycompany_kit import run

from anycompany.state import Home
from anycompany.systems import web
from anycompany.systems.files import Outbox
from anycompany.world import World


def live_files(home: Path) -> dict[str, list[str]]:
    """Lines of the files of now, by path below the site's folder."""
    found = sorted((home / "web").rglob(web.LIVE_FILES))
    return {
        path.relative_to(home / "web").as_posix(): gzip.decompress(path.read_bytes())
        .decode()
        .splitlines()
        for path in found
    }


def noted(home: Path, name: str) -> list[dict[str, Any]]:
    """What is true of the events that a system has sent."""
    path = home / "truth" / f"live_{name}.ndjson"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_clicks_come_as_files_that_an_advance_leaves_alone(company: Path) -> None:
    home = company / "anycompany"
    sent = run(company, "stream", "--rate", "800", "--for", "4")
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr.count("nobody has subscribed") == 1, "devices are waited for, said once"
    assert "devices 0" in sent.stdout
    assert noted(home, "game")
    files = live_files(home)
    assert len(files) >= 2
    assert not list((home / "web").rglob(".*"))

    told = {one["event_id"]: one for one in noted(home, "web")}
    assert f"web {len(told):,}" in sent.stdout
    lines = [line for content in files.values() for line in content]
    cut = [line for line in lines if not line.endswith("}")]
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    times = Counter(event["event_id"] for event in whole)
    defects = Counter(one["defect"] for one in told.values())
    assert len(cut) == defects["malformed"]
    assert {key for key, count in times.items() if count == 2} == {
        key for key, one in told.items() if one["defect"] == "duplicated"
    }
    assert set(times) == {key for key, one in told.items() if one["defect"] != "malformed"}
    assert defects["late"] > 0
    assert defects["wrong_clock"] > 0

    assert run(company, "stream", "--rate", "100", "--for", "1.2", "--only", "web").returncode == 0
    later = live_files(home)
    assert later.items() > files.items()
    assert len({one["event_id"] for one in noted(home, "web")}) == len(noted(home, "web"))
    assert run(company, "advance", "--days", "1").returncode == 0
    assert live_files(home) == later
    state = Home(company).read()
    assert state is not None
    past = World(state.settings, state.day).web.outbox.files
    there = {
        path.relative_to(home / "web").as_posix()
        for path in (home / "web").rglob("*")
        if path.is_file()
    }
    assert there == past.keys() | later.keys()


def test_whoever_is_asked_for_by_name_does_not_wait(company: Path) -> None:
    sent = run(company, "stream", "--rate", "50", "--for", "1", "--only", "devices")
    assert sent.returncode == 1
    assert "Nobody has subscribed" in sent.stderr
    assert "Traceback" not in sent.stderr


def test_tidying_keeps_what_is_sent_live_and_nothing_else(tmp_path: Path) -> None:
    box = Outbox(kept="live-*")
    box.add("a/known.txt", 1, lambda: b"known")
    box.deliver(tmp_path, -1)
    for name in ("live-1", "alive-1", ".live-1.part"):
        (tmp_path / "a" / name).write_bytes(b"")
    box.tidy(tmp_path)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["known.txt", "live-1"]
    Outbox().tidy(tmp_path)
    assert not list(tmp_path.rglob("*"))
