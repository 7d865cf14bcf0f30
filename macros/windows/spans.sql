{% macro span(text) -%}
    {{- return(adapter.dispatch("span")(checked_span(text, "span").seconds)) -}}
{%- endmacro %}


{#- DuckDB and Spark both read interval '3' second; in a model it would be refused, as a date and an interval differ -#}
{% macro default__span(seconds) -%}
    interval '{{ seconds }}' second
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
