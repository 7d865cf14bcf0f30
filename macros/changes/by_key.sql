{% materialization by_key, adapter="duckdb" %}
    {%- set target_relation = this.incorporate(type="table") -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set grant_config = config.get("grants") -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set plan = plan_by_key(model, sql) -%}
    {%- if config.get("contract").enforced -%}
        {%- do get_assert_columns_equivalent(sql) -%}
    {%- endif -%}
    {%- set is_there = existing_relation is not none and existing_relation.is_table and not should_full_refresh() -%}
    {%- if existing_relation is not none and not existing_relation.is_table -%}
        {%- do adapter.drop_relation(existing_relation) -%}
    {%- endif -%}
    {%- set ways = ways_to_make(plan) -%}
    {%- set way = fitting_way(ways) if is_there else {"how": "anew", "when": none} -%}

    {#- one transaction: the table and the account of its changes -#}
    {%- call statement("main") -%}
        {{ make_by_key(plan, sql, target_relation, way.how) }}
    {%- endcall %}
    {%- for other in ways if other.when != way.when -%}
        {%- do rehearse(other.when, make_by_key(plan, sql, target_relation, other.how)) -%}
    {%- endfor -%}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do apply_grants(target_relation, grant_config, should_revoke=False) -%}
    {%- do persist_docs(target_relation, model) -%}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}


{#- true wherever the whole table is made; where it grows, this is put in its place -#}
{% macro in_touched(columns) -%}
    true /* touched: {{ columns if columns is string else columns | join(", ") }} */
{%- endmacro %}


{% macro plan_by_key(node, model_sql) %}
    {%- set declared = node.config.meta.get("touched_by", {}) -%}
    {%- set identity = [node.config.unique_key] if node.config.unique_key is string else node.config.unique_key -%}
    {%- set key = node.config.meta.get("touched_key") or identity -%}
    {%- set key = [key] if key is string else key -%}
    {%- if not identity or declared is not mapping -%}
        {%- do by_key_error(node, "unique_key or meta.touched_by", "is missing or is no mapping",
            "unique_key: the columns that identify a row, and touched_by: {model: what it touches}") -%}
    {%- endif -%}
    {%- set logged = {} -%}
    {%- set hashed = {} -%}
    {%- for unique_id in node.depends_on.nodes if declared and unique_id in graph.nodes -%}
        {%- set input = graph.nodes[unique_id] -%}
        {%- set relation = this.incorporate(path={"schema": input.schema, "identifier": input.alias}) -%}
        {%- if input.name not in declared -%}
            {%- do hashed.update({input.name: select_content_hash(relation)}) -%}
        {%- elif keeps_changes(input) -%}
            {%- do logged.update({input.name: input_with_changes(input, relation)}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for name, touches in declared.items() -%}
        {%- if name not in logged or (touches is mapping and touches.get("via") not in logged) -%}
            {%- do by_key_error(node, "meta.touched_by", "names " ~ name ~ ": " ~ touches,
                "models that this one reads and that keep an account of their changes (staging of keys, or by_key), each "
                ~ "with the key's expressions, or {via: such a model, on: a column of both, or {its column: the changed one's}}") -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if modules.re.search("\\b_(file|row)\\b", model_sql) -%}
        {%- do by_key_error(node, "its SQL", "reads _file or _row", "none of them: a row that is sent again as it was has "
            ~ "another place, and that is no change") -%}
    {%- endif -%}
    {%- set columns = get_columns_in_query(model_sql) | map("lower") | list -%}
    {{ return({
        "name": node.name,
        "identity": identity,
        "key": key,
        "columns": columns,
        "touched_by": declared,
        "logged": logged,
        "hashed": hashed,
        "code": sql_literal(local_md5(model_sql ~ declared ~ key)),
        "marks": this.incorporate(path={"schema": "marks", "identifier": node.name}),
        "changes": this.incorporate(path={"schema": "changes", "identifier": node.name}),
        "touched": node.name ~ "__touched",
        "present": node.name ~ "__present",
        "differing": node.name ~ "__differing",
    }) }}
{% endmacro %}


{% macro by_key_error(node, where, found, expected) %}
    {%- set file = (node.patch_path or node.original_file_path).split("://")[-1] -%}
    {{ exceptions.raise_compiler_error(
        node.name ~ ": " ~ where ~ " " ~ found ~ "; expected " ~ expected ~ ". Mend it in " ~ file ~ "."
    ) }}
{% endmacro %}


{% macro select_content_hash(relation) -%}
    select {
        'generation': cast(count(*) as hugeint),
        'version': cast(coalesce(sum(hash(content)), 0) as hugeint)
    }
    from {{ relation }} as content
{%- endmacro %}


{#- each with the answers under which it is gone -#}
{% macro ways_to_make(plan) %}
    {%- set places = [this, plan.changes] + (plan.logged.values() | map(attribute="changes") | list) -%}
    {%- set there = count_places(places, [plan.name] + (plan.logged | list)) -%}
    {%- set same = "select count(*) = 1 as is_same from " ~ plan.marks ~ " where code = " ~ plan.code -%}
    {%- set found = [{"how": "anew", "when": [[there, false]]}, {"how": "anew", "when": [[there, true], [same, false]]}] -%}
    {%- set known = [[there, true], [same, true]] -%}
    {%- if plan.logged -%}
        {%- set continued = select_is_continued_by_key(plan) -%}
        {%- do found.append({"how": "grown", "when": known + [[continued, true]]}) -%}
        {%- do found.append({"how": "compared", "when": known + [[continued, false]]}) -%}
    {%- else -%}
        {%- do found.append({"how": "compared", "when": known}) -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}


{% macro make_by_key(plan, model_sql, target_relation, how) -%}
    {%- if how == "anew" -%}
        {{ make_anew(plan, model_sql, target_relation) }}
    {%- else -%}
        {{ make_what_differs(plan, model_sql, target_relation, how) }}
    {%- endif -%}
{%- endmacro %}


{#- more than a third of the rows are sooner made all together -#}
{% macro select_is_continued_by_key(plan) -%}
select count(*) = 1 as is_continued
from {{ plan.marks }} as marks
where
    true
    {%- for input in plan.logged.values() %}
    and {{ is_account_whole(input) }}
    {%- endfor %}
    and 3 * (
        select count(*)
        from (
{{ select_touched_by_changes(plan) }}
        ) as touched
    ) <= (select count(*) from {{ this }})
    {%- for name, query in plan.hashed.items() %}
    and marks.taken[{{ sql_literal(name) }}] = ({{ query }})
    {%- endfor %}
{%- endmacro %}


{% macro make_anew(plan, model_sql, target_relation) -%}
drop table if exists {{ target_relation }};

{{ create_table_as(false, target_relation, model_sql) }};

{{ begin_changes(plan.name, plan.marks, plan.changes, target_relation, plan.columns) }}

{{ note_taken_changes(plan, is_anew=true) }}
{%- endmacro %}


{#- only what differs is written: whoever reads the account of changes finds no row that stayed as it was -#}
{% macro make_what_differs(plan, model_sql, target_relation, how) -%}
    {%- set columns = plan.columns | join(", ") -%}
    {%- if how == "grown" %}
create or replace temporary table {{ plan.touched }} as
{{ select_touched_by_changes(plan) }};
    {%- endif %}

create or replace temporary table {{ plan.present }} as
{{ only_touched(plan, model_sql) if how == "grown" else model_sql }};

create or replace temporary table {{ plan.differing }} as
with

former as (

    select {{ columns }}
    from {{ target_relation }}
    {%- if how == "grown" %}
    where {{ is_in_touched(plan, plan.key | join(", ")) }}
    {%- endif %}

),

present as (

    select {{ columns }} from {{ plan.present }}
    {%- if how == "grown" %}
    where {{ is_in_touched(plan, plan.key | join(", ")) }}
    {%- endif %}

),

gone as (

    select * from former
    except
    select * from present

),

come as (

    select * from present
    except
    select * from former

)

select 'staged' as _side, true as _is_removed, false as _is_moved, gone.* from gone
union all
select 'staged' as _side, false as _is_removed, false as _is_moved, come.* from come;

delete from {{ target_relation }} as former
using {{ plan.differing }} as gone
where
    gone._is_removed
    {%- for column in plan.identity %}
    and former.{{ column }} is not distinct from gone.{{ column }}
    {%- endfor %};

insert into {{ target_relation }} by name
select {{ columns }}
from {{ plan.differing }}
where not _is_removed;

{{ append_changes(plan.name, plan.marks, plan.changes, plan.differing, target_relation) }}

{{ note_taken_changes(plan, is_anew=false) }}

drop table if exists {{ plan.touched }};
drop table {{ plan.present }};
drop table {{ plan.differing }};
{%- endmacro %}


{% macro select_touched_by_changes(plan) -%}
    {%- for name, touches in plan.touched_by.items() %}
        {%- set input = plan.logged[name] %}
        {%- set changed = "(select * from " ~ input.changes ~ " where _side = 'staged' and _version > (select taken["
            ~ sql_literal(name) ~ "].version from " ~ plan.marks ~ ")) as changed" %}
        {%- if touches is mapping %}
select {{ plan.key | join(", ") }}
from {{ plan.logged[touches.via].relation }} as lasting
semi join {{ changed }}
    on
            {%- for own, theirs in (touches.on if touches.on is mapping else {touches.on: touches.on}).items() %}
        {{ "and " if not loop.first }}lasting.{{ own }} = changed.{{ theirs }}
            {%- endfor %}
        {%- else %}
select
            {%- for expression in ([touches] if touches is string else touches) %}
    {{ expression }} as {{ plan.key[loop.index0] }}{{ "," if not loop.last }}
            {%- endfor %}
from {{ changed }}
        {%- endif %}
{{ "union" if not loop.last }}
    {%- endfor %}
{%- endmacro %}


{% macro is_in_touched(plan, columns) -%}
    {%- if plan.key | length == 1 -%}
        {{ columns }} in (select {{ plan.key[0] }} from {{ plan.touched }})
    {%- else -%}
        ({{ columns }}) in (select ({{ plan.key | join(", ") }}) from {{ plan.touched }})
    {%- endif -%}
{%- endmacro %}


{% macro only_touched(plan, model_sql) %}
    {%- set mark = "true /* touched: " -%}
    {%- set parts = model_sql.split(mark) -%}
    {%- set found = [parts[0]] -%}
    {%- for part in parts[1:] -%}
        {%- set columns = part.split(" */")[0] -%}
        {%- do found.append(is_in_touched(plan, columns) ~ part[columns | length + 3:]) -%}
    {%- endfor -%}
    {{ return(found | join) }}
{% endmacro %}


{% macro note_taken_changes(plan, is_anew) -%}
create or replace table {{ plan.marks }} as
select
    {{ plan.code }} as code,
    cast(null as string) as load_id,
    coalesce((select max(generation) from {{ plan.marks }}), 0) + {{ 1 if is_anew else 0 }} as generation,
    cast(getvariable('{{ plan.name }}_version') as bigint) as version,
    cast(getvariable('{{ plan.name }}_oldest') as bigint) as oldest_version,
    {{ taken_inputs(plan.logged.values(), plan.hashed) }} as taken;
{%- endmacro %}
