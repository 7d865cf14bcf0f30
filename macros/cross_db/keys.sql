{% macro surrogate_key(columns) -%}
    {%- if columns is string or not columns -%}
        {{ exceptions.raise_compiler_error(
            "surrogate_key: columns is " ~ columns ~ "; expected a list of column names"
        ) }}
    {%- endif -%}
    md5(concat_ws('|'
    {%- for column in columns -%}
        , coalesce(cast({{ column }} as string), '_null_')
    {%- endfor -%}
    ))
{%- endmacro %}
