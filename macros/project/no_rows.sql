{% macro no_rows(columns) %}
select
    {%- for name, data_type in columns.items() %}
    cast(null as {{ data_type }}) as {{ name }}{{ "," if not loop.last }}
    {%- endfor %}
where false
{%- endmacro %}
