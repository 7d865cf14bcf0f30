"""Runs from the command line: what they do, what stops them, and what they say."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from toyshop import Answer, Call, ToyShop

ORPHAN = "sale_id,toy_id,amount\n4,99,1.00\n"


def rows(call: Call, shop: ToyShop, query: str) -> list[dict[str, Any]]:
    answer = call(shop, "sql", "--format", "json", query)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def checksums(shop: ToyShop) -> dict[str, str]:
    manifest = json.loads((shop.published / "current" / "manifest.json").read_text())
    return {table["name"]: table["checksum"] for table in manifest["tables"]}


def summary(answer: Answer) -> dict[str, Any]:
    return json.loads(answer.out.splitlines()[-1])


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_first_run_publishes_and_says_where_to_look(fresh: ToyShop, call: Call) -> None:
    answer = call(fresh, "run", "--log-format", "plain")

    assert answer.code == 0, answer.out + answer.err
    assert rows(call, fresh, "select sum(amount) as amount from sales.fct_sales") == [
        {"amount": 24.80}
    ]
    version = fresh.published / str(fresh.current)
    assert (version / "docs" / "index.html").stat().st_size > 1_000_000
    assert (version / "parquet" / "core" / "dim_toys.parquet").is_file()
    for said in ("stock", "till", "6 passed", str(fresh.current), "wellspring sql", "docs"):
        assert said in answer.out


def test_only_public_marts_are_published_as_base_tables_with_comments(
    shop: ToyShop, call: Call
) -> None:
    found = rows(
        call,
        shop,
        "select schema_name || '.' || table_name as name, comment from duckdb_tables() order by 1",
    )
    assert found == [
        {"name": "core.dim_toys", "comment": 'One row per toy; it\'s "the" list.'},
        {"name": "sales.fct_sales", "comment": "One row per sale."},
    ]
    assert rows(call, shop, "select 1 from duckdb_views() where not internal") == []
    assert rows(
        call,
        shop,
        "select comment from duckdb_columns() "
        "where table_name = 'dim_toys' and column_name = 'toy_id'",
    ) == [{"comment": "Number of the toy."}]


def test_second_run_with_nothing_new_adds_nothing(shop: ToyShop, call: Call) -> None:
    before = checksums(shop)

    answer = call(shop, "run", "--log-format", "json")

    assert answer.code == 0, answer.err
    result = summary(answer)
    assert {name: figures["rows"] for name, figures in result["sources"].items()} == {
        "stock": 0,
        "till": 0,
    }
    assert result["sources"]["till"]["total"] == 3
    assert checksums(shop) == before
    assert shop.versions == [shop.current]
    assert "nothing has changed since version" in answer.err


def test_what_is_new_and_changed_arrives_once(shop: ToyShop, call: Call) -> None:
    shop.add_toys((1, "great bear", "grey"), (3, "train", "red"))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,3,30.00\n")

    answer = call(shop, "run", "--log-format", "json")

    assert answer.code == 0, answer.err
    result = summary(answer)
    assert result["sources"]["stock"]["rows"] == 2
    assert result["sources"]["till"]["rows"] == 1
    assert rows(call, shop, "select toy_name from core.dim_toys order by toy_id") == [
        {"toy_name": "great bear"},
        {"toy_name": "robot"},
        {"toy_name": "train"},
    ]


def test_warehouse_is_made_again_from_landing_by_chained_steps(shop: ToyShop, call: Call) -> None:
    before = checksums(shop)
    shutil.rmtree(shop.data / "warehouse")
    shutil.rmtree(shop.published)
    shutil.rmtree(shop.systems)

    answer = call(shop, "load", "build", "audit", "publish", "--log-format", "json")

    assert answer.code == 0, answer.err
    assert [step["step"] for step in summary(answer)["steps"]] == [
        "prepare",
        "load",
        "build",
        "audit",
        "publish",
    ]
    assert checksums(shop) == before


def test_failed_test_keeps_the_former_version_and_names_test_rows_and_source(
    shop: ToyShop, call: Call
) -> None:
    before = shop.current
    shop.add_sales("sales_2.csv", ORPHAN)

    answer = call(shop, "run")

    assert answer.code == 2
    assert shop.current == before
    assert shop.versions == [before]
    for said in (
        "relationships_fct_sales_toy_id__toy_id__ref_dim_toys_",
        "on fct_sales",
        "from_field=99",
        "till.sales",
        "not done: publish, docs",
    ):
        assert said in answer.out
    again = call(shop, "publish")
    assert again.code == 2
    assert "the last audit of the warehouse failed" in again.err + again.out
    assert shop.current == before


def test_publish_refuses_a_warehouse_that_changed_after_its_audit(
    shop: ToyShop, call: Call
) -> None:
    before = shop.current
    shop.write(
        "models/marts/sales/fct_sales.sql",
        "select sale_id, toy_id, 2 * amount as amount from {{ ref('stg_till__sales') }}",
    )
    assert call(shop, "build").code == 0

    refused = call(shop, "publish")
    assert refused.code == 2
    assert "not audited since it last changed" in refused.out
    assert "wellspring audit publish" in refused.out
    assert shop.current == before

    assert call(shop, "audit").code == 0
    assert call(shop, "publish").code == 0
    assert shop.current != before


def test_warning_is_told_and_does_not_block(shop: ToyShop, call: Call) -> None:
    before = shop.current
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,-1.00\n")
    shop.write(
        "tests/dbt/assert_amounts_are_positive.sql",
        """
        {{ config(severity='warn') }}
        select sale_id, amount from {{ ref('fct_sales') }} where amount <= 0
        """,
    )
    answer = call(shop, "run")

    assert answer.code == 0
    assert "5 passed, 1 warned, 0 failed" in answer.out
    assert "sale_id=4, amount=-1.00" in answer.out
    assert shop.current != before


def test_failed_model_names_its_file_and_stops_the_run_if_so_set(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.current
    monkeypatch.setenv("WELLSPRING__FAILURES__BUILD", "stop")
    shop.write("models/marts/core/dim_toys.sql", "select no_such_column from {{ ref('colours') }}")

    answer = call(shop, "run")

    assert answer.code == 1
    assert "dim_toys" in answer.out
    assert "models/marts/core/dim_toys.sql" in answer.out
    assert "no_such_column" in answer.err
    assert "not done: audit, publish, docs" in answer.out
    assert shop.current == before


def test_a_contract_without_columns_gets_them_written_down(shop: ToyShop, call: Call) -> None:
    config = '{{ config(contract={"enforced": true}) }}'
    query = "select 1.50::decimal(10, 2) as price, 'x' as no, current_date as day_taken"
    shop.write("models/marts/sales/rpt_words.sql", f"{config}\n{query}")
    answer = call(shop, "build", "--select", "rpt_words")
    assert answer.code == 1
    assert "Put this into models/marts/sales/rpt_words.yml" in answer.err + answer.out
    told = answer.err.partition("models:")[2].partition("compiled SQL")[0]
    lines = [line.split(" build      ", 1)[-1] for line in told.splitlines()]
    shop.write("models/marts/sales/rpt_words.yml", "\n".join(["models:", *lines[1:-1]]))
    again = call(shop, "build", "-q", "--select", "rpt_words")
    assert again.code == 0, answer.err + again.err


def test_one_failed_source_does_not_stop_the_others(shop: ToyShop, call: Call) -> None:
    before = shop.current
    (shop.systems / "stock.sqlite").write_bytes(b"this is no database, whatever it is called")
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")

    answer = call(shop, "run")

    assert answer.code == 4, answer.out
    assert "source stock" in answer.out
    assert shop.current != before
    assert rows(call, shop, "select count(*) as n from sales.fct_sales") == [{"n": 4}]
    status = json.loads(call(shop, "status", "--json").out)
    assert status["last_run"]["status"] == "partly"
    assert status["sources"]["stock"]["last_failure"] > status["sources"]["stock"]["last_success"]
    assert status["sources"]["till"]["last_failure"] is None


def test_run_ends_when_no_source_can_be_read(fresh: ToyShop, call: Call) -> None:
    shutil.rmtree(fresh.systems)

    answer = call(fresh, "run")

    assert answer.code == 4
    assert "not done: load, build, audit, publish, docs" in answer.out
    assert fresh.current is None


def test_a_table_that_no_model_reads_is_told_and_does_no_harm(shop: ToyShop, call: Call) -> None:
    shop.write(
        "models/staging/loft/_loft__sources.yml",
        """
        sources:
          - name: loft
            schema: raw_loft
            config:
              meta:
                ingest: {kind: files, connection: till, format: csv}
            tables:
              - name: finds
                config:
                  meta: {ingest: {path: "sales_*.csv"}}
        """,
    )

    answer = call(shop, "run", "--log-format", "plain")

    assert answer.code == 0, answer.out + answer.err
    told = " ".join((answer.out + answer.err).split())
    assert "no model reads finds of loft: its rows wait in raw; `wellspring draft loft`" in told
    assert "of till" not in told
    assert "of stock" not in told


def test_wrong_declaration_fails_before_anything_runs(fresh: ToyShop, call: Call) -> None:
    path = "models/staging/till/_till__sources.yml"
    text = (fresh.root / path).read_text()
    (fresh.root / path).write_text(text.replace("format: csv", "format: cvs"))

    answer = call(fresh, "run")

    assert answer.code == 3
    for said in (path, "till", "cvs", "csv"):
        assert said in answer.out
    assert not (fresh.data / "landing").exists()


def test_project_that_dbt_refuses_is_told_without_a_traceback(shop: ToyShop, call: Call) -> None:
    shop.write("models/marts/core/dim_toys.sql", "select * from {{ ref('no_such_model') }}")

    answer = call(shop, "build")

    assert answer.code == 3
    assert "no_such_model" in answer.out
    assert "Traceback" not in answer.out + answer.err


def test_wrong_setting_is_told(shop: ToyShop, call: Call) -> None:
    shop.write("wellspring.toml", "[publish]\nkep = 3\n")

    answer = call(shop, "status")

    assert answer.code == 3
    assert "publish.kep" in answer.err
    assert "keep" in answer.err


def test_selection_works_on_its_part_and_carries_the_rest_over(shop: ToyShop, call: Call) -> None:
    first = shop.current
    shop.add_toys((3, "train", "red"))
    shop.add_sales("sales_2.csv", ORPHAN)

    answer = call(shop, "run", "--select", "+dim_toys", "--log-format", "json")

    assert answer.code == 0, answer.err + answer.out
    assert list(summary(answer)["sources"]) == ["stock"]
    manifest = json.loads((shop.published / "current" / "manifest.json").read_text())
    assert {
        table["name"]: (table["rows"], table["from_version"]) for table in manifest["tables"]
    } == {
        "core.dim_toys": (3, shop.current),
        "sales.fct_sales": (3, first),
    }


def test_several_selectors_may_follow_one_option(shop: ToyShop, call: Call) -> None:
    answer = call(
        shop, "extract", "load", "--select", "source:till", "source:stock",
        "--exclude", "source:stock", "--dry-run", "--log-format", "json",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    assert '"till' in answer.out
    assert '"stock' not in answer.out


def test_exclusion_leaves_out(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "build", "--exclude", "fct_sales+", "--dry-run", "--log-format", "json")

    names = [node["name"] for node in json.loads(answer.out)[0]["nodes"]]
    assert "dim_toys" in names
    assert "fct_sales" not in names
    assert "sales_by_toy" not in names


def test_selection_that_matches_nothing_is_told(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "run", "--select", "dim_toyz")

    assert answer.code == 3
    assert "dim_toyz" in answer.out


@pytest.mark.parametrize("state", ["fresh", "shop"])
def test_dry_run_tells_everything_and_changes_nothing(
    state: str, call: Call, request: pytest.FixtureRequest
) -> None:
    shop: ToyShop = request.getfixturevalue(state)
    shop.add_sales("sales_2.csv", ORPHAN)
    logs = shop.data / "state" / "logs"
    before = {name: seen for name, seen in tree(shop.data).items() if "logs" not in name}

    answer = call(shop, "run", "--dry-run")

    assert answer.code == 0
    order = [
        answer.out.index(name)
        for name in ("stock (database", "till (files", "lookups.colours", "staging.stg_till__sales")
    ]
    assert order == sorted(order)
    assert answer.out.index("core.dim_toys (table)") < answer.out.index("sales.sales_by_toy")
    for said in ("6 tests", "unique_dim_toys_toy_id", "tables: core.dim_toys, sales.fct_sales"):
        assert said in answer.out
    after = {name: seen for name, seen in tree(shop.data).items() if "logs" not in name}
    # SQLite makes and removes a file beside the history while that is read.
    for seen in (before, after):
        seen.pop("state", None)
    assert after == before or (state == "fresh" and logs.exists())


def test_json_log_is_one_object_a_line(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "run", "--log-format", "json")

    events = [json.loads(line) for line in answer.err.splitlines()]
    assert events[0]["event"] == "run_started"
    finished = [event["step"] for event in events if event["event"] == "step_finished"]
    assert finished == ["prepare", "extract", "load", "build", "audit", "publish", "docs"]
    assert len({event["run_id"] for event in events}) == 1
    assert summary(answer)["run_id"] == events[0]["run_id"]
    assert summary(answer)["published"] == shop.current


def test_quiet_run_says_nothing_on_the_way(shop: ToyShop, call: Call) -> None:
    assert call(shop, "build", "--quiet").err == ""


def test_history_keeps_who_started_what(shop: ToyShop) -> None:
    connection = sqlite3.connect(shop.data / "state" / "history.sqlite")
    connection.row_factory = sqlite3.Row
    run = connection.execute("select * from runs").fetchone()
    steps = connection.execute("select step, status from steps order by position").fetchall()
    version = connection.execute("select * from published_versions").fetchone()
    connection.close()

    assert run["command"] == "wellspring run --quiet"
    assert run["status"] == "succeeded"
    assert run["exit_code"] == 0
    assert run["settings_hash"]
    assert [step["step"] for step in steps][-1] == "docs"
    assert {step["status"] for step in steps} == {"ok"}
    assert version["version"] == run["run_id"] == shop.current
    assert version["table_count"] == 2
    assert version["row_count"] == 5


def test_full_refresh_gives_the_same_marts(shop: ToyShop, call: Call) -> None:
    before = checksums(shop)
    shutil.rmtree(shop.published)

    answer = call(shop, "run", "--full-refresh")

    assert answer.code == 0
    assert checksums(shop) == before


def test_step_named_twice_and_unknown_commands_are_refused(shop: ToyShop, call: Call) -> None:
    assert call(shop, "load", "load").code == 6
    assert call(shop, "load", "nonsense").code == 64
    assert call(shop, "nonsense").code == 64
    assert call(shop, "run", "--nonsense").code == 64


def test_clean_keeps_landing_and_what_is_published(shop: ToyShop, call: Call) -> None:
    landing = tree(shop.data / "landing")

    answer = call(shop, "clean")

    assert answer.code == 0
    assert not (shop.root / "target").exists()
    assert tree(shop.data / "landing") == landing
    assert rows(call, shop, "select count(*) as n from core.dim_toys") == [{"n": 2}]


def test_clean_removes_landing_only_when_confirmed(shop: ToyShop, call: Call) -> None:
    refused = call(shop, "clean", "--landing")
    assert refused.code == 6
    assert (shop.data / "landing").is_dir()

    assert call(shop, "clean", "--landing", "--yes").code == 0
    assert not (shop.data / "landing").exists()
    assert rows(call, shop, "select count(*) as n from core.dim_toys") == [{"n": 2}]
    assert call(shop, "run").code == 0
    assert rows(call, shop, "select count(*) as n from core.dim_toys") == [{"n": 2}]


COMPANION = """
import json, os, sys
from contextlib import closing
from pathlib import Path
here = Path(sys.argv[1])
systems = here / "systems"
urls = {"stock": f"sqlite:///{systems / 'stock.sqlite'}", "till": str(systems / "till")}
(here / "companion.txt").write_text("started")
print(json.dumps({"connections": {name: {"url": url} for name, url in urls.items()}}), flush=True)
sys.stdin.read()
(here / "companion.txt").write_text("stopped")
"""


def test_companion_lives_as_long_as_a_run_needs_it(
    fresh: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.write("companion.py", COMPANION)
    fresh.write(
        "wellspring.toml",
        f'[companion]\ncommand = ["{sys.executable}", "companion.py", "{fresh.root}"]\n',
    )
    monkeypatch.setattr(ToyShop, "environment", {})

    answer = call(fresh, "run")

    assert answer.code == 0, answer.out + answer.err
    assert (fresh.root / "companion.txt").read_text() == "stopped"
    assert not [key for key in os.environ if key.startswith("CONNECTIONS__")]
    assert rows(call, fresh, "select count(*) as n from sales.fct_sales") == [{"n": 3}]


def test_companion_that_dies_is_told_with_its_last_words(
    fresh: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.write("companion.py", "raise SystemExit('the tunnel is closed')")
    fresh.write("wellspring.toml", f'[companion]\ncommand = ["{sys.executable}", "companion.py"]\n')
    monkeypatch.setattr(ToyShop, "environment", {})

    answer = call(fresh, "run")

    assert answer.code == 4
    assert "the tunnel is closed" in answer.out
    assert fresh.current is None


def test_companion_is_left_out_where_all_is_configured(shop: ToyShop, call: Call) -> None:
    shop.write("companion.py", COMPANION)
    shop.write(
        "wellspring.toml",
        f'[companion]\ncommand = ["{sys.executable}", "companion.py", "{shop.root}"]\n',
    )
    assert call(shop, "run").code == 0
    assert not (shop.root / "companion.txt").exists()


def built(answer: Answer) -> bool:
    steps = {step["step"]: step["status"] for step in summary(answer)["steps"]}
    assert steps["build"] in ("ok", "nothing_new")
    return steps["build"] == "ok"


def test_nothing_is_built_again_until_rows_or_code_change(shop: ToyShop, call: Call) -> None:
    idle = call(shop, "run", "--log-format", "json")
    assert idle.code == 0
    assert not built(idle)
    assert summary(idle)["docs"] == str(shop.published / str(shop.current) / "docs/index.html")
    assert summary(idle)["sources"]["till"]["quarantined"] == 2

    text = (shop.root / "models/marts/sales/fct_sales.yml").read_text()
    shop.write("models/marts/sales/fct_sales.yml", text.replace("[unique, not_null]", "[unique]"))
    assert built(call(shop, "run", "--log-format", "json"))
    assert not built(call(shop, "run", "--log-format", "json"))

    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    assert built(call(shop, "run", "--log-format", "json"))
    assert built(call(shop, "run", "--full-refresh", "--log-format", "json"))


def test_model_that_asks_for_the_time_is_built_each_time(shop: ToyShop, call: Call) -> None:
    shop.write(
        "models/marts/sales/sales_by_toy.sql",
        "select toy_id, current_date as today from {{ ref('fct_sales') }}",
    )
    assert built(call(shop, "run", "--log-format", "json"))
    assert built(call(shop, "run", "--log-format", "json"))


def test_warehouse_changed_by_another_hand_is_built_again(shop: ToyShop, call: Call) -> None:
    with closing(duckdb.connect(str(shop.data / "warehouse" / "wellspring.duckdb"))) as connection:
        connection.execute("delete from core.dim_toys")
        # As many rows as before, which nothing but the file tells.
        connection.execute("update sales.fct_sales set amount = 1 where sale_id = 2")

    answer = call(shop, "run", "--log-format", "json")

    assert built(answer)
    assert "another program wrote to it" in answer.out + answer.err
    assert "not asked again" not in answer.out
    assert rows(call, shop, "select count(*) as n from core.dim_toys") == [{"n": 2}]
    assert rows(call, shop, "select sum(amount)::varchar as n from sales.fct_sales") == [
        {"n": "24.80"}
    ]
    # What that run has left is believed again.
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    later = call(shop, "run", "--log-format", "json")
    assert "another program" not in later.out + later.err
    assert "4 models built, 3 nodes unchanged" in later.out
    assert "2 of them not asked again" in later.out


def test_stale_source_is_told_and_ends_non_zero_but_is_published(shop: ToyShop, call: Call) -> None:
    path = "models/staging/stock/_stock__sources.yml"
    text = (shop.root / path).read_text()
    text = text.replace(
        "loaded_at_field: _extracted_at", "loaded_at_field: _extracted_at - interval 3 day"
    )
    shop.write(path, text.replace("warn_after: {count: 1000", "error_after: {count: 2"))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")

    answer = call(shop, "run")

    assert answer.code == 4
    assert "stock.toys" in answer.out
    assert "too old" in answer.out
    assert rows(call, shop, "select count(*) as n from sales.fct_sales") == [{"n": 4}]


def test_fault_in_the_program_is_kept_in_the_log(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr("ingestion.load.load", broken)
    answer = call(shop, "load")

    assert answer.code == 1
    assert "a fault in the program: KeyError" in answer.err
    assert "Traceback" not in answer.err
    log = max((shop.data / "state" / "logs").glob("2*.log"))
    assert str(log) in answer.err
    assert "Traceback" in log.read_text()
    status = json.loads(call(shop, "status", "--json").out)
    assert status["last_run"]["status"] == "failed"
