{% test expression_is_true(model, expression, column_name=none, where="true") %}
    {%- if expression is not string or not expression | trim -%}
        {{ exceptions.raise_compiler_error(
            "expression_is_true on " ~ model ~ ": expression is " ~ expression
            ~ "; expected a condition that holds for every row"
        ) }}
    {%- endif %}
select *
from {{ model }}
where
    ({{ where }})
    and not coalesce({{ expression }}, false)
{% endtest %}
