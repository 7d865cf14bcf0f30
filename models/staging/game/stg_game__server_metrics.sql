with

source as (

    select * from {{ source('game', 'server_metrics') }}

),

cleaned as (

    select
        {{ non_blank('event_id') }} as event_id,
        {{ non_blank('server_id') }} as server_id,

        try_cast(cpu_pct as decimal(7, 1)) as cpu_pct,
        try_cast(memory_pct as decimal(7, 1)) as memory_pct,
        {{ whole_number('players') }} as player_count,
        try_cast(tick_ms as decimal(9, 1)) as tick_ms,
        {{ whole_number('errors') }} as error_count,

        {{ utc_timestamp('event_at') }} as read_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
