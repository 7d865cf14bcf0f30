{% macro create_staging_schemas() %}
    {%- for schema in ["quarantine", "filtered", "ledger_outcomes"] -%}
        create schema if not exists {{ schema }};
    {% endfor -%}
{% endmacro %}
