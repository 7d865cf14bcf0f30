{% macro family_name_of(full_name) -%}
    nullif(trim(
        case
            when {{ full_name }} like '%,%'
                then split_part({{ full_name }}, ',', 1)
            else split_part(trim({{ full_name }}), ' ', -1)
        end
    ), '')
{%- endmacro %}


{% macro given_name_of(full_name) -%}
    nullif(trim(
        case
            when {{ full_name }} like '%,%'
                then split_part({{ full_name }}, ',', 2)
            else left(
                trim({{ full_name }}),
                length(trim({{ full_name }}))
                - length(split_part(trim({{ full_name }}), ' ', -1))
            )
        end
    ), '')
{%- endmacro %}
