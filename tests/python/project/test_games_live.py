"""Days of the game that pass leave the live marts as the truth has them, without a rebuild."""

from __future__ import annotations

import pytest
from test_truth_games import COMPARED
from warehouses import ExampleWarehouse

LIVE = ("stg_game__session_events", "fct_player_days", "fct_server_minutes")


def generations(warehouse: ExampleWarehouse) -> dict[str, object]:
    found = (warehouse.rows(f"select max(generation) from marks.{name}") for name in LIVE)
    return {name: generation for name, [(generation,)] in zip(LIVE, found, strict=True)}


@pytest.mark.parametrize("name", ["player days", "minutes of servers"])
def test_late_events_bring_their_days_and_minutes_to_the_truth(
    later_warehouse: ExampleWarehouse, name: str
) -> None:
    ours, theirs = COMPARED[name]
    differing = later_warehouse.rows(
        f"(select 'ours', * from ({ours}) except all select 'ours', * from ({theirs}))"
        f" union all (select 'truth', * from ({theirs}) except all select 'truth', * from ({ours}))"
        " limit 20"
    )
    assert differing == []


def test_they_were_added_to_and_events_did_come_late(
    example_warehouse: ExampleWarehouse, later_warehouse: ExampleWarehouse
) -> None:
    assert generations(later_warehouse) == generations(example_warehouse)
    [(late,)] = later_warehouse.rows(
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
