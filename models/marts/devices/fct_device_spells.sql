with spells as (
    select * from {{ ref("int_device_spells_found") }}
),

listed as (
    select
        device_spell_key,
        device_id,
        device_status,
        reason,
        duration_minutes,
        started_at,
        ended_at
    from spells
)

select * from listed
