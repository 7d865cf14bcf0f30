{% macro sql_literal(value) -%}
    {%- if value is none -%}
        {{- return("null") -}}
    {%- elif value is boolean -%}
        {{- return("true" if value else "false") -}}
    {%- elif value is number -%}
        {{- return(value | string) -}}
    {%- endif -%}
    {{- return(dbt.string_literal(dbt.escape_single_quotes(value | string))) -}}
{%- endmacro %}
