{% macro rule_encoding(column, argument) %}
    {%- if argument is not true -%}
        {{ return({"error": "true (leave the rule out otherwise)"}) }}
    {%- endif -%}
    {#- UTF-8 read as a Western code page shows one of these pairs for each letter; the rest are its losses -#}
    {{ return({
        "broken": matches(column, "[\\x{00C2}-\\x{00C5}][\\x{0080}-\\x{00BF}\\x{0152}-\\x{0192}\\x{02C6}\\x{02DC}\\x{2013}-\\x{203A}\\x{20AC}\\x{2122}]|[\\x{00C2}\\x{00C3}]\\?|\\x{FFFD}"),
        "defect": "wrong_encoding",
        "severity": "flag",
        "reason": column ~ " was read in a wrong encoding",
    }) }}
{% endmacro %}


{% macro rule_no_personal_data(column, argument) %}
    {%- set patterns = personal_data_patterns() -%}
    {%- set kinds = patterns.keys() | list if argument is true else argument -%}
    {%- set expected = "true, or a list of " ~ patterns.keys() | join(", ") -%}
    {%- if kinds is string or kinds is mapping or kinds is not iterable or not kinds -%}
        {{ return({"error": expected}) }}
    {%- endif -%}
    {%- set broken = [] -%}
    {%- for kind in kinds -%}
        {%- if kind not in patterns -%}
            {{ return({"error": expected}) }}
        {%- endif -%}
        {%- do broken.append(matches("cast(" ~ column ~ " as string)", patterns[kind])) -%}
    {%- endfor -%}
    {{ return({
        "broken": broken | join(" or "),
        "defect": "personal_data",
        "severity": "flag",
        "reason": column ~ " holds personal data",
    }) }}
{% endmacro %}


{% macro personal_data_patterns() %}
    {{ return({
        "email": "[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)*\\.[A-Za-z]{2,}",
        "card": "\\b[3-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}\\b|\\b3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}\\b",
        "iban": "\\b[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){3,7}( ?[A-Z0-9]{1,3})?\\b",
    }) }}
{% endmacro %}
