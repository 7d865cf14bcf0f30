{% macro plan_events(node, meta, clean_columns, rules) %}
    {%- set is_events = meta.get("events", false) -%}
    {%- if is_events is not boolean -%}
        {%- do staging_error(node, "meta.staging.events", "is " ~ is_events, "true or false") -%}
    {%- endif -%}
    {%- if not is_events -%}
        {%- for name in ["event_time", "drop_after", "repeats_within", "delivery"] if name in meta -%}
            {%- do staging_error(node, "meta.staging." ~ name, "belongs to models of events", "events: true beside it") -%}
        {%- endfor -%}
        {{ return(none) }}
    {%- endif -%}
    {%- do refuse_other_loads(node, meta, rules) -%}

    {%- set event_time = meta.get("event_time") -%}
    {%- if event_time is not none and event_time not in clean_columns -%}
        {%- do staging_error(node, "meta.staging.event_time", "is " ~ event_time,
            "one of the model's columns " ~ clean_columns | join(", ")) -%}
    {%- endif -%}
    {%- set drop_after = meta.get("drop_after") -%}
    {%- if drop_after is not none -%}
        {%- if event_time is none -%}
            {%- do staging_error(node, "meta.staging.drop_after", "has no time to judge by",
                "event_time: the column that says when an event happened") -%}
        {%- endif -%}
        {%- do checked_span(drop_after, node.name ~ ": meta.staging.drop_after") -%}
    {%- endif -%}
    {%- set repeats_within = meta.get("repeats_within") -%}
    {%- if repeats_within is not none -%}
        {%- if event_time is none -%}
            {%- do staging_error(node, "meta.staging.repeats_within", "has no time to judge by",
                "event_time: the column that says when an event happened") -%}
        {%- endif -%}
        {%- do checked_span(repeats_within, node.name ~ ": meta.staging.repeats_within") -%}
    {%- endif -%}
    {{ return({
        "event_time": event_time,
        "drop_after": drop_after,
        "repeats_within": repeats_within,
        "delivery": staging_columns(node, meta, "delivery", clean_columns),
        "target": this,
    }) }}
{% endmacro %}


{#- what would change rows that are staged already could not equal a rebuild -#}
{% macro refuse_other_loads(node, meta, rules) %}
    {%- set expected = "rules that look at the row alone: what is staged once stays" -%}
    {%- for rule in rules if rule.reference or rule.usual or rule.newest -%}
        {%- do staging_error(node, "rule " ~ rule.kind, "looks at other tables or loads, and the model is of events",
            expected) -%}
    {%- endfor -%}
    {%- for name in ["history", "version_order"] if meta.get(name) -%}
        {%- do staging_error(node, "meta.staging." ~ name, "is declared, and the model is of events",
            "none of it: the first version of a key stays") -%}
    {%- endfor -%}
    {%- if node.depends_on.nodes | length != 1 -%}
        {%- do staging_error(node, "the model", "reads " ~ node.depends_on.nodes | join(", "),
            "its source alone, because it is a model of events") -%}
    {%- endif -%}
{% endmacro %}


{% macro no_deletion(plan) -%}
    case
        when _deleted then error({{ sql_literal(
            plan.name ~ ": its source marks a row as deleted, and events are never deleted. Remove events: true from "
            ~ "meta.staging."
        ) }})
        else false
    end as _deleted
{%- endmacro %}


{#- whether all that is staged is what a rebuild would make of the same loads -#}
{% macro select_is_continued(plan) -%}
select count(*) = 1 as is_continued
from {{ plan.marks }} as marks
where
    marks.code = {{ staging_code(plan) }}
    and marks.shape = ({{ raw_shape(plan) }})
    and marks.files = ({{ loaded_files_hash(plan, "marks.load_id") }})
{%- endmacro %}


{% macro staging_code(plan) -%}
    {#- told once: all of the model is rendered for it -#}
    {%- if "code" not in plan -%}
        {%- set parts = [
            sql, judge_rows(plan, sql), select_repeated_rows(plan), select_set_aside(plan), select_findings(plan),
            plan.content_columns,
        ] -%}
        {%- do plan.update({"code": local_md5(parts | join ~ (select_history(plan) if plan.history else ""))}) -%}
    {%- endif -%}
    {{- sql_literal(plan.code) -}}
{%- endmacro %}


{% macro ledger_of_files() %}
    {{ return(this.incorporate(path={"schema": "ledger", "identifier": "files"})) }}
{% endmacro %}


{#- of the one table: DuckDB's list of all columns looks at every view -#}
{% macro raw_shape(plan) -%}
    select string_agg(name || ' ' || type, ', ' order by cid asc nulls last) as shape
    from pragma_table_info({{ sql_literal(plan.raw.relation_name) }})
{%- endmacro %}


{#- a file that is read again is entered anew, with another time -#}
{% macro loaded_file_hash() -%}
    hash(files.file, files.load_id, files.rows_loaded, files.loaded_at)
{%- endmacro %}


{% macro is_loaded_file(plan) -%}
    files.source = {{ sql_literal(plan.source) }}
        and files.table_name = {{ sql_literal(plan.table_name) }}
        and files.status = 'loaded'
{%- endmacro %}


{% macro loaded_files_hash(plan, newest) -%}
    select coalesce(sum({{ loaded_file_hash() }}), 0) as files
    from ledger.files as files
    where
        {{ is_loaded_file(plan) }}
        and files.load_id <= {{ newest }}
{%- endmacro %}


{% macro add_new_loads(plan, model_sql, target_relation) -%}
set variable {{ plan.name }}_mark = (select load_id from {{ plan.marks }});

create or replace temporary table {{ plan.judged }} as
{{ judge_rows(plan, model_sql, "cleaned._load_id > getvariable('" ~ plan.name ~ "_mark')") }};

{#- nothing lasting is written yet. What its own transaction has made, DuckDB inserts with one thread; places change with it #}
commit;
begin transaction;

{%- if plan.events.repeats_within %}

set variable {{ plan.name }}_oldest_event = (
    select min({{ plan.events.event_time }}) from {{ plan.judged }} where _raw_record is null
);
{%- endif %}

create or replace temporary table {{ plan.repeated }} as
{{ select_repeated_events(plan, target_relation) }};

create or replace temporary table {{ plan.set_aside }} as
{{ select_events_set_aside(plan) }};

insert into {{ target_relation }} by name
{{ select_staged_rows(plan) }};

insert into {{ plan.quarantine }} by name
{{ select_quarantined_rows(plan) }};

insert into {{ plan.rejected }} by name
{{ select_rejected_rows(plan) }};

insert into {{ plan.absent_keys }} by name
{{ select_absent_keys(plan) }};

insert into {{ plan.outcomes }} by name
{{ count_outcomes(plan) }};

insert into {{ plan.findings }} by name
{{ select_findings(plan) }};

{{ note_staged_loads(plan, is_rebuilt=false, has_ledger=true) }}

drop table {{ plan.judged }};
drop table {{ plan.repeated }};
drop table {{ plan.set_aside }};
{%- endmacro %}


{#- a load may have brought no row; the ledger knows of it -#}
{% macro note_staged_loads(plan, is_rebuilt, has_ledger) -%}
    {%- set marks = plan.marks -%}
    {%- if is_rebuilt %}
create table if not exists {{ marks }} (
    code string, shape string, files hugeint, load_id string, newest_at timestamp, generation bigint
);
    {%- endif %}
set variable {{ plan.name }}_loaded = (
    select greatest(
        coalesce((select max(_load_id) from {{ plan.judged }}), ''),
        {%- if has_ledger %}
        coalesce((
            select max(load_id)
            from ledger.files
            where
                source = {{ sql_literal(plan.source) }}
                and table_name = {{ sql_literal(plan.table_name) }}
                and status = 'loaded'
        ), ''),
        {%- endif %}
        coalesce({{ "null" if is_rebuilt else "(select load_id from " ~ marks ~ ")" }}, '')
    )
);
create or replace table {{ marks }} as
select
    {{ staging_code(plan) }} as code,
    ({{ raw_shape(plan) }}) as shape,
    {%- if has_ledger %}
    cast(({{ loaded_files_hash(plan, "getvariable('" ~ plan.name ~ "_loaded')") }}) as hugeint) as files,
    {%- else %}
    cast(null as hugeint) as files,
    {%- endif %}
    getvariable('{{ plan.name }}_loaded') as load_id,
    {%- if plan.events.event_time %}
    greatest(
        {{ "null" if is_rebuilt else "(select newest_at from " ~ marks ~ ")" }},
        (
            select max(cast({{ plan.events.event_time }} as timestamp))
            from {{ plan.judged }}
            where _raw_record is null
        )
    ) as newest_at,
    {%- else %}
    cast(null as timestamp) as newest_at,
    {%- endif %}
    {#- who reads these rows by load begins anew when they are staged anew #}
    coalesce((select max(generation) from {{ marks }}), 0) + {{ 1 if is_rebuilt else 0 }} as generation;
{%- endmacro %}
