{% macro create_run_tables() %}
    {#- the runner fills them; dbt by itself finds them empty -#}
    {%- set moment = "timestamp" -%}
    {%- set tables = {
        "measures": "run_id string, measured_at " ~ moment ~ ", relation string, column_name string, measure string, "
            ~ "value double",
        "anomalies": "run_id string, anomaly string, relation string, column_name string, measure string, "
            ~ "series string, slot_at " ~ moment ~ ", value double, expected_low double, expected_high double, "
            ~ "severity string, is_new boolean, description string",
        "checks": "run_id string, node string, check_kind string, check_name string, test_type string, "
            ~ "relation string, status string, failures bigint",
        "veracity_history": "run_id string, measured_at " ~ moment ~ ", subject_kind string, subject string, "
            ~ "part string, score double",
    } -%}
create schema if not exists runs;
    {%- for name, columns in tables.items() %}
create table if not exists runs.{{ name }} ({{ columns }});
    {%- endfor %}
{% endmacro %}
