{% macro compare_row_counts(parents) %}
    {%- for name, names in parents.items() %}
select
    '{{ name }}' as relation,
    (select count(*) from {{ ref(name) }}) as row_count,
        {%- for parent in names %}
    (select count(*) from {{ ref(parent) }}){{ " +" if not loop.last else " as expected_count" }}
        {%- endfor %}
        {%- if not loop.last %}
union all
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}
