{#- a part that yields no row any more would leave its former rows behind: nothing would replace them -#}
{% macro forget_touched(model_name, column) -%}
    {#- outside the condition, so that dbt sees it while it parses -#}
    {%- set touching = ref(model_name) -%}
    {%- if execute and is_incremental() -%}
delete from {{ this }}
where
    {{ column }} in (
        select {{ column }}
        from {{ touching }}
        where {{ is_new(model_name) }}
    )
    {%- endif -%}
{%- endmacro %}
