{% macro plan_staging(node, model_sql) %}
    {%- set meta = node.config.meta.get("staging", {}) -%}
    {%- set known = ["key", "version_order", "filters", "rules"] -%}
    {%- for name in meta if name not in known -%}
        {%- do staging_error(node, "meta.staging." ~ name, "is not known", "one of " ~ known | join(", ")) -%}
    {%- endfor -%}

    {%- set columns = get_columns_in_query(model_sql) | map("lower") | list -%}
    {%- for name in ["_file", "_row", "_load_id", "_deleted", "_record"] if name not in columns -%}
        {%- do staging_error(node, "the last select", "lacks " ~ name,
            "_file, _row, _load_id and _deleted passed through, and raw_record() as _record") -%}
    {%- endfor -%}
    {%- set clean_columns = [] -%}
    {%- for name in columns if not name.startswith("_") or name in ["_file", "_row"] -%}
        {%- do clean_columns.append(name) -%}
    {%- endfor -%}

    {%- set key = staging_columns(node, meta, "key", clean_columns) -%}
    {%- if not key -%}
        {%- do staging_error(node, "meta.staging.key", "is missing",
            "the list of columns that identify a row, such as [order_id]") -%}
    {%- endif -%}
    {%- set source = source_of(node) -%}

    {{ return({
        "name": node.name,
        "source": source.source_name,
        "table_name": source.name,
        "key": key,
        "version_order": staging_columns(node, meta, "version_order", columns),
        "clean_columns": clean_columns,
        "rules": collect_rules(node, key, clean_columns),
        "filters": collect_filters(node, meta),
        "set_aside": node.name ~ "__set_aside",
        "quarantine": this.incorporate(path={"schema": "quarantine", "identifier": node.name}),
        "outcomes": this.incorporate(path={"schema": "ledger_outcomes", "identifier": node.name}),
        "absent_keys": this.incorporate(path={"schema": "absent_keys", "identifier": node.name}),
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
