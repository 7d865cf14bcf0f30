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


{% macro exact_decimal(column, precision, scale, decimal_mark=".", thousands_mark="", unit="") -%}
    {%- set value = "trim(" ~ column ~ ")" -%}
    {%- if unit -%}
        {%- set value = "trim(replace(" ~ value ~ ", " ~ sql_literal(unit) ~ ", ''))" -%}
    {%- endif -%}
    {%- set whole = "\\d+" -%}
    {%- if thousands_mark -%}
        {%- set whole = "(\\d+|\\d{1,3}([" ~ thousands_mark ~ "]\\d{3})+)" -%}
    {%- endif -%}
    {%- set fraction = "([" ~ decimal_mark ~ "]\\d{1," ~ scale ~ "})" if scale else "" -%}
    {%- set pattern = "^[-+]?(" ~ whole ~ fraction ~ ("?|" ~ fraction if scale else "") ~ ")$" -%}
    {%- set bare = value -%}
    {%- if thousands_mark -%}
        {%- set bare = "replace(" ~ bare ~ ", " ~ sql_literal(thousands_mark) ~ ", '')" -%}
    {%- endif -%}
    {%- if decimal_mark != "." -%}
        {%- set bare = "replace(" ~ bare ~ ", " ~ sql_literal(decimal_mark) ~ ", '.')" -%}
    {%- endif -%}
    {#- checked first: a cast would round away digits beyond the scale in silence -#}
    case
        when {{ matches(value, pattern) }}
            then try_cast({{ bare }} as decimal({{ precision }}, {{ scale }}))
    end
{%- endmacro %}


{% macro boolean_of(column, trues, falses) -%}
    {%- for words in [trues, falses] if words is string or words is mapping or words is not iterable -%}
        {{ exceptions.raise_compiler_error(
            "boolean_of: trues and falses are lists of words in lower case; found " ~ words
        ) }}
    {%- endfor -%}
    {%- if not trues and not falses -%}
        {{ exceptions.raise_compiler_error("boolean_of: no word is given for either") }}
    {%- endif -%}
    case
    {%- for words, answer in [(trues, "true"), (falses, "false")] if words %}
        {%- set listed = [] -%}
        {%- for word in words -%}
            {%- do listed.append(sql_literal(word | string)) -%}
        {%- endfor %}
        when lower(trim({{ column }})) in ({{ listed | join(", ") }}) then {{ answer }}
    {%- endfor %}
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
