{% macro decimal_comma(column, precision=14, scale=2) -%}
    {#- checked first: without it 12.50, which is mistyped, would read as 1250 -#}
    case
        when {{ matches("trim(" ~ column ~ ")", "^[-+]?(\\d+|\\d{1,3}(\\.\\d{3})+)(,\\d+)?$") }}
            then try_cast(
                replace(replace(trim({{ column }}), '.', ''), ',', '.')
                as decimal({{ precision }}, {{ scale }})
            )
    end
{%- endmacro %}


{% macro whole_number(column, type="integer") -%}
    {#- checked first: engines round or cut 2.5 in silence -#}
    case
        when {{ matches("trim(" ~ column ~ ")", "^[-+]?\\d+$") }}
            then try_cast({{ column }} as {{ type }})
    end
{%- endmacro %}
