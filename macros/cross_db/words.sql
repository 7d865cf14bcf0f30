{% macro shares_word(left_text, right_text) -%}
    {{- return(adapter.dispatch("shares_word")(left_text, right_text)) -}}
{%- endmacro %}


{% macro default__shares_word(left_text, right_text) -%}
    len(list_intersect(
        string_split(lower({{ without_accents(left_text) }}), ' '),
        string_split(lower({{ without_accents(right_text) }}), ' ')
    )) > 0
{%- endmacro %}


{% macro spark__shares_word(left_text, right_text) -%}
    arrays_overlap(
        split(lower({{ without_accents(left_text) }}), ' '),
        split(lower({{ without_accents(right_text) }}), ' ')
    )
{%- endmacro %}
