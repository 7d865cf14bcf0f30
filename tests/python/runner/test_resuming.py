"""What is held back after a failure, and how a run goes on: `[failures]`, `wellspring resume`."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from toyshop import Call, ToyShop, command, make_toyshop

DIM_TOYS = "models/marts/core/dim_toys.sql"
BROKEN = "select no_such_column from {{ ref('stg_stock__toys') }}"
NEW_SALE = "sale_id,toy_id,amount\n4,1,1.00\n"
SALE_OF_NEW_TOY = "sale_id,toy_id,amount\n4,3,1.00\n"
NO_DATABASE = b"this is no database, whatever it is called"


def asked(shop: ToyShop, query: str) -> list[tuple[Any, ...]]:
    """Answers a question to the run history."""
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as connection:
        return connection.execute(query).fetchall()


def built(shop: ToyShop) -> set[str]:
    """What the last run built well."""
    return {
        row[0]
        for row in asked(
            shop,
            "select name from step_items where step = 'build' and status = 'ok' and kind in "
            "('model', 'seed') and run_id = (select run_id from runs order by number desc limit 1)",
        )
    }


def count(call: Call, shop: ToyShop, table: str) -> int:
    answer = call(shop, "sql", "--format", "json", f"select count(*) as n from {table}")
    assert answer.code == 0, answer.err
    return int(json.loads(answer.out)[0]["n"])


def withheld(shop: ToyShop) -> dict[str, str]:
    manifest = json.loads((shop.published / "current" / "manifest.json").read_text())
    return manifest["withheld"]


def test_nothing_to_resume_is_said_clearly(fresh: ToyShop, call: Call) -> None:
    before = call(fresh, "resume")
    assert before.code == 0
    assert "nothing was run yet" in before.out
    assert call(fresh, "run", "--quiet").code == 0

    after = call(fresh, "resume")

    assert after.code == 0
    assert "nothing to resume: the last one, run 1" in after.out
    assert "succeeded" in after.out
    assert asked(fresh, "select count(*) from runs") == [(1,)]


def test_a_broken_model_keeps_its_last_good_version_and_resume_builds_it_alone(
    shop: ToyShop, call: Call
) -> None:
    good = (shop.root / DIM_TOYS).read_text()
    shop.write(DIM_TOYS, BROKEN)
    shop.add_sales("sales_2.csv", NEW_SALE)

    answer = call(shop, "run")

    assert answer.code == 1
    assert count(call, shop, "sales.fct_sales") == 4
    assert count(call, shop, "core.dim_toys") == 2
    assert withheld(shop) == {"core.dim_toys": "model dim_toys could not be built"}
    assert "withheld: core.dim_toys" in answer.err
    first = asked(shop, "select run_id from runs where number = 1")[0][0]
    told = (
        f"core.dim_toys: model dim_toys could not be built; readers have it as of version {first}"
    )
    assert told in answer.out
    assert f"withheld {told}" in call(shop, "status").out
    began = asked(shop, "select started_at from runs order by number desc limit 1")
    shop.write(DIM_TOYS, good)

    mended = call(shop, "resume")

    assert mended.code == 0, mended.out + mended.err
    assert built(shop) == {"dim_toys"}
    assert withheld(shop) == {}
    rows = asked(shop, "select resumes, logical_date from runs order by number desc limit 1")
    assert rows[0][0] is not None
    assert rows[0][1] == began[0][0]


def test_a_mart_that_does_not_fit_a_withheld_one_is_withheld_too(shop: ToyShop, call: Call) -> None:
    good = (shop.root / DIM_TOYS).read_text()
    shop.write(DIM_TOYS, BROKEN)
    shop.add_toys((3, "kite", "red"))
    shop.add_sales("sales_2.csv", SALE_OF_NEW_TOY)

    answer = call(shop, "run")

    assert answer.code == 1
    assert count(call, shop, "sales.fct_sales") == 3
    assert "fails beside the last good version" in answer.err
    shop.write(DIM_TOYS, good)
    assert call(shop, "resume").code == 0
    assert count(call, shop, "sales.fct_sales") == 4
    assert count(call, shop, "core.dim_toys") == 3


def test_nothing_is_published_for_the_first_time_of_what_failed(fresh: ToyShop, call: Call) -> None:
    fresh.write(DIM_TOYS, BROKEN)

    assert call(fresh, "run").code == 1

    # fct_sales refers to it, and there is no former version to be tested beside.
    assert fresh.current is None
    tables = asked(fresh, "select name from step_items where kind = 'relation'")
    assert ("core.dim_toys",) not in tables


def test_what_is_made_from_a_failed_source_is_withheld_and_resume_reads_that_source_alone(
    shop: ToyShop, call: Call
) -> None:
    database = shop.systems / "stock.sqlite"
    whole = database.read_bytes()
    database.write_bytes(NO_DATABASE)
    shop.add_sales("sales_2.csv", NEW_SALE)

    answer = call(shop, "run")

    assert answer.code == 4
    assert withheld(shop) == {"core.dim_toys": "source stock failed"}
    assert count(call, shop, "sales.fct_sales") == 4
    assert "dim_toys" not in built(shop)
    database.write_bytes(whole)
    shop.add_toys((3, "kite", "red"))
    shop.add_sales("sales_3.csv", "sale_id,toy_id,amount\n5,1,1.00\n")

    assert call(shop, "resume").code == 0

    assert count(call, shop, "core.dim_toys") == 3
    assert count(call, shop, "sales.fct_sales") == 4, "the till had not failed"
    assert "fct_sales" not in built(shop)
    assert call(shop, "run", "--quiet").code == 0
    assert count(call, shop, "sales.fct_sales") == 5


def test_a_failed_source_need_not_hold_anything_back(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__FAILURES__SOURCE", "go_on")
    (shop.systems / "stock.sqlite").write_bytes(NO_DATABASE)
    shop.add_sales("sales_2.csv", NEW_SALE)

    assert call(shop, "run").code == 4

    assert withheld(shop) == {}
    assert "dim_toys" in built(shop)


def test_a_failed_test_may_hold_back_its_model_alone(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.current
    shop.add_toys((3, "kite", "red"))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,-1.00\n")
    stopped = call(shop, "run")
    assert stopped.code == 2
    assert "nothing is published" in stopped.out
    assert shop.current == before

    monkeypatch.setenv("WELLSPRING__FAILURES__TESTS", "withhold")
    answer = call(shop, "run")

    assert answer.code == 2
    assert withheld(shop) == {"sales.fct_sales": "test assert_amounts_are_positive failed"}
    assert count(call, shop, "core.dim_toys") == 3
    assert count(call, shop, "sales.fct_sales") == 3
    assert "keeps its last good version" in answer.out


def test_after_a_failed_audit_resume_builds_what_was_mended_and_nothing_else(
    shop: ToyShop, call: Call
) -> None:
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,-1.00\n")
    assert call(shop, "run").code == 2
    shop.write(
        "models/marts/sales/fct_sales.sql",
        "select sale_id, toy_id, amount from {{ ref('stg_till__sales') }} where amount > 0",
    )

    assert call(shop, "resume").code == 0

    assert built(shop) == {"fct_sales", "sales_by_toy"}
    assert count(call, shop, "sales.fct_sales") == 3


def test_a_killed_run_is_resumed_where_it_died(shop: ToyShop, call: Call) -> None:
    shop.add_sales("sales_2.csv", NEW_SALE)
    killed = command(shop, "run", WELLSPRING_FAILPOINT="build.node_played:4")
    assert killed.code == -9
    done = {
        row[0]
        for row in asked(
            shop,
            "select unique_id from node_builds where run_id in "
            "(select run_id from runs where number = 2)",
        )
    }
    assert done

    answer = call(shop, "resume")

    assert answer.code == 0, answer.out + answer.err
    steps = asked(
        shop,
        "select step from steps where run_id = (select run_id from runs order by number desc "
        "limit 1) and step not in ('prepare', 'companion') order by position",
    )
    assert [row[0] for row in steps] == ["build", "audit", "publish", "docs"]
    assert not {key.rpartition(".")[2] for key in done} & built(shop)
    assert count(call, shop, "sales.fct_sales") == 4


def test_a_command_of_one_thing_is_not_resumed(shop: ToyShop, call: Call) -> None:
    assert call(shop, "quarantine", "replay", "--select", "source:till.sales").code == 0
    (shop.systems / "stock.sqlite").write_bytes(NO_DATABASE)
    assert call(shop, "reconcile").code == 4

    answer = call(shop, "resume")

    assert answer.code == 0
    assert "nothing to resume" in answer.out


BRANCHES, LONG = 6, 10


def branched(root: Path) -> ToyShop:
    """A toy shop with 60 models: six branches of ten, each with its own mart at the end."""
    shop = make_toyshop(root)
    for branch in range(BRANCHES):
        for place in range(LONG):
            above = f"b{branch}_{place - 1}" if place else "stg_till__sales"
            folder = "marts/sales" if place == LONG - 1 else "staging/till"
            shop.write(
                f"models/{folder}/b{branch}_{place}.sql",
                f"select sale_id, amount from {{{{ ref('{above}') }}}}",
            )
        shop.write(
            f"models/marts/sales/b{branch}_{LONG - 1}.yml",
            f"models: [{{name: b{branch}_{LONG - 1}, access: public, columns: "
            "[{name: sale_id, data_tests: [unique]}]}]\n",
        )
    return shop


def test_of_sixty_models_only_what_depends_on_the_broken_one_is_withheld(tmp_path: Path) -> None:
    shop = branched(tmp_path / "branched")
    assert command(shop, "run", "--quiet").code == 0
    broken = shop.root / "models/staging/till/b2_4.sql"
    good = broken.read_text()
    broken.write_text("select no_such_column from {{ ref('b2_3') }}")
    shop.add_sales("sales_2.csv", NEW_SALE)

    answer = command(shop, "run", "--quiet")

    assert answer.code == 1
    assert withheld(shop) == {"sales.b2_9": "model b2_4 could not be built"}
    manifest = json.loads((shop.published / "current" / "manifest.json").read_text())
    fresh = {t["name"] for t in manifest["tables"] if t["from_version"] == shop.current}
    marts = {f"sales.b{branch}_9" for branch in range(BRANCHES)}
    assert fresh == {*marts - {"sales.b2_9"}, "core.dim_toys", "sales.fct_sales"}
    rows = {t["name"]: t["rows"] for t in manifest["tables"]}
    assert rows["sales.b2_9"] == 3
    assert rows["sales.b1_9"] == 4
    broken.write_text(good)

    mended = command(shop, "resume", "--quiet")

    assert mended.code == 0, mended.out + mended.err
    assert built(shop) == {f"b2_{place}" for place in range(4, LONG)}
    manifest = json.loads((shop.published / "current" / "manifest.json").read_text())
    assert {t["rows"] for t in manifest["tables"] if t["name"] in marts} == {4}
    shutil.rmtree(shop.root)
