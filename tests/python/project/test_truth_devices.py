"""The marts on devices and card payments say what the generator knows to be true, late or not.

example warehouse ─> truth of its first day ─> weeks pass, only new loads are taken ─> truth again
"""

from __future__ import annotations

import pytest
from warehouses import ExampleWarehouse

COMPARED = {
    "device hours": (
        """
        select
            device_id, hour_start, message_count, error_count,
            cast(round(temperature_avg_c * message_count) as bigint) as degrees,
            cast(temperature_max_c * 10 as bigint) as hottest, battery_min_pct
        from devices.fct_device_hours
        """,
        """
        select
            device_id, hour_start, message_count, error_count,
            cast(round(
                round(temperature_sum_tenths / 10.0 / message_count, 2) * message_count
            ) as bigint),
            temperature_max_tenths, battery_min_pct
        from truth('device_hours')
        """,
    ),
    "online and offline": (
        "select device_id, device_status, started_at, ended_at from devices.fct_device_spells",
        "select device_id, device_status, started_at, ended_at from truth('device_spells')",
    ),
    "firmware": (
        """
        select firmware, device_count, message_count, error_count, is_failing
        from devices.rpt_firmware_health
        """,
        """
        select firmware, device_count, message_count, error_count, is_failing
        from truth('firmware_health')
        """,
    ),
    "health": (
        """
        select device_id, message_count, error_count, hot_count, health_score
        from devices.rpt_device_health
        """,
        """
        select device_id, message_count, error_count, hot_count, health_score
        from truth('device_health')
        """,
    ),
    "card payments": (
        """
        select transaction_id, card_token, cast(amount_usd * 100 as bigint) as cents, is_disputed
        from risk.fct_card_transactions
        """,
        """
        select transaction_id, card_token, amount_usd_cents, is_disputed
        from truth('card_transactions')
        """,
    ),
    "alerts": (
        "select transaction_id, risk_rule from risk.fct_risk_alerts",
        "select transaction_id, rule from truth('card_alerts')",
    ),
    "quality of alerts": (
        "select risk_rule, alert_count, right_alert_count from risk.rpt_alert_quality",
        """
        with fired as (
            select transaction_id, rule from truth('card_alerts')
            union all
            select distinct transaction_id, 'any' from truth('card_alerts')
        )

        select
            fired.rule,
            count(*),
            count(*) filter (paid.is_disputed and paid.fraud_pattern is not null)
        from fired
        inner join truth('card_transactions') as paid using (transaction_id)
        group by fired.rule
        """,
    ),
    "quarantine of devices": (
        """
        select record_key from quarantine.stg_devices__measurements
        union all
        select record_key from quarantine.stg_devices__statuses
        """,
        "select key from truth('device_defects') where is_invalid",
    ),
    "quarantine of card payments": (
        """
        select record_key from quarantine.stg_card_payments__transactions
        union all
        select record_key from quarantine.stg_card_payments__chargebacks
        """,
        "select key from truth('card_defects') where is_invalid",
    ),
    "undecodable messages": (
        """
        select source, count(*) from ledger.rejected_records
        where source in ('devices', 'card_payments')
        group by source
        """,
        """
        select source, count(*)
        from (select * from truth('device_defects') union all select * from truth('card_defects'))
        where defect = 'malformed'
        group by source
        """,
    ),
}


def differences(warehouse: ExampleWarehouse, name: str) -> list[tuple[object, ...]]:
    """Rows of the mart that are not true, and of the truth that the mart lacks."""
    ours, theirs = COMPARED[name]
    return warehouse.rows(
        f"""
        (select 'ours', * from (({ours}) except all ({theirs})))
        union all
        (select 'theirs', * from (({theirs}) except all ({ours})))
        limit 20
        """
    )


@pytest.mark.parametrize("name", COMPARED)
def test_the_first_day_is_true(example_warehouse: ExampleWarehouse, name: str) -> None:
    assert example_warehouse.rows(f"select count(*) > 0 from ({COMPARED[name][1]})") == [(True,)]
    assert differences(example_warehouse, name) == []


@pytest.mark.parametrize("name", COMPARED)
def test_weeks_later_it_is_true_without_a_rebuild(
    later_warehouse: ExampleWarehouse, name: str
) -> None:
    assert differences(later_warehouse, name) == []


def test_nothing_live_was_built_anew(later_warehouse: ExampleWarehouse) -> None:
    for model in ("fct_device_hours", "fct_card_transactions", "fct_risk_alerts"):
        generations = later_warehouse.rows(f"select distinct generation from marks.{model}")
        assert generations == [(1,)], model


def test_late_messages_were_among_the_new_ones(later_warehouse: ExampleWarehouse) -> None:
    [(late,)] = later_warehouse.rows(
        """
        with hours as (
            select device_id, date_trunc('hour', measured_at) as hour_start, _load_id
            from staging.stg_devices__measurements
        )

        select count(*)
        from (
            select device_id, hour_start
            from hours
            group by device_id, hour_start
            having count(distinct _load_id) > 1
        )
        """
    )
    assert late > 0


def test_the_planted_failures_are_found(example_warehouse: ExampleWarehouse) -> None:
    failing = example_warehouse.rows(
        """
        select cast(right(device_id, 6) as integer) % 12
        from devices.rpt_device_health
        where health_band = 'failing'
        """
    )
    assert {turn for (turn,) in failing} == {6, 10}
    assert example_warehouse.rows(
        "select firmware from devices.rpt_firmware_health where is_failing"
    ) == [("3.3.0",)]


def test_most_attacks_are_noticed_by_the_rule_that_they_break(
    example_warehouse: ExampleWarehouse,
) -> None:
    patterns = dict(
        example_warehouse.rows(
            """
            select
                frauds.fraud_pattern,
                count(distinct alerts.transaction_id) filter (alerts.transaction_id is not null)
            from truth('card_transactions') as frauds
            left join risk.fct_risk_alerts as alerts
                on
                    frauds.transaction_id = alerts.transaction_id
                    and frauds.fraud_pattern = alerts.risk_rule
            where frauds.fraud_pattern is not null
            group by frauds.fraud_pattern
            """
        )
    )
    assert set(patterns) == {"velocity", "distance", "amount", "new_device"}
    assert min(patterns.values()) > 0
