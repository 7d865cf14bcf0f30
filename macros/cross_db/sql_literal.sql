{% macro sql_literal(value) -%}
    {%- if value is none -%}
        {{- return("null") -}}
    {%- elif value is boolean -%}
        {{- return("true" if value else "false") -}}
    {%- elif value is number -%}
        {{- return(value | string) -}}
    {%- elif "'" in value | string -%}
        {#- engines escape a quote differently -#}
        {{- return(dbt.string_literal(dbt.escape_single_quotes(value | string))) -}}
    {%- endif -%}
    {{- return("'" ~ value ~ "'") -}}
{%- endmacro %}
