"""The truth equals an independent recount of what the systems hand out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import anycompany_recount as recount
import duckdb
import pytest
from anycompany_kit import SCALE, run, serving

COUNTED = {
    "sales_daily": "sales_daily",
    "refunds_daily": "refunds_daily",
    "tickets": "desk_tickets",
}

# Messages are in a broker; what is true of them is asked where they have been landed.
RECOUNTED = "source not in ('game', 'devices', 'device_registry', 'card_payments')"


def differences(db: duckdb.DuckDBPyConnection, left: str, right: str) -> list[tuple[object, ...]]:
    rows = db.execute(
        f"(({left}) except all ({right})) union all (({right}) except all ({left})) limit 5"
    ).fetchall()
    return list(rows)


def compare(connections: dict[str, dict[str, str]], truth: Path) -> duckdb.DuckDBPyConnection:
    db = recount.read_all(connections)
    for name, mine in COUNTED.items():
        db.execute(
            f"create view truth_{name} as select * from read_parquet('{truth / name}.parquet')"
        )
        columns = ", ".join(row[0] for row in db.execute(f"describe truth_{name}").fetchall())
        assert db.execute(f"select count(*) > 50 from {mine}").fetchone() == (True,)
        assert (
            differences(db, f"select {columns} from truth_{name}", f"select {columns} from {mine}")
            == []
        ), name
    db.execute(f"create view defects as select * from read_parquet('{truth}/defects.parquet')")
    invalid = f"select source, table_name, key from defects where is_invalid and {RECOUNTED}"
    assert differences(db, invalid, "select * from invalid_rows") == []
    return db


@pytest.fixture(scope="module")
def seventh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a company of seed 7 with many defects, on its first day."""
    data = tmp_path_factory.mktemp("seventh")
    with serving(data, "--scale", SCALE, "--defects", "0.04", "--seed", "7"):
        pass
    return data


@pytest.mark.parametrize("days", [0, 4, 7], ids=["first state", "cut Parquet file", "a week later"])
def test_truth_equals_a_recount_of_the_systems(seventh: Path, tmp_path: Path, days: int) -> None:
    data = tmp_path / "data"
    subprocess.run(["cp", "-a", str(seventh), str(data)], check=True)
    if days:
        assert run(data, "advance", "--days", str(days)).returncode == 0
    with serving(data) as connections:
        db = compare(connections, data / "anycompany" / "truth")
    told = f"select distinct defect from defects where {RECOUNTED}"
    elsewhere = "source not in ('web', 'documents')"
    kinds = {row[0] for row in db.execute(f"{told} and {elsewhere}").fetchall()}
    assert kinds >= {
        "missing",
        "duplicated",
        "outdated",
        "inconsistent",
        "outlying",
        "mistyped",
        "orphaned",
        "wrong_encoding",
        "late",
        "skewed_clock",
        "drifted_schema",
        "personal_data",
        "unresolvable",
    }
    assert ("truncated" in kinds) == (days != 7)


def test_without_defects_everything_is_valid(tmp_path: Path) -> None:
    with serving(tmp_path, "--scale", SCALE, "--defects", "0", "--seed", "3") as connections:
        db = compare(connections, tmp_path / "anycompany" / "truth")
    assert db.execute("select count(*) from defects").fetchone() == (0,)
    assert db.execute("select count(*) from invalid_rows").fetchone() == (0,)
    doubles = "select count(*) - count(distinct order_no || line_no) from erp_order_lines"
    assert db.execute(doubles).fetchone() == (0,)
    assert "SALES_CHANNEL" not in [row[0] for row in db.execute("describe erp_orders").fetchall()]
