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


{% macro exact_percentile(column, share) -%}
    {%- if share is not number or not 0 <= share <= 1 -%}
        {{ exceptions.raise_compiler_error(
            "exact_percentile: the share is " ~ share ~ "; expected a number from 0 to 1, such as 0.95"
        ) }}
    {%- endif -%}
    {{- return(adapter.dispatch("exact_percentile")(column, share)) -}}
{%- endmacro %}


{% macro default__exact_percentile(column, share) -%}
    quantile_cont(cast({{ column }} as double), {{ share }})
{%- endmacro %}


{% macro spark__exact_percentile(column, share) -%}
    percentile(cast({{ column }} as double), {{ share }})
{%- endmacro %}


{#- the same number as `exact_percentile`, of values that are told with how often each was met -#}
{% macro percentile_of_counts(column, reached, total, share) -%}
    {%- if share is not number or not 0 <= share <= 1 -%}
        {{ exceptions.raise_compiler_error(
            "percentile_of_counts: the share is " ~ share ~ "; expected a number from 0 to 1, such as 0.95"
        ) }}
    {%- endif -%}
    {%- set place = "cast(" ~ share ~ " as double) * (" ~ total ~ " - 1)" -%}
    {%- set below -%}
        min(case when {{ reached }} > floor({{ place }}) then cast({{ column }} as double) end)
    {%- endset -%}
    {{ below }} + (
        min(case when {{ reached }} > ceil({{ place }}) then cast({{ column }} as double) end) - {{ below }}
    ) * max({{ place }} - floor({{ place }}))
{%- endmacro %}


{% macro share_pct(part, whole) -%}
    cast(round(100.0 * {{ part }} / nullif({{ whole }}, 0), 2) as decimal(5, 2))
{%- endmacro %}
