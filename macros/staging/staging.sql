{% materialization staging, adapter="duckdb" %}
    {%- set target_relation = this.incorporate(type="table") -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set grant_config = config.get("grants") -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set plan = plan_staging(model, sql) -%}
    {%- if config.get("contract").enforced -%}
        {%- do get_assert_columns_equivalent(select_clean_columns(plan, sql)) -%}
    {%- endif -%}
    {%- if existing_relation is not none and not existing_relation.is_table -%}
        {%- do adapter.drop_relation(existing_relation) -%}
    {%- endif -%}

    {#- one transaction: all relations are replaced or added to, or none is -#}
    {%- set is_there = existing_relation is not none and existing_relation.is_table and not should_full_refresh() -%}
    {%- set ways = ways_to_stage(plan, target_relation) -%}
    {%- set way = fitting_way(ways) if is_there else {"how": "anew", "when": none} -%}
    {#- without it all is staged anew -#}
    {%- set has_ledger = way.how != "anew" or asked(count_places([ledger_of_files()])) -%}
    {#- what has grown does so -#}
    {%- set is_alone = not plan.events and (way.how == "grown" or sees_rows_alone(plan, sql)) -%}
    {%- call statement("main") -%}
        {{ stage(plan, sql, target_relation, way.how, is_alone, has_ledger) }}
    {%- endcall %}
    {%- for other in ways if other.when != way.when -%}
        {%- set more = [[count_places([ledger_of_files()]), true]] if other.how == "anew" else [] -%}
        {%- do rehearse(other.when + more, stage(plan, sql, target_relation, other.how, is_alone, true)) -%}
    {%- endfor -%}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do apply_grants(target_relation, grant_config, should_revoke=False) -%}
    {%- do persist_docs(target_relation, model) -%}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}


{#- each with the answers under which it is gone -#}
{% macro ways_to_stage(plan, target_relation) %}
    {%- set found = [] -%}
    {%- set there = select_is_there(plan, target_relation) -%}
    {%- set grown = select_is_continued(plan) if plan.events else select_is_grown(plan, target_relation) -%}
    {%- do found.append({"how": "anew", "when": [[there, false]]}) -%}
    {%- do found.append({"how": "grown", "when": [[there, true], [grown, true]]}) -%}
    {%- if plan.events -%}
        {%- do found.append({"how": "anew", "when": [[there, true], [grown, false]]}) -%}
    {%- else -%}
        {%- set same = "select count(*) = 1 as is_same from " ~ plan.marks ~ " as marks where " ~ is_same_code(plan) -%}
        {%- for how, is_same in {"compared": true, "anew": false}.items() -%}
            {%- do found.append({"how": how, "when": [[there, true], [grown, false], [same, is_same]]}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}


{#- grown: only keys that something new touches are judged; compared: all are, and what differs is noted; anew: all are -#}
{% macro stage(plan, model_sql, target_relation, how, is_alone, has_ledger) -%}
    {%- if how != "grown" -%}
        {{ replace_all_loads(plan, model_sql, target_relation, how, is_alone, has_ledger) }}
    {%- elif plan.events -%}
        {{ add_new_loads(plan, model_sql, target_relation) }}
    {%- else -%}
        {{ add_touched_keys(plan, model_sql, target_relation) }}
    {%- endif -%}
{%- endmacro %}


{% macro replace_all_loads(plan, model_sql, target_relation, how, is_alone, has_ledger) -%}
create or replace temporary table {{ plan.judged }} as
{{ judge_rows(plan, model_sql) }};

create or replace temporary table {{ plan.repeated }} as
{{ select_repeated_rows(plan) }};

create or replace temporary table {{ plan.set_aside }} as
{{ select_set_aside(plan) }};

{%- if how == "compared" %}

create or replace temporary table {{ plan.growth.differing }} as
{{ select_differing_rows(plan, target_relation) }};
{%- endif %}

create or replace table {{ target_relation }} as
{{ select_staged_rows(plan) }};

create or replace table {{ plan.quarantine }} as
{{ select_quarantined_rows(plan) }};

create or replace table {{ plan.rejected }} as
{{ select_rejected_rows(plan) }};

create or replace table {{ plan.absent_keys }} as
{{ select_absent_keys(plan) }};

create or replace table {{ plan.outcomes }} as
{{ count_outcomes(plan) }};

create or replace table {{ plan.findings }} as
{{ select_findings(plan) }};

{%- if plan.history %}

create or replace table {{ plan.history.relation }} as
{{ select_history(plan) }};
{%- endif %}

{%- if plan.events %}

{{ note_staged_loads(plan, is_rebuilt=true, has_ledger=has_ledger) }}
{%- else %}

create or replace table {{ plan.growth.kept_aside }} as
{{ select_kept_aside(plan) }};

{{ note_changes(plan, target_relation, how, is_alone, has_ledger) }}
{%- endif %}
{%- if how == "compared" %}

drop table {{ plan.growth.differing }};
{%- endif %}

drop table {{ plan.judged }};
drop table {{ plan.repeated }};
drop table {{ plan.set_aside }};
{%- endmacro %}
