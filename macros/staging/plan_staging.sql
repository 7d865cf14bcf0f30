{% macro plan_staging(node, model_sql) %}
    {%- set meta = node.config.meta.get("staging", {}) -%}
    {%- set known = [
        "key", "version_order", "filters", "rules", "history", "limits", "events", "event_time", "drop_after",
        "repeats_within", "delivery",
    ] -%}
    {%- for name in meta if name not in known -%}
        {%- do staging_error(node, "meta.staging." ~ name, "is not known", "one of " ~ known | join(", ")) -%}
    {%- endfor -%}

    {%- do limits_of(node) -%}

    {%- set columns = get_columns_in_query(model_sql) | map("lower") | list -%}
    {%- for name in ["_file", "_row", "_load_id", "_deleted", "_record"] if name not in columns -%}
        {%- do staging_error(node, "the last select", "lacks " ~ name,
            "_file, _row, _load_id and _deleted passed through, and raw_record() as _record") -%}
    {%- endfor -%}
    {%- set clean_columns = [] -%}
    {%- set passed_on = ["_file", "_row", "_load_id"] if meta.get("events") is true else ["_file", "_row"] -%}
    {%- for name in columns if not name.startswith("_") or name in passed_on -%}
        {%- do clean_columns.append(name) -%}
    {%- endfor -%}

    {%- set key = staging_columns(node, meta, "key", clean_columns) -%}
    {%- if not key -%}
        {%- do staging_error(node, "meta.staging.key", "is missing",
            "the list of columns that identify a row, such as [order_id]") -%}
    {%- endif -%}
    {%- set source = source_of(node) -%}
    {%- set version_order = staging_columns(node, meta, "version_order", columns) -%}
    {%- set rules = collect_rules(node, key, clean_columns) -%}
    {%- set events = plan_events(node, meta, clean_columns, rules) -%}
    {%- set delivery = ["_file", "_row", "_load_id"] + (events.delivery if events else []) -%}
    {%- set content_columns = clean_columns | reject("in", delivery) | list -%}

    {{ return({
        "name": node.name,
        "source": source.source_name,
        "table_name": source.name,
        "key": key,
        "version_order": version_order,
        "clean_columns": clean_columns,
        "content_columns": content_columns,
        "rules": rules,
        "events": events,
        "filters": collect_filters(node, meta),
        "history": plan_history(node, meta, clean_columns, version_order, columns),
        "raw": source,
        "marks": this.incorporate(path={"schema": "marks", "identifier": node.name}),
        "judged": node.name ~ "__judged",
        "repeated": node.name ~ "__repeated",
        "set_aside": node.name ~ "__set_aside",
        "quarantine": this.incorporate(path={"schema": "quarantine", "identifier": node.name}),
        "outcomes": this.incorporate(path={"schema": "ledger_outcomes", "identifier": node.name}),
        "absent_keys": this.incorporate(path={"schema": "absent_keys", "identifier": node.name}),
        "findings": this.incorporate(path={"schema": "findings", "identifier": node.name}),
        "rejected": this.incorporate(path={"schema": "rejected", "identifier": node.name}),
        "growth": none if events else plan_growth(node, rules),
    }) }}
{% endmacro %}


{% macro plan_history(node, meta, clean_columns, version_order, columns) %}
    {%- set where = "meta.staging.history" -%}
    {%- set declared = meta.get("history") -%}
    {%- if declared is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set expected = "true, or {valid_from: column, born: column}, both optional" -%}
    {%- if declared is not true and declared is not mapping -%}
        {%- do staging_error(node, where, "is " ~ declared, expected) -%}
    {%- endif -%}
    {%- set declared = {} if declared is true else declared -%}
    {%- for name, column in declared.items() -%}
        {%- if name not in ["valid_from", "born"] -%}
            {%- do staging_error(node, where, "holds " ~ name, expected) -%}
        {%- elif name == "valid_from" and column == "_committed_at" and column in columns -%}
            {#- of a change log: it dates deletions as well -#}
        {%- elif column not in clean_columns -%}
            {%- do staging_error(node, where ~ "." ~ name, "names " ~ column,
                "one of the model's columns " ~ clean_columns | join(", ")) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set own_times = version_order + declared.values() | list + ["_file", "_row"] -%}
    {{ return({
        "valid_from": declared.get("valid_from"),
        "is_logged": declared.get("valid_from") == "_committed_at",
        "born": declared.get("born"),
        "columns": clean_columns | reject("in", own_times) | list,
        "relation": this.incorporate(path={"schema": "history", "identifier": node.name}),
    }) }}
{% endmacro %}


{% macro staging_columns(node, meta, name, allowed) %}
    {%- set found = meta.get(name, []) -%}
    {%- if found is string or found is mapping or found is not iterable -%}
        {%- do staging_error(node, "meta.staging." ~ name, "is " ~ found, "a list of columns") -%}
    {%- endif -%}
    {%- for column in found if column not in allowed -%}
        {%- do staging_error(node, "meta.staging." ~ name, "names " ~ column,
            "one of the model's columns " ~ allowed | join(", ")) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{% macro source_of(node) %}
    {%- set found = [] -%}
    {%- for unique_id in node.depends_on.nodes if unique_id.startswith("source.") -%}
        {%- do found.append(unique_id) -%}
    {%- endfor -%}
    {%- if found | length != 1 -%}
        {%- do staging_error(node, "the model", "reads " ~ found | length ~ " sources",
            "exactly one source(): a staging model cleans one loaded table") -%}
    {%- endif -%}
    {{ return(graph.sources[found[0]]) }}
{% endmacro %}


{% macro staging_node(name) %}
    {%- for node in graph.nodes.values()
        if node.name == name and node.resource_type == "model" and node.config.materialized == "staging" -%}
        {{ return(node) }}
    {%- endfor -%}
    {{ return(none) }}
{% endmacro %}


{% macro staging_error(node, where, found, expected) %}
    {%- set file = (node.patch_path or node.original_file_path).split("://")[-1] -%}
    {{ exceptions.raise_compiler_error(
        node.name ~ ": " ~ where ~ " " ~ found ~ "; expected " ~ expected ~ ". Mend it in " ~ file ~ "."
    ) }}
{% endmacro %}
