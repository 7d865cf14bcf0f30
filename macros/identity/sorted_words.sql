{% macro sorted_words(expression) -%}
    {{- return(adapter.dispatch("sorted_words")(expression)) -}}
{%- endmacro %}


{% macro default__sorted_words(expression) -%}
    array_to_string(list_sort(string_split({{ expression }}, ' ')), ' ')
{%- endmacro %}


{% macro spark__sorted_words(expression) -%}
    array_join(array_sort(split({{ expression }}, ' ')), ' ')
{%- endmacro %}
