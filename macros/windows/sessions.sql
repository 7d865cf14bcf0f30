{% macro events_by_session(model_name, column, gap, by) -%}
    {%- set events = ref(model_name) -%}
with

events as (

    select * from {{ events }}

),
{%- if is_incremental() %}

new_events as (

    select
        {%- for name in by %}
        {{ name }},
        {%- endfor %}
        {{ column }} as happened_at
    from events
    where {{ is_new(model_name) }}

),

-- a session lies further than the gap from all others, so only what is new can join it to one
touched as (

    select
        {%- for name in by %}
        {{ name }},
        {%- endfor %}
        happened_at as started_at,
        happened_at as ended_at
    from new_events
    union
    select
        {%- for name in by %}
        sessions.{{ name }},
        {%- endfor %}
        sessions.session_started_at as started_at,
        sessions.session_ended_at as ended_at
    from {{ this }} as sessions
    inner join new_events
        on
            {%- for name in by %}
            sessions.{{ name }} = new_events.{{ name }} and
            {%- endfor %}
            new_events.happened_at between
                sessions.session_started_at - {{ span(gap) }} and sessions.session_ended_at + {{ span(gap) }}

),

chosen as (

    select events.*
    from events
    where
        exists (
            select 1
            from touched
            where
                {%- for name in by %}
                events.{{ name }} = touched.{{ name }} and
                {%- endfor %}
                events.{{ column }} between touched.started_at and touched.ended_at
        )

),
{%- else %}

chosen as (

    select * from events

),
{%- endif %}

told as (

    select
        *,
        coalesce(
            {{ column }} - {{ span(gap) }} <= lag({{ column }}) over in_order, false
        ) as follows_closely
    from chosen
    window in_order as (
        partition by {{ by | join(", ") }}
        order by {{ column }} asc nulls first
    )

),

begun as (

    select
        *,
        max(case when not follows_closely then {{ column }} end) over (
            partition by {{ by | join(", ") }}
            order by {{ column }} asc nulls first
            range between unbounded preceding and current row
        ) as session_started_at
    from told

)

select * from begun
{%- endmacro %}


{#- a late event may move the start of a session, or join two: what lies within a session made anew goes -#}
{% macro get_incremental_sessions_sql(arguments) -%}
    {%- set keys = arguments.unique_key -%}
    {%- set columns = arguments.dest_columns | map(attribute="quoted") | join(", ") -%}
delete from {{ arguments.target_relation }} as former
using {{ arguments.temp_relation }} as made
where
    {%- for name in keys[:-1] %}
    former.{{ name }} = made.{{ name }} and
    {%- endfor %}
    former.session_started_at between made.session_started_at and made.session_ended_at;
insert into {{ arguments.target_relation }} ({{ columns }})
select {{ columns }} from {{ arguments.temp_relation }}
{%- endmacro %}


{% macro refuse_other_keys_of_sessions(keys) %}
    {%- if keys is string or keys is not iterable or keys[-1] != "session_started_at" -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ ": unique_key is " ~ keys ~ "; expected a list that ends in session_started_at, because its "
            ~ "incremental_strategy is sessions"
        ) }}
    {%- endif -%}
{% endmacro %}
