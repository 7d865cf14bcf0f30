{% macro window_start(column, size) -%}
    {{- return(adapter.dispatch("window_start")(column, checked_span(size, "window_start: size").seconds)) -}}
{%- endmacro %}


{#- counted from a Monday, so that windows of 7 days are weeks -#}
{% macro default__window_start(column, seconds) -%}
    time_bucket(interval '{{ seconds }}' second, cast({{ column }} as timestamp))
{%- endmacro %}


{% macro spark__window_start(column, seconds) -%}
    cast(timestamp_seconds(
        floor((unix_seconds(cast({{ column }} as timestamp)) - 946857600) / {{ seconds }}) * {{ seconds }} + 946857600
    ) as timestamp_ntz)
{%- endmacro %}


{% macro events_by_window(model_name, column, size, hop=none, by=[]) -%}
    {%- set steps = checked_hops(size, hop) -%}
    {%- set hop = hop or size -%}
    {%- set events = ref(model_name) -%}
with

events as (

    select
        *,
        {{ window_start(column, hop) }} as newest_window
    from {{ events }}
    {%- if is_incremental() %}
    where
        {{ column }} >= coalesce(
            {{ seconds_earlier(
                window_start(oldest_new_event(model_name), hop), checked_span(size, "events_by_window: size").seconds
            ) }},
            timestamp '0001-01-01'
        )
    {%- endif %}

),

hops as (

    {%- for step in range(steps) %}
    select {{ step * checked_span(hop, "hop").seconds }} as seconds_before
    {{- "\n    union all" if not loop.last }}
    {%- endfor %}

),

placed as (

    select
        events.*,
        {{ seconds_earlier("events.newest_window", "hops.seconds_before") }} as window_start
    from events
    cross join hops

)
{%- if is_incremental() %},

touched as (

    select distinct
        {%- for name in by %}
        {{ name }},
        {%- endfor %}
        window_start
    from placed
    where {{ is_new(model_name) }}

)

select placed.*
from placed
where
    exists (
        select 1
        from touched
        where
            placed.window_start = touched.window_start
            {%- for name in by %}
            and placed.{{ name }} = touched.{{ name }}
            {%- endfor %}
    )
{%- else %}

select * from placed
{%- endif %}
{%- endmacro %}


{% macro checked_hops(size, hop) %}
    {%- set seconds = checked_span(size, "events_by_window: size").seconds -%}
    {%- set every = checked_span(hop or size, "events_by_window: hop").seconds -%}
    {%- if seconds % every -%}
        {{ exceptions.raise_compiler_error(
            "events_by_window: size is " ~ size ~ " and hop is " ~ hop ~ "; expected a size that is a multiple of the hop"
        ) }}
    {%- endif -%}
    {{ return(seconds // every) }}
{% endmacro %}


{% macro seconds_earlier(moment, seconds) -%}
    {{- return(adapter.dispatch("seconds_earlier")(moment, seconds)) -}}
{%- endmacro %}


{% macro default__seconds_earlier(moment, seconds) -%}
    {{ moment }} - to_seconds({{ seconds }})
{%- endmacro %}


{% macro spark__seconds_earlier(moment, seconds) -%}
    {{ moment }} - make_dt_interval(0, 0, 0, {{ seconds }})
{%- endmacro %}


{% macro watermark(model_name, column, lateness) -%}
    (select max({{ column }}) - {{ span(lateness) }} from {{ ref(model_name) }})
{%- endmacro %}
