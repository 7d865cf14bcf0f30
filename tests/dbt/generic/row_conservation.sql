{% test row_conservation(model, to, key, where="true", to_where="true") %}
    {%- if key is string or key is mapping or not key -%}
        {{ exceptions.raise_compiler_error(
            "row_conservation on " ~ model ~ ": key is " ~ key
            ~ "; expected the list of columns that identify a row in both relations"
        ) }}
    {%- endif %}
with

here as (

    select
        {{ key | join(",\n        ") }},
        count(*) as row_count
    from {{ model }}
    where {{ where }}
    group by {{ key | join(", ") }}

),

there as (

    select
        {{ key | join(",\n        ") }},
        count(*) as row_count
    from {{ to }}
    where {{ to_where }}
    group by {{ key | join(", ") }}

)

-- a row that is lost, doubled or made up on the way
select
    {%- for column in key %}
    coalesce(here.{{ column }}, there.{{ column }}) as {{ column }},
    {%- endfor %}
    coalesce(here.row_count, 0) as rows_here,
    coalesce(there.row_count, 0) as rows_there
from here
full outer join there
    on
        {%- for column in key %}
        {{ "and " if not loop.first }}here.{{ column }} = there.{{ column }}
        {%- endfor %}
where coalesce(here.row_count, 0) <> coalesce(there.row_count, 0)
{% endtest %}
