"""The marts on the game say what the generator knows to be true, to the minute and the cent."""

from __future__ import annotations

import pytest
from warehouses import ExampleWarehouse

COMPARED = {
    "player days": (
        """
        select
            player_id, activity_date, session_count, play_minutes, purchase_count
        from games.fct_player_days
        """,
        """
        select
            player_id, activity_date, session_count, play_minutes, purchase_count
        from truth('game_player_days')
        """,
    ),
    "revenue by player": (
        """
        select
            player_id,
            cast(100 * sum(case when is_refund then 0 else amount_usd end) as bigint) as bought,
            cast(100 * sum(case when is_refund then amount_usd else 0 end) as bigint) as returned
        from games.fct_game_purchases
        group by player_id
        """,
        """
        select
            player_id,
            cast(sum(purchase_cents) as bigint) as bought,
            cast(sum(refund_cents) as bigint) as returned
        from truth('game_player_days')
        group by player_id
        having sum(purchase_cents) + sum(refund_cents) > 0
        """,
    ),
    "active players": (
        """
        select
            activity_date, daily_player_count, weekly_player_count, monthly_player_count,
            new_player_count, payer_count, cast(100 * revenue_usd as bigint) as cents,
            arpu_usd, arppu_usd
        from games.rpt_active_players
        """,
        """
        select
            activity_date, active_day, active_week, active_month, new_players, payers,
            revenue_cents,
            cast(round(revenue_cents / 100 / nullif(active_day, 0), 4) as decimal(18, 4)),
            cast(round(revenue_cents / 100 / nullif(payers, 0), 4) as decimal(18, 4))
        from truth('game_active_players')
        """,
    ),
    "cohorts": (
        """
        select
            cohort_date, player_count, day_1_player_count, day_7_player_count,
            day_30_player_count, payer_count, conversion_pct
        from games.rpt_retention_cohorts
        """,
        """
        select
            cohort_date, players, day_1, day_7, day_30, payers,
            cast(round(100.0 * payers / players, 2) as decimal(5, 2))
        from truth('game_cohorts')
        """,
    ),
    "minutes of servers": (
        """
        select server_id, minute_at, cpu_pct, player_count, tick_ms, error_count, is_healthy
        from games.fct_server_minutes
        """,
        """
        select
            server_id, minute_at, cast(cpu_tenths / 10 as decimal(7, 1)), players,
            cast(tick_tenths / 10 as decimal(9, 1)), errors, is_healthy
        from truth('game_server_minutes')
        """,
    ),
    "incidents of servers": (
        """
        select server_id, incident_kind, started_at, ended_at, unhealthy_minutes
        from games.rpt_server_incidents
        """,
        "select server_id, kind, started_at, ended_at, unhealthy_minutes"
        " from truth('game_incidents')",
    ),
}


@pytest.mark.parametrize("name", COMPARED)
def test_games_equal_the_truth(example_warehouse: ExampleWarehouse, name: str) -> None:
    ours, theirs = COMPARED[name]
    [(count,)] = example_warehouse.rows(f"select count(*) from ({theirs})")
    assert count > 0, "the truth has nothing to compare with"
    differing = example_warehouse.rows(
        f"(select 'ours', * from ({ours}) except all select 'ours', * from ({theirs}))"
        f" union all (select 'truth', * from ({theirs}) except all select 'truth', * from ({ours}))"
        " limit 20"
    )
    assert differing == []


def test_every_spoilt_message_of_the_game_is_set_aside_and_no_other(
    example_warehouse: ExampleWarehouse,
) -> None:
    differing = example_warehouse.rows(
        """
        with ours as (
            select table_name, record_key as key
            from books.quarantined_rows
            where source = 'game'
        ),

        theirs as (
            select table_name, key
            from truth('defects')
            where source = 'game' and is_invalid
        )

        (select 'ours', * from ours except select 'ours', * from theirs)
        union all
        (select 'truth', * from theirs except select 'truth', * from ours)
        """
    )
    assert differing == []


def test_every_malformed_message_is_rejected(example_warehouse: ExampleWarehouse) -> None:
    [(ours, theirs)] = example_warehouse.rows(
        """
        select
            (select count(*) from ledger.rejected_records where source = 'game'),
            (
                select count(*)
                from truth('defects')
                where source = 'game' and defect = 'malformed'
            )
        """
    )
    assert ours == theirs > 0


def test_linked_players_lead_to_the_customers_of_their_shop_accounts(
    example_warehouse: ExampleWarehouse,
) -> None:
    [(linked, wrong)] = example_warehouse.rows(
        """
        select
            count(players.customer_key),
            count(*) filter (players.customer_key is distinct from records.customer_key)
        from games.dim_players as players
        inner join intermediate.int_players_built as built using (player_id)
        left join core.bridge_customer_records as records
            on
                records.source = 'shop'
                and records.source_customer_id = cast(built.customer_id as varchar)
        """
    )
    assert linked > 0
    assert wrong == 0
