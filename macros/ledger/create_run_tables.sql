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
        "past_runs": "run_id string, run_number bigint, command string, selection string, status string, "
            ~ "exit_code bigint, message string, started_at " ~ moment ~ ", finished_at " ~ moment ~ ", "
            ~ "logical_date string, resumed_run_id string, git_revision string, "
            ~ "settings_hash string, user_name string, host_name string, started_by string, "
            ~ "landed_row_count bigint, landed_bytes bigint, loaded_row_count bigint, "
            ~ "loaded_bytes bigint, peak_memory_bytes bigint",
        "past_steps": "run_id string, step_number bigint, step string, status string, "
            ~ "started_at " ~ moment ~ ", duration_seconds double, attempt_count bigint, "
            ~ "row_count bigint, size_bytes bigint, peak_memory_bytes bigint, message string",
        "past_test_results": "run_id string, test_name string, status string, failure_count bigint, "
            ~ "duration_seconds double, message string, tested_at " ~ moment ~ "",
        "past_versions": "version string, run_id string, sealed_at " ~ moment ~ ", published_at " ~ moment ~ ", "
            ~ "removed_at " ~ moment ~ ", table_count bigint, row_count bigint, size_bytes bigint, "
            ~ "git_revision string",
    } -%}
create schema if not exists runs;
    {%- for name, columns in tables.items() %}
create table if not exists runs.{{ name }} ({{ columns }});
    {%- endfor %}
{% endmacro %}
