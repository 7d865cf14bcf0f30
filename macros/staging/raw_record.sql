{% macro raw_record(cte) -%}
    {{- return(adapter.dispatch("raw_record")(cte)) -}}
{%- endmacro %}


{% macro default__raw_record(cte) -%}
    {{- cte -}}
{%- endmacro %}


{% macro spark__raw_record(cte) -%}
    struct({{ cte }}.*)
{%- endmacro %}
