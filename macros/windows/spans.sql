{#- as SQL: DuckDB and Spark both read interval '3' day -#}
{% macro span(text) -%}
    {%- set found = checked_span(text, "span") -%}
    interval '{{ found.number }}' {{ found.unit }}
{%- endmacro %}


{% macro checked_span(text, where) %}
    {%- set found = modules.re.match("^([1-9][0-9]*) (second|minute|hour|day)s?$", text | string) -%}
    {%- if not found -%}
        {{ exceptions.raise_compiler_error(
            where ~ " is " ~ text ~ "; expected a number of seconds, minutes, hours or days, such as `15 minutes`"
        ) }}
    {%- endif -%}
    {%- set number, unit = found.group(1) | int, found.group(2) -%}
    {{ return({
        "number": number,
        "unit": unit,
        "seconds": number * {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[unit],
    }) }}
{% endmacro %}
