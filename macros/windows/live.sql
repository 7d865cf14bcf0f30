{#- a hook before each incremental model: which loads has it taken, and does it still stand on the same ground? -#}
{% macro begin_live() -%}
    {%- if execute and config.get("materialized") == "incremental" -%}
        {%- set plan = plan_live(model) -%}
        {%- if config.get("incremental_strategy") == "sessions" -%}
            {%- do refuse_other_keys_of_sessions(config.get("unique_key")) -%}
        {%- endif -%}
        {%- if plan.inputs -%}
create table if not exists {{ plan.marks }} (
    input string, code string, load_id string, input_generation bigint, generation bigint
);
set variable {{ plan.name }}__continues = {{ "(" ~ select_continues(plan) ~ ")" if is_incremental() else "false" }};
            {%- if is_incremental() %}
delete from {{ this }} where not getvariable('{{ plan.name }}__continues');
            {%- endif %}
            {%- for input in plan.inputs %}
set variable {{ plan.name }}__{{ input.name }} = (
    select load_id
    from {{ plan.marks }}
    where input = '{{ input.name }}' and getvariable('{{ plan.name }}__continues')
);
                {%- if input.event_time %}
set variable {{ plan.name }}__{{ input.name }}__oldest = (
    select min(cast({{ input.event_time }} as timestamp))
    from {{ input.relation }}
    where _load_id > coalesce(getvariable('{{ plan.name }}__{{ input.name }}'), '')
);
                {%- endif %}
            {%- endfor %}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}


{#- the hook behind it, in the same transaction: it has taken what its inputs have -#}
{% macro end_live() -%}
    {%- if execute and config.get("materialized") == "incremental" -%}
        {%- set plan = plan_live(model) -%}
        {%- if plan.inputs -%}
create or replace table {{ plan.marks }} as
            {%- for input in plan.inputs %}
select
    '{{ input.name }}' as input,
    '{{ plan.code }}' as code,
    (select max(load_id) from {{ input.marks }}) as load_id,
    (select max(generation) from {{ input.marks }}) as input_generation,
    coalesce((select max(generation) from {{ plan.marks }}), 0)
    + case when getvariable('{{ plan.name }}__continues') then 0 else 1 end as generation
                {{- "\nunion all" if not loop.last }}
            {%- endfor %};
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}


{% macro select_continues(plan) -%}
    select
        (select count(*) from {{ plan.marks }}) = {{ plan.inputs | length }}
        {%- for input in plan.inputs %}
        and exists (
            select 1
            from {{ plan.marks }} as taken
            inner join {{ input.marks }} as there
                on taken.input_generation = there.generation
            where taken.input = '{{ input.name }}' and taken.code = '{{ plan.code }}'
        )
        {%- endfor %}
{%- endmacro %}


{% macro plan_live(node) %}
    {#- grows while it is walked -#}
    {%- set ahead = node.depends_on.nodes | list -%}
    {%- set seen = [] -%}
    {%- set inputs = [] -%}
    {%- set code = [node.checksum.checksum] -%}
    {%- for unique_id in ahead if unique_id not in seen and unique_id in graph.nodes -%}
        {%- do seen.append(unique_id) -%}
        {%- set found = graph.nodes[unique_id] -%}
        {%- if is_live_input(found) -%}
            {%- do inputs.append({
                "name": found.name,
                "relation": this.incorporate(path={"schema": found.schema, "identifier": found.alias}),
                "marks": this.incorporate(path={"schema": "marks", "identifier": found.name}),
                "event_time": found.config.meta.get("staging", {}).get("event_time"),
            }) -%}
        {%- else -%}
            {%- do code.append(found.checksum.checksum) -%}
            {%- do ahead.extend(found.depends_on.nodes or []) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return({
        "name": node.name,
        "marks": this.incorporate(path={"schema": "marks", "identifier": node.name}),
        "inputs": inputs,
        "code": local_md5(code | sort | join(" ")),
    }) }}
{% endmacro %}


{% macro is_live_input(node) %}
    {%- set is_model = node.resource_type == "model" -%}
    {{ return(is_model and (
        node.config.materialized == "incremental"
        or (node.config.materialized == "staging" and node.config.meta.get("staging", {}).get("events") is true)
    )) }}
{% endmacro %}


{% macro is_new(model_name, column="_load_id") -%}
    {%- if execute and graph.nodes -%}
        {%- do refuse_unmarked(model_name) -%}
    {%- endif -%}
    {%- if not is_incremental() -%}
        true
    {%- else -%}
        {{ column }} > coalesce({{ taken_load(model_name) }}, '')
    {%- endif -%}
{%- endmacro %}


{% macro refuse_unmarked(model_name) %}
    {%- set names = [] -%}
    {%- for input in plan_live(model).inputs -%}
        {%- do names.append(input.name) -%}
    {%- endfor -%}
    {%- if model_name not in names -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ ": is_new names " ~ model_name ~ "; expected a staging model of events or an incremental model "
            ~ "that it reads: " ~ names | join(", ")
        ) }}
    {%- endif -%}
    {%- for node in graph.nodes.values()
        if node.name == model_name and node.config.materialized == "incremental" and plan_live(node).inputs | length > 1 -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ ": is_new names " ~ model_name ~ ", which reads several streams, so that no order of loads tells "
            ~ "what is new in it; expected a model of one stream"
        ) }}
    {%- endfor -%}
{% endmacro %}


{% macro taken_load(model_name) -%}
    {{- return(adapter.dispatch("taken_load")(model_name)) -}}
{%- endmacro %}


{% macro default__taken_load(model_name) -%}
    (
        select max(load_id)
        from {{ this.incorporate(path={"schema": "marks", "identifier": this.identifier}) }}
        where input = '{{ model_name }}'
    )
{%- endmacro %}


{% macro duckdb__taken_load(model_name) -%}
    {#- as a constant, so that only the newest row groups are read -#}
    getvariable('{{ this.identifier }}__{{ model_name }}')
{%- endmacro %}


{% macro oldest_new_event(model_name) -%}
    {{- return(adapter.dispatch("oldest_new_event")(model_name)) -}}
{%- endmacro %}


{% macro default__oldest_new_event(model_name) -%}
    cast(null as timestamp)
{%- endmacro %}


{% macro duckdb__oldest_new_event(model_name) -%}
    getvariable('{{ this.identifier }}__{{ model_name }}__oldest')
{%- endmacro %}
