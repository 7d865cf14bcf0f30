{% macro surrogate_key(columns) -%}
    {%- if columns is string or not columns -%}
        {{ exceptions.raise_compiler_error(
            "surrogate_key: columns is " ~ columns ~ "; expected a list of column names"
        ) }}
    {%- endif -%}
    {#- a separator that no text holds: (a|b, c) and (a, b|c) differ -#}
    md5(concat_ws(chr(31)
    {%- for column in columns -%}
        , coalesce(cast({{ column }} as string), '_null_')
    {%- endfor -%}
    ))
{%- endmacro %}
