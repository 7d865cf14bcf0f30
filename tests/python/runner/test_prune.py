"""Prune: what was kept long enough goes, what is needed stays, and a dry run touches nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from keeping_kit import content, good, sums
from toyshop import Call, ToyShop

DAY = 24 * 3600


def pruned(shop: ToyShop, call: Call, *options: str) -> dict[str, dict[str, Any]]:
    found = json.loads(good(call(shop, "prune", "--json", *options)).out)
    return {entry["kind"]: entry for entry in found}


def aged(shop: ToyShop) -> None:
    """Makes the shop's history two years old, but for its last run."""
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as history, history:
        (last,) = history.execute("select max(number) from runs").fetchone()
        history.execute(
            "update runs set started_at = '2020' || substr(started_at, 5) where number < ?",
            (last,),
        )
        history.execute("update measured_runs set measured_at = '2020' || substr(measured_at, 5)")


def runs(shop: ToyShop) -> set[str]:
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as history:
        return {row[0] for row in history.execute("select run_id from runs")}


def test_each_rule_holds_and_what_is_needed_stays(
    shop: ToyShop, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__BACKUP__URL", str(tmp_path))
    for _ in range(3):
        good(call(shop, "backup"))
    good(call(shop, "load", "--quiet"))
    good(call(shop, "load", "--quiet"))
    aged(shop)
    logs = shop.data / "state" / "logs"
    old = logs / "companion.log"
    old.write_text("long ago\n")
    os.utime(old, (time.time() - 200 * DAY,) * 2)
    torn = shop.published / "20200101T000000Z-0000.tmp"
    torn.mkdir()
    before, version = content(shop), shop.current
    monkeypatch.setenv("WELLSPRING__BACKUP__KEEP", "1")
    untouched = sums(tmp_path), runs(shop), sorted(logs.iterdir()), shop.versions
    told = pruned(shop, call, "--dry-run")
    assert (sums(tmp_path), runs(shop), sorted(logs.iterdir()), shop.versions) == untouched
    done = pruned(shop, call)
    assert done == told
    assert {kind: entry["number"] for kind, entry in done.items()} == {
        **{"logs": 1, "leftovers": 1, "versions": 0, "runs": 1, "measures": 1, "backups": 2},
    }
    assert not old.exists()
    assert not torn.exists()
    assert version in runs(shop), "the run of the version that readers have"
    assert len(list((tmp_path / "backups").iterdir())) == 1
    good(call(shop, "backup", "--verify"))
    assert (content(shop), shop.current) == (before, version)
    assert all(entry["number"] == 0 for entry in pruned(shop, call).values())


def test_logs_of_runs_are_kept_by_number(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__RETENTION__LOGS", "2")
    logs = shop.data / "state" / "logs"
    for number in range(5):
        (logs / f"2026010{number + 1}T000000Z-0000.log").write_text("x")
    kept = sorted(logs.glob("*Z-*.log"))[-2:]
    assert pruned(shop, call)["logs"]["number"] >= 3
    assert sorted(logs.glob("*Z-*.log")) == kept


def test_a_shop_without_anything_has_nothing_to_prune(fresh: ToyShop, call: Call) -> None:
    assert all(entry["number"] == 0 for entry in pruned(fresh, call).values())
    assert "leftovers" in good(call(fresh, "prune")).out
