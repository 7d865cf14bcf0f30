{#- who has taken the changes up to a version finds all later ones, as long as that is not before the oldest one -#}
{% macro begin_changes(name, marks, changes, target_relation, columns) -%}
create table if not exists {{ marks }} (generation bigint);

create or replace table {{ changes }} as
select
    cast(null as string) as _side,
    cast(null as boolean) as _is_removed,
    cast(null as bigint) as _version,
    {{ columns | join(", ") }},
    cast(null as string) as absent_by
from {{ target_relation }}
limit 0;

set variable {{ name }}_version = 1;
set variable {{ name }}_oldest = 1;
{%- endmacro %}


{#- it never holds more than all rows gone and come once -#}
{% macro append_changes(name, marks, changes, differing, target_relation) -%}
set variable {{ name }}_version = (
    select version + cast((select count(*) > 0 from {{ differing }} where not _is_moved) as bigint) from {{ marks }}
);

insert into {{ changes }} by name
select
    * exclude (_is_moved),
    getvariable('{{ name }}_version') as _version
from {{ differing }}
where not _is_moved;

set variable {{ name }}_oldest = (
    select greatest(
        (select oldest_version from {{ marks }}),
        max(_version) filter (where _later > (select greatest(1000, 2 * count(*)) from {{ target_relation }}))
    )
    from (
        select
            _version,
            sum(count(*)) over (order by _version desc) as _later
        from {{ changes }}
        group by _version
    ) as versions
);

delete from {{ changes }} where _version <= getvariable('{{ name }}_oldest');
{%- endmacro %}


{#- asked of the catalog: dbt's cache shows a schema that another thread is listing without its last tables -#}
{% macro count_places(places, marks=[]) -%}
select
    (
        select count(*)
        from duckdb_tables()
        where
            database_name = current_database()
            and schema_name || '.' || table_name in (
                {%- for place in places %}
                {{ sql_literal(place.schema ~ "." ~ place.identifier) }}{{ "," if not loop.last }}
                {%- endfor %}
            )
    ) = {{ places | length }}
    {%- if marks %}
    and (
        select count(*)
        from duckdb_columns()
        where
            database_name = current_database()
            and schema_name = 'marks'
            and column_name = 'oldest_version'
            and table_name in (
                {%- for name in marks %}
                {{ sql_literal(name) }}{{ "," if not loop.last }}
                {%- endfor %}
            )
    ) = {{ marks | length }}
    {%- endif %} as is_there
{%- endmacro %}


{% macro is_account_whole(input) -%}
exists (
        select 1
        from {{ input.marks }} as there
        where
            marks.taken[{{ sql_literal(input.name) }}].generation = there.generation
            and marks.taken[{{ sql_literal(input.name) }}].version >= there.oldest_version
    )
{%- endmacro %}


{% macro keeps_changes(node) %}
    {%- if node.config.materialized == "by_key" -%}
        {{ return(true) }}
    {%- endif -%}
    {{ return(node.config.materialized == "staging" and node.config.meta.get("staging", {}).get("events") is not true) }}
{% endmacro %}


{% macro input_with_changes(node, relation) %}
    {{ return({
        "name": node.name,
        "relation": relation,
        "marks": this.incorporate(path={"schema": "marks", "identifier": node.name}),
        "changes": this.incorporate(path={"schema": "changes", "identifier": node.name}),
    }) }}
{% endmacro %}


{% macro taken_inputs(logged, hashed) -%}
    map_from_entries([
        {%- for input in logged %}
        ({{ sql_literal(input.name) }}, (
            select {'generation': cast(generation as hugeint), 'version': cast(version as hugeint)} from {{ input.marks }}
        )),
        {%- endfor %}
        {%- for name, query in hashed.items() %}
        ({{ sql_literal(name) }}, ({{ query }})),
        {%- endfor %}
        ('', {'generation': 0::hugeint, 'version': 0::hugeint})
    ])
{%- endmacro %}
