with statuses as (
    select * from {{ ref("stg_devices__statuses") }}
),

compared as (
    select
        device_id,
        message_number,
        device_status,
        reason,
        changed_at,
        lag(device_status) over (
            partition by device_id
            order by
                changed_at asc nulls last,
                message_number asc nulls last
        ) as former_status
    from statuses
),

-- a message between two of the other kind may be lost: what is said twice
-- begins nothing
begun as (
    select
        device_id,
        message_number,
        device_status,
        reason,
        changed_at
    from compared
    where former_status is null or former_status != device_status
),

ended as (
    select
        device_id,
        device_status,
        reason,
        changed_at as started_at,
        lead(changed_at) over (
            partition by device_id
            order by
                changed_at asc nulls last,
                message_number asc nulls last
        ) as ended_at
    from begun
),

found as (
    select
        {{ surrogate_key(["device_id", "started_at"]) }} as device_spell_key,
        device_id,
        device_status,
        reason,
        {{ minutes_between("started_at", "ended_at") }} as duration_minutes,
        started_at,
        ended_at
    from ended
)

select * from found
