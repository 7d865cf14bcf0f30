{#- in place of dbt's own: a live model made by other code has other columns, or other rows, than adding to it expects -#}
{% macro should_full_refresh() %}
    {%- set wanted = config.get("full_refresh") -%}
    {%- if wanted is none -%}
        {%- set wanted = flags.FULL_REFRESH or (execute and is_made_by_other_code(model)) -%}
    {%- endif -%}
    {{ return(wanted) }}
{% endmacro %}


{% macro is_made_by_other_code(node) %}
    {%- if node.resource_type != "model" or node.config.materialized != "incremental" -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set plan = plan_live(node) -%}
    {%- if not plan.inputs or load_cached_relation(this) is none -%}
        {{ return(false) }}
    {%- endif -%}
    {%- if not asked(count_places([plan.marks])) -%}
        {{ return(true) }}
    {%- endif -%}
    {{ return(asked("select count(*) = 0 as is_other from " ~ plan.marks ~ " where code = '" ~ plan.code ~ "'")) }}
{% endmacro %}
