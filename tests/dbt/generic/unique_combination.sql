{% test unique_combination(model, columns) %}
    {%- if columns is string or columns is mapping or columns | length < 2 -%}
        {{ exceptions.raise_compiler_error(
            "unique_combination on " ~ model ~ ": columns is " ~ columns
            ~ "; expected a list of two columns or more (unique does for one)"
        ) }}
    {%- endif %}
select
    {{ columns | join(",\n    ") }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(", ") }}
having count(*) > 1
{% endtest %}
