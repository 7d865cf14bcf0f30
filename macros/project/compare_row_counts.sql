{% macro compare_row_counts(parents) %}
    {%- for name, names in parents.items() %}
select
    '{{ name }}' as relation,
    (select count(*) from {{ ref(name) }}) as row_count,
        {%- for parent in names %}
            {%- set held = staging_history(parent[8:]) if parent.startswith("history.") else ref(parent) %}
    (select count(*) from {{ held }}){{ " +" if not loop.last else " as expected_count" }}
        {%- endfor %}
        {%- if not loop.last %}
union all
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}
