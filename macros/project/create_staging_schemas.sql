{% macro create_staging_schemas() %}
    {%- for schema in ["quarantine", "absent_keys", "ledger_outcomes"] -%}
        create schema if not exists {{ schema }};
    {% endfor -%}
{% endmacro %}
