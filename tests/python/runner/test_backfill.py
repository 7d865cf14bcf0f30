"""`backfill`: a range in parts is the range at once, whatever stops it in between."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest
import warm
from toyshop import Answer, Call, ToyShop, surroundings

from ingestion.failpoints import VARIABLE

SOURCES = """
    sources:
      - name: stock
        schema: raw_stock
        description: The shop's stock, in SQLite.
        config:
          meta:
            ingest: {kind: database, connection: stock}
        tables:
          - name: toys
            description: One row per toy.
            config:
              meta: {ingest: {primary_key: [toy_id]}}
          - name: moves
            description: One row per move of a toy.
            columns:
              - {name: moved_at, data_type: timestamp}
            config:
              meta: {ingest: {primary_key: [move_id], cursor: moved_at, deletes: sweep}}
    """
STAGED = """
    select move_id, toy_id, moved_at from {{ source('stock', 'moves') }}
    qualify row_number() over (partition by move_id order by _load_id desc, _row desc) = 1
    """
MART = """
    models:
      - name: fct_moves
        description: One row per move.
        access: public
        columns:
          - name: move_id
            description: Number of the move.
            data_tests: [unique, not_null]
    """
RANGE = ("backfill", "--from", "2026-01-10", "--to", "2026-03-05", "--partition", "month")
FIRST = date(2026, 1, 1)


@pytest.fixture
def moving(fresh: ToyShop) -> ToyShop:
    """A toy shop that read nothing yet: 90 days of moves, a file of sales each tenth day."""
    shop = fresh
    shop.write("models/staging/stock/_stock__sources.yml", SOURCES)
    shop.write("models/staging/stock/stg_stock__moves.sql", STAGED)
    shop.write("models/marts/core/fct_moves.sql", "select * from {{ ref('stg_stock__moves') }}")
    shop.write("models/marts/core/fct_moves.yml", MART)
    for file in (shop.systems / "till").iterdir():
        file.unlink()
    with closing(sqlite3.connect(shop.systems / "stock.sqlite")) as connection, connection:
        connection.execute(
            "create table moves (move_id integer primary key, toy_id integer, moved_at text)"
        )
        connection.execute("insert into moves values (0, 1, null)")
        for number in range(90):
            day = FIRST + timedelta(days=number)
            connection.execute(
                "insert into moves values (?, 1, ?)", (number + 1, f"{day} 23:30:00")
            )
            if number % 10 == 0:
                shop.add_sales(
                    f"sales_{day}.csv", f"sale_id,toy_id,amount\n{number + 1},1,{number + 1}.50\n"
                )
    return shop


def in_shop(shop: ToyShop, query: str) -> list[tuple[Any, ...]]:
    path = shop.data / "warehouse" / "wellspring.duckdb"
    with closing(duckdb.connect(str(path), read_only=True)) as connection:
        return connection.execute(query).fetchall()


def moves(shop: ToyShop) -> list[int]:
    return [row[0] for row in in_shop(shop, "select move_id from raw_stock.moves order by 1")]


def parts(shop: ToyShop) -> list[tuple[str, str, int]]:
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as connection:
        return connection.execute(
            "select source, start, row_count from backfill_parts order by number, source, start"
        ).fetchall()


def summary(answer: Answer) -> dict[str, Any]:
    return json.loads(answer.out.splitlines()[-1])


def checksums(shop: ToyShop) -> dict[str, str]:
    manifest = json.loads((shop.published / "current" / "manifest.json").read_text())
    return {table["name"]: table["checksum"] for table in manifest["tables"]}


def test_range_lands_in_parts_and_nothing_else_of_it(moving: ToyShop, call: Call) -> None:
    assert "there was no backfill yet" in call(moving, "backfill", "--resume").out

    answer = call(moving, *RANGE)

    assert answer.code == 0, answer.out + answer.err
    # Moves 10 to 63 lie from 10 January to 4 March; the one without a time comes with the first.
    assert moves(moving) == [0, *range(10, 64)]
    assert parts(moving) == [
        ("stock", "2026-01-10", 25),
        ("stock", "2026-02-01", 28),
        ("stock", "2026-03-01", 4),
        ("till", "2026-01-10", 0),
        ("till", "2026-02-01", 0),
        ("till", "2026-03-01", 0),
    ]
    assert "stock.toys: read whole: it has no cursor" in answer.err.replace("  ", " ")
    assert "gone keys are told by the next run's sweep" in answer.err
    found = in_shop(moving, "select count(distinct _load_id) from raw_stock.moves")
    assert found == [(3,)]
    sold = in_shop(moving, "select sale_id::int from raw_till.sales order by 1")
    assert sold == [(11,), (21,), (31,), (41,), (51,), (61,)]
    assert len(moving.versions) == 1

    repeated, resumed = call(moving, *RANGE), call(moving, "backfill", "--resume")
    assert (repeated.code, resumed.code) == (0, 0)
    assert "nothing to do: this backfill (--from 2026-01-10" in repeated.out
    assert "nothing to resume: the last backfill" in resumed.out
    assert call(moving, *RANGE, "--again", "-q").code == 0
    assert len(parts(moving)) == 12


def test_parts_together_are_what_is_read_at_once(moving: ToyShop, call: Call) -> None:
    assert call(moving, "run", "-q").code == 0
    at_once, raw = checksums(moving), moves(moving)
    for folder in ("landing", "warehouse", "published", "state"):
        subprocess.run(["rm", "-rf", str(moving.data / folder)], check=True)

    answer = call(
        moving,
        "backfill",
        "--from",
        "2026-01-01",
        "--to",
        "2026-04-01",
        "--partition",
        "week",
        "-q",
    )

    assert answer.code == 0, answer.out + answer.err
    assert checksums(moving) == at_once
    assert moves(moving) == raw
    after = call(moving, "run", "--log-format", "json")
    assert summary(after)["sources"]["stock"]["rows"] == 0
    assert summary(after)["sources"]["till"]["files"] == 0


def test_changed_past_is_read_again_and_only_differences_land(moving: ToyShop, call: Call) -> None:
    assert call(moving, "run", "-q").code == 0
    with closing(sqlite3.connect(moving.systems / "stock.sqlite")) as connection, connection:
        connection.execute("update moves set toy_id = 2 where move_id in (20, 80)")
    moving.add_sales("sales_2026-01-21.csv", "sale_id,toy_id,amount\n21,2,99.00\n")

    answer = call(moving, *RANGE, "--select", "source:stock", "-q")

    assert answer.code == 0, answer.out + answer.err
    landed = in_shop(moving, "select move_id from raw_stock.moves where toy_id = 2")
    assert landed == [(20,)]
    assert {source for source, _, _ in parts(moving)} == {"stock"}
    assert in_shop(moving, "select amount::varchar from raw_till.sales where sale_id = '21'") == [
        ("21.50",)
    ]


@pytest.mark.parametrize(
    "point",
    ["backfill.landed:4", "backfill.noted:2", "backfill.published"],
)
def test_killed_backfill_goes_on_where_it_stopped(moving: ToyShop, call: Call, point: str) -> None:
    environment = {
        **surroundings(moving),
        VARIABLE: point,
        "WELLSPRING__EXTRACT__PARALLEL_SOURCES": "1",
    }
    killed = warm.run(
        ["-m", "runner", *RANGE, "-q"],
        cwd=moving.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    before = len(parts(moving))

    answer = call(moving, *(RANGE if ":" in point else ("backfill", "--resume")), "-q")

    assert answer.code == 0, answer.out + answer.err
    assert moves(moving) == [0, *range(10, 64)]
    assert len(parts(moving)) == 6
    assert before == {"4": 3, "2": 2}.get(point[-1], 6)
    assert "nothing to resume" in call(moving, "backfill", "--resume").out


def test_failed_source_goes_on_where_it_stopped_and_the_others_are_done(
    moving: ToyShop, call: Call
) -> None:
    till = moving.systems / "till"
    till.rename(moving.systems / "away")

    answer = call(moving, *RANGE)

    assert answer.code == 4, answer.out
    assert "wellspring backfill --resume" in answer.out
    assert {source for source, _, _ in parts(moving)} == {"stock"}
    (moving.systems / "away").rename(till)
    resumed = call(moving, "backfill", "--resume", "-q")
    assert resumed.code == 0, resumed.out + resumed.err
    assert len(parts(moving)) == 6
    assert len(in_shop(moving, "select * from raw_till.sales")) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "2026-01-01"), "--to"),
        (("--from", "January", "--to", "2026-02-01"), "found 'January', expected a day"),
        (("--from", "2026-02-01", "--to", "2026-02-01"), "there is no day from 2026-02-01"),
        (("--from", "1900-01-01", "--to", "2026-02-01"), "--partition month"),
        (("--resume", "--from", "2026-01-01"), "leave out --resume"),
    ],
)
def test_wrong_range_is_told(
    moving: ToyShop, call: Call, arguments: tuple[str, ...], said: str
) -> None:
    answer = call(moving, "backfill", *arguments)

    assert answer.code == 6
    assert said in answer.err
    assert not moving.versions
