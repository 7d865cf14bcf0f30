{#- a part that yields no row any more would leave its former rows behind: nothing would replace them -#}
{% macro forget_touched(model_name, column) -%}
    {%- if execute and is_incremental() -%}
        {%- do refuse_unmarked(model_name) -%}
        {%- for input in plan_live(model).inputs if input.name == model_name %}
delete from {{ this }}
where
    {{ column }} in (
        select {{ column }}
        from {{ input.relation }}
        where {{ is_new(model_name) }}
    )
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
