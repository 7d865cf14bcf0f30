"""Metrics for Prometheus: what its own parser reads of them, and the file for the collector."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from toyshop import Call, ToyShop

from runner.history import History, Item, Origin

ORIGIN = Origin(None, "5e77", "ada", "loom", 7, "cron")


def parsed(text: str) -> dict[tuple[str, str], float]:
    """Values by metric and its one label's value."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert len(sample.labels) <= 1
            found[sample.name, "".join(sample.labels.values())] = sample.value
    return found


def history_of(shop: ToyShop) -> History:
    return History(shop.data / "state" / "history.sqlite")


def test_metrics_tell_the_state(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "metrics")
    assert answer.code == 0
    found = parsed(answer.out)
    assert found["wellspring_last_run_exit_code", ""] == 0
    assert found["wellspring_last_run_status", "succeeded"] == 1
    assert found["wellspring_last_run_status", "failed"] == 0
    assert found["wellspring_last_run_loaded_rows", ""] == 5
    assert found["wellspring_source_rows", "till"] == 3
    assert found["wellspring_source_quarantined_rows", "till"] == 2
    assert found["wellspring_source_stale_tables", "stock"] == 0
    assert found["wellspring_tests", "passed"] == 6
    assert found["wellspring_published_rows", ""] == 5
    assert found["wellspring_versions", ""] == 1
    for name in ("lock_held", "withheld_tables", "version_waiting", "open_problems"):
        assert found[f"wellspring_{name}", ""] == 0
    for name in ("published_bytes", "warehouse_bytes", "landing_bytes", "disk_free_bytes"):
        assert found[f"wellspring_{name}", ""] > 0
    for name in ("last_run_end", "last_success", "published"):
        assert time.time() - 3600 < found[f"wellspring_{name}_timestamp_seconds", ""] < time.time()
    assert all(name.startswith("wellspring_") for name, _ in found)


def test_before_the_first_run_there_is_little_to_tell(fresh: ToyShop, call: Call) -> None:
    answer = call(fresh, "metrics")
    assert answer.code == 0
    found = parsed(answer.out)
    assert found["wellspring_versions", ""] == 0
    assert ("wellspring_last_run_exit_code", "") not in found


def test_the_file_is_written_after_each_run_also_a_failed_one(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__METRICS__FILE", "textfiles/shop.prom")
    (shop.root / "textfiles").mkdir()
    path = shop.root / "textfiles" / "shop.prom"
    assert call(shop, "audit").code == 0
    first = parsed(path.read_text())
    assert first["wellspring_last_run_exit_code", ""] == 0
    assert first["wellspring_lock_held", ""] == 0, "the run that writes does not count"
    shop.write("tests/dbt/assert_never.sql", "select 1 as one")
    assert call(shop, "audit").code == 2
    second = parsed(path.read_text())
    assert second["wellspring_last_run_exit_code", ""] == 2
    assert second["wellspring_last_run_status", "failed"] == 1
    assert second["wellspring_tests", "failed"] == 1
    assert second["wellspring_open_problems", ""] == 1
    earlier = first["wellspring_last_success_timestamp_seconds", ""]
    assert second["wellspring_last_success_timestamp_seconds", ""] == earlier
    assert [file.name for file in path.parent.iterdir()] == ["shop.prom"], "nothing unfinished"
    assert path.stat().st_mode & 0o044 == 0o044, "the collector is another user"


def test_a_file_that_cannot_be_written_is_a_warning(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__METRICS__FILE", str(shop.root / "absent" / "shop.prom"))
    answer = call(shop, "audit")
    assert answer.code == 0
    assert "the metrics cannot be written to" in answer.err


def test_names_of_others_are_escaped(shop: ToyShop, call: Call) -> None:
    name = 'a"b\\c\nd'
    with closing(history_of(shop)) as history:
        history.start_run("odd", "wellspring load", "", ORIGIN)
        history.add_items("odd", "load", [Item("total", name, "ok", 7)])
        history.finish_run("odd", "succeeded", 0, "")
    assert parsed(call(shop, "metrics").out)["wellspring_source_rows", name] == 7
