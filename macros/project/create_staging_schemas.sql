{% macro create_staging_schemas() %}
    {%- for schema in ["quarantine", "absent_keys", "rejected", "ledger_outcomes", "findings", "history", "marks", "set_aside", "changes"] -%}
        create schema if not exists {{ schema }};
    {% endfor -%}
{% endmacro %}
