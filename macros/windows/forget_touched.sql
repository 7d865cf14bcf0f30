{#- a part that yields no row any more would leave its former rows behind: nothing would replace them -#}
{% macro forget_touched(model_name, column) -%}
    {%- if execute and is_incremental() -%}
delete from {{ this }}
where
    {{ column }} in (
        select {{ column }}
        from {{ ref(model_name) }}
        where {{ is_new(model_name) }}
    )
    {%- endif -%}
{%- endmacro %}
