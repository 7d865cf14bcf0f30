{% macro to_usd(amount, usd_per_unit) -%}
    {#- 19 digits make DuckDB multiply in 128 bits, and are the most that
        Spark multiplies by 18 digits without dropping decimals. -#}
    cast(
        round(
            cast({{ amount }} as decimal(19, 2))
            * cast({{ usd_per_unit }} as decimal(18, 8)),
            2
        ) as decimal(18, 2)
    )
{%- endmacro %}
