{% macro quarantine_limits() %}
    {%- for name in staging_models() %}
        {%- if execute -%}
            {%- set node = staging_node(name) -%}
            {%- set source = source_of(node) -%}
            {%- set limits = limits_of(node) -%}
            {%- if not loop.first %}
union all
            {%- endif %}
select
    {{ sql_literal(source.source_name) }} as source,
    {{ sql_literal(source.name) }} as table_name,
    cast({{ limits.share }} as decimal(9, 6)) as most_share,
    cast({{ sql_literal(limits.rows) }} as bigint) as most_rows,
    cast({{ limits.refused }} as bigint) as most_refused
        {%- endif -%}
    {%- else -%}
        {{ no_rows({
            "source": "string", "table_name": "string", "most_share": "decimal(9, 6)", "most_rows": "bigint",
            "most_refused": "bigint",
        }) }}
    {%- endfor -%}
{% endmacro %}


{% macro limits_of(node) %}
    {%- set found = node.config.meta.get("staging", {}).get("limits", {}) -%}
    {%- set known = ["share", "rows", "refused"] -%}
    {%- if found is not mapping -%}
        {%- do staging_error(node, "meta.staging.limits", "is " ~ found, "a mapping such as {share: 0.05, rows: 1000}") -%}
    {%- endif -%}
    {%- for name, limit in found.items() -%}
        {%- set where = "meta.staging.limits." ~ name -%}
        {%- if name not in known -%}
            {%- do staging_error(node, where, "is not known", "one of " ~ known | join(", ")) -%}
        {%- elif limit is boolean or limit is not number or limit < 0 -%}
            {%- do staging_error(node, where, "is " ~ limit, "a number from 0") -%}
        {%- elif name == "share" and limit > 1 -%}
            {%- do staging_error(node, where, "is " ~ limit, "a share from 0 to 1, such as 0.05 for one row in twenty") -%}
        {%- elif name != "share" and limit is not integer -%}
            {%- do staging_error(node, where, "is " ~ limit, "a whole number") -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return({
        "share": found.get("share", var("quarantine_max_share")),
        "rows": found.get("rows"),
        "refused": found.get("refused", var("quarantine_max_refused_files")),
    }) }}
{% endmacro %}
