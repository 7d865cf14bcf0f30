{% macro json_text(column, path) -%}
    {%- if not modules.re.fullmatch("[A-Za-z_@#][A-Za-z0-9_@#]*(\\[[0-9]+\\])?(\\.[A-Za-z_@#][A-Za-z0-9_@#]*(\\[[0-9]+\\])?)*", path) -%}
        {{ exceptions.raise_compiler_error(
            "json_text: the path is " ~ path ~ "; expected keys joined by dots, such as via.channel"
        ) }}
    {%- endif -%}
    {{- return(adapter.dispatch("json_text")(column, path)) -}}
{%- endmacro %}


{% macro default__json_text(column, path) -%}
    {#- text that is no JSON gives null, as in Spark, not an error -#}
    json_extract_string(
        case when json_valid({{ column }}) then {{ column }} end,
        '$.{{ path }}'
    )
{%- endmacro %}


{% macro spark__json_text(column, path) -%}
    get_json_object({{ column }}, '$.{{ path }}')
{%- endmacro %}


{% macro explode_json(cte, column, keep) -%}
    {{- return(adapter.dispatch("explode_json")(cte, column, keep)) -}}
{%- endmacro %}


{% macro default__explode_json(cte, column, keep) -%}
    select
        {{ keep | join(", ") }},
        generate_subscripts(elements, 1) as position,
        cast(unnest(elements) as string) as element
    from (
        select
            {{ keep | join(", ") }},
            from_json(
                case when json_valid({{ column }}) and json_type({{ column }}) = 'ARRAY' then {{ column }} end,
                '["json"]'
            ) as elements
        from {{ cte }}
    ) as listed
{%- endmacro %}


{% macro spark__explode_json(cte, column, keep) -%}
    select
        {{ keep | join(", ") }},
        exploded.index + 1 as position,
        exploded.element
    from {{ cte }}
    lateral view posexplode(
        from_json({{ column }}, 'array<string>')
    ) exploded as index, element
{%- endmacro %}


{% macro explode_structs(cte, column, keep) -%}
    {{- return(adapter.dispatch("explode_structs")(cte, column, keep)) -}}
{%- endmacro %}


{% macro default__explode_structs(cte, column, keep) -%}
    select
        {{ keep | join(", ") }},
        generate_subscripts({{ column }}, 1) as position,
        unnest({{ column }}) as element
    from {{ cte }}
{%- endmacro %}


{% macro spark__explode_structs(cte, column, keep) -%}
    select
        {{ keep | join(", ") }},
        exploded.index + 1 as position,
        exploded.element
    from {{ cte }}
    lateral view posexplode({{ column }}) exploded as index, element
{%- endmacro %}


{% macro json_structs(column, fields) -%}
    {{- return(adapter.dispatch("json_structs")(column, fields)) -}}
{%- endmacro %}


{% macro default__json_structs(column, fields) -%}
    {%- set shape = {} -%}
    {%- for field in fields -%}
        {%- do shape.update({field: "varchar"}) -%}
    {%- endfor -%}
    from_json(
        case when json_valid({{ column }}) then {{ column }} end,
        '{{ tojson([shape]) }}'
    )
{%- endmacro %}


{% macro spark__json_structs(column, fields) -%}
    from_json(
        {{ column }},
        'array<struct<{{ fields | join(": string, ") }}: string>>'
    )
{%- endmacro %}


{% macro json_lookup(column, key_field, key, value_field) -%}
    {{- return(adapter.dispatch("json_lookup")(column, key_field, key, value_field)) -}}
{%- endmacro %}


{% macro default__json_lookup(column, key_field, key, value_field) -%}
    list_filter(
        {{ json_structs(column, [key_field, value_field]) }},
        lambda entry: entry.{{ key_field }} = {{ sql_literal(key | string) }}
    )[1].{{ value_field }}
{%- endmacro %}


{% macro spark__json_lookup(column, key_field, key, value_field) -%}
    filter(
        {{ json_structs(column, [key_field, value_field]) }},
        entry -> entry.{{ key_field }} = {{ sql_literal(key | string) }}
    )[0].{{ value_field }}
{%- endmacro %}


{% macro every_element(column, condition) -%}
    {{- return(adapter.dispatch("every_element")(column, condition)) -}}
{%- endmacro %}


{% macro default__every_element(column, condition) -%}
    coalesce(list_bool_and(
        list_transform({{ column }}, lambda element: coalesce({{ condition }}, false))
    ), true)
{%- endmacro %}


{% macro spark__every_element(column, condition) -%}
    coalesce(forall({{ column }}, element -> coalesce({{ condition }}, false)), true)
{%- endmacro %}


{% macro sum_of_elements(column, amount) -%}
    {{- return(adapter.dispatch("sum_of_elements")(column, amount)) -}}
{%- endmacro %}


{% macro default__sum_of_elements(column, amount) -%}
    coalesce(list_sum(list_transform({{ column }}, lambda element: {{ amount }})), 0)
{%- endmacro %}


{% macro spark__sum_of_elements(column, amount) -%}
    aggregate({{ column }}, cast(0 as decimal(38, 6)), (total, element) -> total + {{ amount }})
{%- endmacro %}
