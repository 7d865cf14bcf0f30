{% macro rule_determined_by(column, argument) %}
    {%- set columns = [argument] if argument is string else argument -%}
    {%- if columns is mapping or columns is not iterable or not columns -%}
        {{ return({"error": "the column, or a list of them, that decides the value"}) }}
    {%- endif -%}
    {{ return({
        "broken": none,
        "defect": "inconsistent",
        "severity": "flag",
        "reason": column ~ " differs from the usual one of its " ~ columns | join(", "),
        "usual": {"column": column, "columns": columns},
    }) }}
{% endmacro %}


{% macro rule_sums(column, argument) %}
    {%- if argument is not mapping or argument.keys() | sort != ["each", "list"] or "element" not in argument.each -%}
        {{ return({"error": "{list: column, each: an amount of each element, which it calls element}"}) }}
    {%- endif -%}
    {{ return({
        "broken": column ~ " <> " ~ sum_of_elements(argument.list, argument.each),
        "list": argument.list,
        "defect": "inconsistent",
        "severity": "flag",
        "reason": column ~ " is not the sum of its " ~ argument.list,
    }) }}
{% endmacro %}


{% macro rule_on_time(column, argument) %}
    {%- if argument is not string -%}
        {{ return({"error": "a regular expression with one group: the period that the file's name tells (2026-07, 2026-07-01, 20260701 or 2026-W27)"}) }}
    {%- endif -%}
    {{ return({
        "broken": "cast(" ~ column ~ " as date) < " ~ period_start(extract_match("_file", argument, 1)),
        "defect": "late",
        "severity": "flag",
        "reason": column ~ " is before the period of its file",
    }) }}
{% endmacro %}


{% macro rule_in_order(column, argument) %}
    {%- if argument is not true -%}
        {{ return({"error": "true (leave the rule out otherwise)"}) }}
    {%- endif -%}
    {{ return({
        "broken": none,
        "defect": "late",
        "severity": "flag",
        "reason": column ~ " is before what an earlier load had read",
        "newest": {"column": column},
    }) }}
{% endmacro %}
