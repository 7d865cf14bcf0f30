{% macro staging_models() %}
    {#- dbt has to see each ref() while it parses, when the graph is still unknown -#}
    {%- set names = [
        "stg_card_payments__chargebacks",
        "stg_card_payments__transactions",
        "stg_device_registry__devices",
        "stg_devices__measurements",
        "stg_devices__statuses",
        "stg_distributor__orders",
        "stg_distributor__products",
        "stg_distributor__retailers",
        "stg_distributor__returns",
        "stg_documents__calls",
        "stg_documents__mails",
        "stg_documents__records",
        "stg_erp__credit_notes",
        "stg_erp__customers",
        "stg_erp__materials",
        "stg_erp__order_lines",
        "stg_erp__orders",
        "stg_game__purchases",
        "stg_game__server_metrics",
        "stg_game__session_events",
        "stg_helpdesk__comments",
        "stg_helpdesk__satisfaction_ratings",
        "stg_helpdesk__tickets",
        "stg_helpdesk__users",
        "stg_marketplace__buyers",
        "stg_marketplace__listings",
        "stg_marketplace__orders",
        "stg_marketplace__refunds",
        "stg_pixelco__accounts",
        "stg_pixelco__cases",
        "stg_reference__countries",
        "stg_reference__currencies",
        "stg_reference__fx_rates",
        "stg_reference__holidays",
        "stg_reference__sales_regions",
        "stg_shop__addresses",
        "stg_shop__customers",
        "stg_shop__order_items",
        "stg_shop__orders",
        "stg_shop__payments",
        "stg_shop__products",
        "stg_shop__refunds",
        "stg_web__events",
    ] -%}
    {%- if not execute -%}
        {%- for name in names -%}
            {%- do ref(name) -%}
        {%- endfor -%}
    {%- else -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == "model" and node.config.materialized == "staging" and node.name not in names -%}
            {{ exceptions.raise_compiler_error(
                "staging_models: " ~ node.name ~ " is not listed; its rows would be missing from the books. Add it in "
                ~ "macros/ledger/staging_models.sql."
            ) }}
        {%- endfor -%}
    {%- endif -%}
    {{ return(names) }}
{% endmacro %}


{% macro is_staged() %}
    {#- the graph is asked, not ref(): which models there are matters, not what they hold -#}
    {%- set tables = [] -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == "model" and node.config.materialized == "staging" -%}
            {%- set table = source_of(node) -%}
            {%- do tables.append("'" ~ table.source_name ~ "." ~ table.name ~ "'") -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set listed = tables | unique | sort | join(", ") -%}
    {{ return("source || '.' || table_name in (" ~ listed ~ ")" if tables else "1 = 0") }}
{% endmacro %}


{% macro union_staging_side_tables(schema) %}
    {%- for name in staging_models() %}
select * from {{ this.incorporate(path={"schema": schema, "identifier": name}) }}
        {%- if not loop.last %}
union all
        {%- endif -%}
    {%- else -%}
        {{ no_rows({
            "source": "string", "table_name": "string", "model": "string", "record_key": "string", "reasons": "string",
            "raw_record": "string", "outcome": "string", "name": "string", "row_count": "bigint",
            "absent_key_count": "bigint", "defect": "string", "column_name": "string", "rule": "string", "treatment": "string",
            "_file": "string", "_row": "bigint", "_load_id": "string",
        }) }}
    {%- endfor -%}
{% endmacro %}


{% macro count_raw_rows() %}
    {%- if execute -%}
        {%- set staged_tables = [] -%}
        {%- for name in staging_models() -%}
            {%- do staged_tables.append(source_of(staging_node(name))) -%}
        {%- endfor -%}
        {%- for table in staged_tables %}
select
    '{{ table.source_name }}' as source,
    '{{ table.name }}' as table_name,
    _file,
    count(*) as raw_rows
from {{ table.relation_name }}
group by _file
            {%- if not loop.last %}
union all
            {%- endif -%}
        {%- else -%}
            {{ no_rows({"source": "string", "table_name": "string", "_file": "string", "raw_rows": "bigint"}) }}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{% macro count_kept_rows() %}
    {%- for name in staging_models() %}
        {%- set kept = {
            "staged": ref(name) if execute,
            "quarantined": this.incorporate(path={"schema": "quarantine", "identifier": name}),
            "rejected": this.incorporate(path={"schema": "rejected", "identifier": name}),
        } -%}
        {%- for outcome, relation in kept.items() %}
select
    '{{ name }}' as model,
    '{{ outcome }}' as kept_as,
    _file,
    count(*) as kept_rows
from {{ relation }}
group by _file
union all
        {%- endfor %}
select
    '{{ name }}' as model,
    'absent_key' as kept_as,
    cast(null as string) as _file,
    count(*) as kept_rows
from {{ this.incorporate(path={"schema": "absent_keys", "identifier": name}) }}
        {%- if not loop.last %}
union all
        {%- endif -%}
    {%- else -%}
        {{ no_rows({"model": "string", "kept_as": "string", "_file": "string", "kept_rows": "bigint"}) }}
    {%- endfor -%}
{% endmacro %}
