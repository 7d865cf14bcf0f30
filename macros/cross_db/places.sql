{% macro kilometres_between(latitude, longitude, other_latitude, other_longitude) -%}
    {#- the great circle of a sphere of 6,371 km; rounding may leave opposite points just above 1 -#}
    case
        when
            {{ latitude }} is not null and {{ longitude }} is not null
            and {{ other_latitude }} is not null and {{ other_longitude }} is not null
            then 2 * 6371 * asin(sqrt(least(
                1.0,
                power(sin(radians({{ other_latitude }} - {{ latitude }}) / 2), 2)
                + cos(radians({{ latitude }}))
                * cos(radians({{ other_latitude }}))
                * power(sin(radians({{ other_longitude }} - {{ longitude }}) / 2), 2)
            )))
    end
{%- endmacro %}
