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
    {%- set how = "anew" -%}
    {%- if existing_relation is not none and existing_relation.is_table and not should_full_refresh() -%}
        {%- if not plan.events -%}
            {%- set how = how_to_stage(plan, target_relation) -%}
        {%- elif is_continued(plan) -%}
            {%- set how = "grown" -%}
        {%- endif -%}
    {%- endif -%}
    {%- set is_alone = how != "grown" and not plan.events and sees_rows_alone(plan, sql) -%}
    {%- call statement("main") -%}
        {%- if how != "grown" -%}
            {{ replace_all_loads(plan, sql, target_relation, how, is_alone) }}
        {%- elif plan.events -%}
            {{ add_new_loads(plan, sql, target_relation) }}
        {%- else -%}
            {{ add_touched_keys(plan, sql, target_relation) }}
        {%- endif -%}
    {%- endcall %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do apply_grants(target_relation, grant_config, should_revoke=False) -%}
    {%- do persist_docs(target_relation, model) -%}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}


{% macro replace_all_loads(plan, model_sql, target_relation, how, is_alone) -%}
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

{{ note_staged_loads(plan, is_rebuilt=true) }}
{%- else %}

create or replace table {{ plan.growth.kept_aside }} as
{{ select_kept_aside(plan) }};

{{ note_changes(plan, target_relation, how, is_alone) }}
{%- endif %}
{%- if how == "compared" %}

drop table {{ plan.growth.differing }};
{%- endif %}

drop table {{ plan.judged }};
drop table {{ plan.repeated }};
drop table {{ plan.set_aside }};
{%- endmacro %}
