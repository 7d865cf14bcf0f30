{% macro rule_required(column, argument) %}
    {%- if argument is not true -%}
        {{ return({"error": "true (leave the rule out otherwise)"}) }}
    {%- endif -%}
    {{ return({
        "broken": column ~ " is null",
        "defect": "missing",
        "reason": column ~ " is missing",
    }) }}
{% endmacro %}


{% macro rule_typed_from(column, argument) %}
    {%- set given = argument if argument is mapping else {"column": argument} -%}
    {%- set names = [given.column] if given.column is string else given.column -%}
    {%- set missing = given.get("missing", []) -%}
    {%- if names is not sequence or names is mapping or not names
        or missing is string or missing is mapping or missing is not iterable
        or given.keys() | reject("in", ["column", "missing"]) | list -%}
        {{ return({"error": "the raw column, or a list of them, that the value is read from; or {column: ..., missing: "
            ~ "[texts that stand for no value]}"}) }}
    {%- endif -%}
    {%- set untold = ["''"] -%}
    {%- for text in missing -%}
        {%- do untold.append(sql_literal(text | string | trim)) -%}
    {%- endfor -%}
    {%- set told = [] -%}
    {%- for name in names -%}
        {%- do told.append("trim(cast(_record." ~ name ~ " as string)) not in (" ~ untold | join(", ") ~ ")") -%}
    {%- endfor -%}
    {#- a case, so that what is raw is looked at only where nothing came of it -#}
    {%- set is_told = "case when " ~ column ~ " is null then coalesce(" ~ told | join(" or ") ~ ", false) else false end" -%}
    {{ return({
        "broken": is_told,
        "defect": "mistyped",
        "reason": column ~ " is unreadable",
        "is_told": is_told,
    }) }}
{% endmacro %}


{% macro rule_between(column, argument) %}
    {%- if argument is string or argument is mapping or argument is not iterable
        or argument | length != 2 or argument == [none, none] -%}
        {{ return({"error": "[lowest, highest], either of which may be null"}) }}
    {%- endif -%}
    {%- set lowest, highest = argument -%}
    {%- if highest is none -%}
        {%- set broken = column ~ " < " ~ sql_literal(lowest) -%}
        {%- set limits = "under " ~ lowest -%}
    {%- elif lowest is none -%}
        {%- set broken = column ~ " > " ~ sql_literal(highest) -%}
        {%- set limits = "over " ~ highest -%}
    {%- else -%}
        {%- set broken = column ~ " not between " ~ sql_literal(lowest) ~ " and " ~ sql_literal(highest) -%}
        {%- set limits = "outside " ~ lowest ~ " to " ~ highest -%}
    {%- endif -%}
    {{ return({"broken": broken, "defect": "outlying", "reason": column ~ " is " ~ limits}) }}
{% endmacro %}


{% macro rule_one_of(column, argument) %}
    {%- if argument is string or argument is mapping or argument is not iterable or not argument -%}
        {{ return({"error": "a list of values"}) }}
    {%- endif -%}
    {%- set literals = [] -%}
    {%- for value in argument -%}
        {%- do literals.append(sql_literal(value)) -%}
    {%- endfor -%}
    {{ return({
        "broken": column ~ " not in (" ~ literals | join(", ") ~ ")",
        "defect": "mistyped",
        "reason": column ~ " is not one of " ~ argument | join(", "),
    }) }}
{% endmacro %}


{% macro rule_matches(column, argument) %}
    {%- if argument is not string -%}
        {{ return({"error": "a regular expression"}) }}
    {%- endif -%}
    {{ return({
        "broken": "not " ~ matches(column, argument),
        "defect": "mistyped",
        "reason": column ~ " does not match " ~ argument,
    }) }}
{% endmacro %}


{% macro rule_reference(column, argument) %}
    {%- set expected -%}
        {model: name, column: name} beside a column, or {model: name, columns: {own: theirs}} for the row
    {%- endset -%}
    {%- if argument is not mapping or not argument.get("model") -%}
        {{ return({"error": expected}) }}
    {%- endif -%}
    {%- set columns = {column: argument.column} if column and argument.get("column") else argument.get("columns") -%}
    {%- if columns is not mapping or not columns -%}
        {{ return({"error": expected}) }}
    {%- endif -%}
    {%- set names = columns.keys() | join(", ") -%}
    {{ return({
        "broken": none,
        "defect": "orphaned",
        "reason": names ~ " refers to no row of " ~ argument.model,
        "reference": {"model": argument.model, "columns": columns},
    }) }}
{% endmacro %}


{% macro rule_check(column, argument) %}
    {%- if argument is not string -%}
        {{ return({"error": "a condition that is true for a valid row"}) }}
    {%- endif -%}
    {{ return({
        "broken": "not (" ~ argument ~ ")",
        "defect": "inconsistent",
        "reason": "not " ~ argument,
    }) }}
{% endmacro %}


{% macro rule_each(column, argument) %}
    {%- if argument is not string or "element" not in argument -%}
        {{ return({"error": "a condition that is true for each element of the list, which it calls element"}) }}
    {%- endif -%}
    {{ return({
        "broken": "not " ~ every_element(column, argument),
        "defect": "outlying",
        "reason": column ~ " holds an element that is not " ~ argument,
    }) }}
{% endmacro %}


{% macro rule_plausible_time(column, argument) %}
    {%- if argument is not true -%}
        {{ return({"error": "true (leave the rule out otherwise)"}) }}
    {%- endif -%}
    {%- set earliest = var("earliest_plausible_date") -%}
    {%- set latest = var("latest_plausible_date") -%}
    {{ return({
        "broken": "cast(" ~ column ~ " as date) not between date '" ~ earliest ~ "' and date '" ~ latest ~ "'",
        "defect": "skewed_clock",
        "reason": column ~ " is outside " ~ earliest ~ " to " ~ latest,
    }) }}
{% endmacro %}
