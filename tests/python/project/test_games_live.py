"""Days of the game that pass leave the live marts as the truth has them, without a rebuild."""

from __future__ import annotations

import subprocess
from pathlib import Path

import duckdb
import pytest
from test_truth_games import COMPARED
from warehouses import ExampleWarehouse, dbt, run

LIVE = ("stg_game__session_events", "fct_player_days", "fct_server_minutes")


def query(data: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(
        str(data / "warehouse" / "wellspring.duckdb"), read_only=True
    ) as connection:
        return list(connection.execute(sql).fetchall())


def generations(data: Path) -> dict[str, object]:
    return {name: query(data, f"select max(generation) from marks.{name}")[0][0] for name in LIVE}


@pytest.fixture(scope="module")
def later(
    example_warehouse: ExampleWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExampleWarehouse, dict[str, object]]:
    """The worked example three days on, only its live models of the game brought up to date."""
    data = tmp_path_factory.mktemp("later") / "data"
    # cp keeps the owner: PostgreSQL refuses a folder that is not its own.
    subprocess.run(["cp", "-a", str(example_warehouse.data_dir), str(data)], check=True)
    before = generations(data)
    run(["-m", "anycompany", "advance", "--days", "3"], data)
    run(["-m", "ingestion", "--select", "source:game"], data)
    dbt(data, ["run", "--select", "tag:live,path:models/*/game*"])
    warehouse = data / "warehouse" / "wellspring.duckdb"
    truth = data / "anycompany" / "truth"
    return ExampleWarehouse(data, warehouse, truth, ""), before


@pytest.mark.parametrize("name", ["player days", "minutes of servers"])
def test_late_events_bring_their_days_and_minutes_to_the_truth(
    later: tuple[ExampleWarehouse, dict[str, object]], name: str
) -> None:
    ours, theirs = COMPARED[name]
    differing = later[0].rows(
        f"(select 'ours', * from ({ours}) except all select 'ours', * from ({theirs}))"
        f" union all (select 'truth', * from ({theirs}) except all select 'truth', * from ({ours}))"
        " limit 20"
    )
    assert differing == []


def test_they_were_added_to_and_events_did_come_late(
    later: tuple[ExampleWarehouse, dict[str, object]],
) -> None:
    warehouse, before = later
    assert generations(warehouse.data_dir) == before
    [(late,)] = warehouse.rows(
        """
        select count(*)
        from truth('game_server_minutes') as minutes
        inner join staging.stg_game__server_metrics as readings
            on
                readings.server_id = minutes.server_id
                and date_trunc('minute', readings.read_at) = minutes.minute_at
        where
            minutes.minute_at < timestamp '2026-07-01'
            and readings._load_id > (select min(_load_id) from staging.stg_game__server_metrics)
        """
    )
    assert late > 0
