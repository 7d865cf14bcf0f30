{% test no_overlap(model, key, valid_from="valid_from", valid_to="valid_to") %}
    {%- if key is string or key is mapping or not key -%}
        {{ exceptions.raise_compiler_error(
            "no_overlap on " ~ model ~ ": key is " ~ key
            ~ "; expected the list of columns whose intervals must not overlap"
        ) }}
    {%- endif %}
with

intervals as (

    select
        {{ key | join(",\n        ") }},
        {{ valid_from }} as valid_from,
        {{ valid_to }} as valid_to,
        lead({{ valid_from }}) over (
            partition by {{ key | join(", ") }}
            order by {{ valid_from }}, {{ valid_to }} nulls last
        ) as next_valid_from
    from {{ model }}

)

-- half-open: an interval may start where the one before it ends
select *
from intervals
where
    valid_from is null
    or valid_to <= valid_from
    or next_valid_from < valid_to
    or (valid_to is null and next_valid_from is not null)
{% endtest %}
