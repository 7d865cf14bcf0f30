{#- what decides, beside its own rows, on the rows of a keyed table -#}
{% macro plan_growth(node, rules) %}
    {%- set logged = {} -%}
    {%- set compared = [] -%}
    {%- for rule in rules if rule.reference -%}
        {%- set name = rule.reference.model -%}
        {%- set target = staging_node(name) -%}
        {%- if rule.reference.is_key and keeps_changes(target) -%}
            {%- do logged.update({name: input_with_changes(target, rule.reference.relation)}) -%}
        {%- else -%}
            {%- do compared.append(rule.reference) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return({
        "logged": logged,
        "compared": compared,
        "touched": node.name ~ "__touched",
        "chosen": node.name ~ "__chosen",
        "former": node.name ~ "__former",
        "differing": node.name ~ "__differing",
        "changes": this.incorporate(path={"schema": "changes", "identifier": node.name}),
        "kept_aside": this.incorporate(path={"schema": "set_aside", "identifier": node.name}),
    }) }}
{% endmacro %}


{% macro select_is_there(plan, target_relation) -%}
    {%- set places = [target_relation] -%}
    {%- for name in ["quarantine", "rejected", "absent_keys", "outcomes", "findings"] -%}
        {%- do places.append(plan[name]) -%}
    {%- endfor -%}
    {%- do places.append(ledger_of_files()) -%}
    {%- if plan.events -%}
        {%- do places.append(plan.marks) -%}
        {{- count_places(places) -}}
    {%- else -%}
        {%- do places.extend([plan.growth.changes, plan.growth.kept_aside]) -%}
        {%- if plan.history -%}
            {%- do places.append(plan.history.relation) -%}
        {%- endif -%}
        {%- for input in plan.growth.logged.values() -%}
            {%- do places.append(input.changes) -%}
        {%- endfor -%}
        {{- count_places(places, [plan.name] + (plan.growth.logged | list)) -}}
    {%- endif -%}
{%- endmacro %}


{#- more than a third of the rows are sooner judged all together; the ledger is asked once: DuckDB plans subqueries for long -#}
{% macro select_is_grown(plan, target_relation) -%}
select count(*) = 1 as is_continued
from {{ plan.marks }} as marks
cross join (
    select
        coalesce(sum({{ loaded_file_hash() }}) filter (where files.load_id <= taken.load_id), 0) as files,
        coalesce(sum(files.rows_loaded) filter (where files.load_id > taken.load_id), 0) as new_rows
    from ledger.files as files
    cross join {{ plan.marks }} as taken
    where {{ is_loaded_file(plan) }}
) as loaded
where
    {{ is_same_code(plan) }}
    and marks.sees_rows_alone
    and marks.files = loaded.files
    and 3 * loaded.new_rows <= (select count(*) from {{ plan.raw.relation_name }})
    {%- for input in plan.growth.logged.values() %}
    and {{ is_account_whole(input) }}
    and 3 * (
        select count(*)
        from {{ input.changes }} as changes
        where changes._version > marks.taken[{{ sql_literal(input.name) }}].version
    ) <= 2 * (select count(*) from {{ input.relation }})
    {%- endfor %}
    {%- for reference in plan.growth.compared %}
    and marks.taken[{{ sql_literal(reference.name) }}] = ({{ referenced_hash(reference) }})
    {%- endfor %}
{%- endmacro %}


{% macro is_same_code(plan) -%}
    marks.code = {{ staging_code(plan) }}
    and marks.shape = ({{ raw_shape(plan) }})
{%- endmacro %}


{#- of a table that keeps no account of its changes -#}
{% macro referenced_hash(reference) -%}
    select {
        'generation': cast(count(*) as hugeint),
        'version': cast(coalesce(sum(hash(told)), 0) as hugeint)
    }
    from (
        select distinct {{ reference.columns.values() | join(", ") }}
        from {{ reference.relation }}
        {%- if reference.absent_keys %}
        union all
        select hash(absent) from {{ reference.absent_keys }} as absent
        union all
        select hash(rejected._file, rejected._row) from {{ reference.quarantine }} as rejected
        {%- endif %}
    ) as told
{%- endmacro %}


{#- a window, an aggregate, a join or the clock would tell a row otherwise once others are there -#}
{% macro sees_rows_alone(plan, model_sql) %}
    {%- if plan.raw.relation_name not in model_sql -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set changing = run_query(
        "select coalesce(bool_or(regexp_matches(" ~ sql_literal(model_sql | lower) ~ ", '\\b' || function_name || '\\b')), false)"
        ~ " from duckdb_functions() where stability <> 'CONSISTENT' and regexp_matches(function_name, '^[a-z_0-9]+$')"
        ~ " and function_name <> 'error'"
    ).rows[0][0] -%}
    {%- if changing -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set raw = plan.raw.relation_name -%}
    {%- set whole = run_query("explain (format json) select * from " ~ raw).rows[0][1] -%}
    {%- set explained = run_query("explain (format json) " ~ model_sql).rows[0][1] -%}
    {%- if "SCAN" not in whole and "READ_PARQUET" not in whole -%}
        {#- a view of no file yet has nothing to read: a table in its place has -#}
        {%- set empty = plan.name ~ "__empty" -%}
        {%- do run_query("create or replace temporary table " ~ empty ~ " as select * from " ~ raw ~ " limit 0") -%}
        {%- set whole = run_query("explain (format json) select * from " ~ empty).rows[0][1] -%}
        {%- set explained = run_query("explain (format json) " ~ model_sql | replace(raw, empty)).rows[0][1] -%}
        {%- do run_query("drop table " ~ empty) -%}
    {%- endif -%}
    {#- a join sees the row alone if raw stands on one side of it only, and the other side never changes -#}
    {%- set harmless = [
        "PROJECTION", "FILTER", "HASH_JOIN", "NESTED_LOOP_JOIN", "CROSS_PRODUCT", "PG_TIMEZONE_NAMES",
        "COLUMN_DATA_SCAN", "DUMMY_SCAN",
    ] -%}
    {#- raw is read once, be it a table or a view of files: what reads all of it, and nothing else -#}
    {%- set scans = [] -%}
    {%- for plan_text in [explained, whole] -%}
        {%- set steps = modules.re.findall('"name": "([A-Z_ ]+)"', plan_text) | map("trim") -%}
        {%- do scans.append(steps | reject("in", harmless) | sort | list) -%}
    {%- endfor -%}
    {%- set others = scans[0] | reject("in", ["SEQ_SCAN", "TABLE_SCAN", "READ_PARQUET", "UNION"]) | list -%}
    {{ return(scans[0] | length > 0 and scans[0] == scans[1] and others | length == 0 and '"FULL"' not in explained) }}
{% endmacro %}


{% macro add_touched_keys(plan, model_sql, target_relation) -%}
    {%- set growth = plan.growth -%}
set variable {{ plan.name }}_mark = (select load_id from {{ plan.marks }});

create or replace temporary table {{ growth.touched }} as
{{ select_touched_keys(plan, model_sql) }};

create or replace temporary table {{ growth.chosen }} as
select raw.*
from {{ plan.raw.relation_name }} as raw
semi join (
    select
        cleaned._file,
        cleaned._row
    from (
{{ model_sql }}
    ) as cleaned
    semi join {{ growth.touched }} as touched
        on {{ is_touched(plan, "cleaned") }}
) as places
    on raw._file = places._file and raw._row = places._row;

create or replace temporary table {{ plan.judged }} as
{{ judge_rows(plan, model_sql, chosen_sql=model_sql | replace(plan.raw.relation_name, growth.chosen)) }};

create or replace temporary table {{ plan.repeated }} as
{{ select_repeated_rows(plan) }};

create or replace temporary table {{ plan.set_aside }} as
{{ select_set_aside(plan) }};

create or replace temporary table {{ growth.former }} as
{{ select_former_outcomes(plan) }};

create or replace temporary table {{ growth.differing }} as
{{ select_rows_told_otherwise(plan) }};

-- a key is staged once
delete from {{ target_relation }} as former
using {{ growth.differing }} as gone
where
    gone._side = 'staged'
    and gone._is_removed
    {%- for column in plan.key %}
    and former.{{ column }} = gone.{{ column }}
    {%- endfor %};

insert into {{ target_relation }} by name
select {{ plan.clean_columns | join(", ") }}
from {{ growth.differing }}
where _side = 'staged' and not _is_removed;
{% for side, query in {
    plan.quarantine: select_quarantined_rows(plan),
    plan.rejected: select_rejected_rows(plan),
}.items() %}
delete from {{ side }} as rejected
using (
    select judged._file, judged._row
    from {{ growth.former }} as former
    inner join {{ plan.judged }} as judged
        on former._place = judged.rowid
    where former._outcome = 'quarantined'
) as gone
where {{ is_same_place("rejected", "gone") }};

insert into {{ side }} by name
{{ query }};
{% endfor %}
delete from {{ plan.findings }} as former
using {{ plan.judged }} as judged
where {{ is_same_place("former", "judged") }} and {{ was_there(plan) }};

insert into {{ plan.findings }} by name
{{ select_findings(plan) }};
{% for side, query in {
    plan.absent_keys: select_absent_keys(plan),
    plan.history.relation if plan.history: select_history(plan) if plan.history,
}.items() if side %}
delete from {{ side }} as former
using {{ growth.touched }} as touched
where {{ is_touched(plan, "former") }};

insert into {{ side }} by name
{{ query }};
{% endfor %}
create or replace table {{ plan.outcomes }} as
{{ recount_outcomes(plan) }};

delete from {{ growth.kept_aside }}
where rowid in (select _kept from {{ growth.former }});

insert into {{ growth.kept_aside }} by name
{{ select_kept_aside(plan) }};

{{ note_changes(plan, target_relation, "grown", is_alone=none, has_ledger=true) }}

drop table {{ growth.touched }};
drop table {{ growth.chosen }};
drop table {{ growth.former }};
drop table {{ growth.differing }};
drop table {{ plan.judged }};
drop table {{ plan.repeated }};
drop table {{ plan.set_aside }};
{%- endmacro %}


{#- keys of new rows, of rows whose references have changed, and of rows that are told what is usual by new ones -#}
{% macro select_touched_keys(plan, model_sql) -%}
    {%- set new_loads = "_load_id > getvariable('" ~ plan.name ~ "_mark')" -%}
with

cleaned as not materialized (

{{ model_sql }}

)

select {{ plan.key | join(", ") }}
from cleaned
where {{ new_loads }}
{%- for rule in plan.rules %}
    {%- if rule.reference and rule.reference.model in plan.growth.logged %}
        {%- set input = plan.growth.logged[rule.reference.model] %}
union
select {{ plan.key | join(", ") }}
from cleaned
semi join (
    select {{ rule.reference.columns.values() | join(", ") }}
    from {{ input.changes }}
    where _version > (select taken[{{ sql_literal(input.name) }}].version from {{ plan.marks }})
) as changed
    on
        {%- for own, theirs in rule.reference.columns.items() %}
        {{ "and " if not loop.first }}cleaned.{{ own }} = changed.{{ theirs }}
        {%- endfor %}
    {%- elif rule.usual %}
union
select {{ plan.key | join(", ") }}
from cleaned
semi join (
    select {{ rule.usual.columns | join(", ") }}
    from cleaned
    where {{ new_loads }}
) as told
    on
        {%- for own in rule.usual.columns %}
        {{ "and " if not loop.first }}cleaned.{{ own }} = told.{{ own }}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- endmacro %}


{% macro is_touched(plan, relation) -%}
    {%- for column in plan.key -%}
        {{ "and " if not loop.first }}{{ relation }}.{{ column }} is not distinct from touched.{{ column }}{{ " " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{% macro is_same_place(one, other) -%}
    {{ one }}._file = {{ other }}._file and {{ one }}._row = {{ other }}._row
{%- endmacro %}


{#- judged now, and at the former build as well -#}
{% macro was_there(plan) -%}
    judged._load_id <= getvariable('{{ plan.name }}_mark')
{%- endmacro %}


{#- of the rows judged here, those that were not staged before -#}
{% macro select_former_outcomes(plan) -%}
select
    judged.rowid as _place,
    aside.rowid as _kept,
    aside._outcome,
    aside._name,
    aside._is_absent_key
from {{ plan.growth.kept_aside }} as aside
inner join {{ plan.judged }} as judged
    on {{ is_same_place("aside", "judged") }}
where {{ was_there(plan) }}
{%- endmacro %}


{#- rows that readers find otherwise than before: a row of raw says the same each time, so what was made of it tells all -#}
{% macro select_rows_told_otherwise(plan) -%}
with

told as (

    select
        judged.rowid as _place,
        case when {{ was_there(plan) }} then coalesce(former._outcome, 'staged') else 'unread' end as _former,
        coalesce(aside._outcome, 'staged') as _present
    from {{ plan.judged }} as judged
    left join {{ plan.growth.former }} as former
        on judged.rowid = former._place
    left join {{ plan.set_aside }} as aside
        on judged.rowid = aside._place

),

moves as (

    select _place, _former as _outcome, true as _is_removed
    from told
    where _former <> _present and _former in ('staged', 'quarantined')
    union all
    select _place, _present as _outcome, false as _is_removed
    from told
    where _former <> _present and _present in ('staged', 'quarantined')

),

former_absent as (

    select
        {%- for column in plan.key %}
        judged.{{ column }},
        {%- endfor %}
        {{ absent_by("former") }} as absent_by
    from {{ plan.growth.former }} as former
    inner join {{ plan.judged }} as judged
        on former._place = judged.rowid
    where former._is_absent_key

),

present_absent as (

{{ select_absent_keys(plan) }}

),

differing as (

    select
        case when moves._outcome = 'staged' then 'staged' else 'rejected' end as _side,
        moves._is_removed,
        {%- for column in plan.clean_columns %}
        judged.{{ column }},
        {%- endfor %}
        cast(null as string) as absent_by
    from moves
    inner join {{ plan.judged }} as judged
        on moves._place = judged.rowid
    {%- for one, other in [["former", "present"], ["present", "former"]] %}
    union all by name
    select
        'absent' as _side,
        {{ "true" if one == "former" else "false" }} as _is_removed,
        found.*
    from (
        select * from {{ one }}_absent
        except
        select * from {{ other }}_absent
    ) as found
    {%- endfor %}

)

{{ select_with_moves(plan) }}
{%- endmacro %}


{#- what readers would find otherwise than before where all is judged: rows gone and rows come -#}
{% macro select_differing_rows(plan, target_relation) -%}
    {%- set columns = plan.clean_columns | join(", ") -%}
    {%- set absent = plan.key | join(", ") ~ ", absent_by" -%}
with
{% for side, found in {
    "staged": [target_relation, columns, select_staged_rows(plan)],
    "rejected": [plan.rejected, columns, select_rejected_rows(plan)],
    "absent": [plan.absent_keys, absent, select_absent_keys(plan)],
}.items() %}
former_{{ side }} as (

    select {{ found[1] }}
    from {{ found[0] }}

),

present_{{ side }} as (

{{ found[2] }}

),
{% endfor %}
differing as (
{% for side in ["staged", "rejected", "absent"] %}
    {%- for one, other in [["former", "present"], ["present", "former"]] %}
    select
        '{{ side }}' as _side,
        {{ "true" if one == "former" else "false" }} as _is_removed,
        found.*
    from (
        select * from {{ one }}_{{ side }}
        except
        select * from {{ other }}_{{ side }}
    ) as found
    {{ "union all by name" if not (side == "absent" and loop.last) }}
    {%- endfor %}
{%- endfor %}
)

{{ select_with_moves(plan) }}
{%- endmacro %}


{#- what was sent again as it was has moved to another file; nobody has to take it -#}
{% macro select_with_moves(plan) -%}
select
    *,
    sum(case when _is_removed then -1 else 1 end) over (
        partition by _side, absent_by, {{ plan.clean_columns | reject("in", ["_file", "_row"]) | join(", ") }}
    ) = 0 as _is_moved
from differing
{%- endmacro %}


{% macro recount_outcomes(plan) -%}
select
    model,
    source,
    table_name,
    _file,
    outcome,
    name,
    cast(sum(row_count) as bigint) as row_count,
    cast(sum(absent_key_count) as bigint) as absent_key_count
from (
    select * from {{ plan.outcomes }}
    union all by name
    select * from (
{{ count_outcomes(plan) }}
    ) as present
    union all by name
    select
        {{ sql_literal(plan.name) }} as model,
        {{ sql_literal(plan.source) }} as source,
        {{ sql_literal(plan.table_name) }} as table_name,
        judged._file,
        coalesce(former._outcome, 'staged') as outcome,
        former._name as name,
        -count(*) as row_count,
        -count(case when former._is_absent_key then 1 end) as absent_key_count
    from {{ plan.judged }} as judged
    left join {{ plan.growth.former }} as former
        on judged.rowid = former._place
    where {{ was_there(plan) }}
    group by judged._file, outcome, name
) as counted
group by all
having sum(row_count) <> 0
{%- endmacro %}


{% macro select_kept_aside(plan) -%}
select
    judged._file,
    judged._row,
    aside._outcome,
    aside._name,
    aside._is_absent_key
from {{ plan.set_aside }} as aside
inner join {{ plan.judged }} as judged
    on aside._place = judged.rowid
{%- endmacro %}


{#- who takes changes since a version finds all of them, as long as that is not before the oldest one -#}
{% macro note_changes(plan, target_relation, how, is_alone, has_ledger) -%}
    {%- set growth = plan.growth -%}
{% if how == "anew" -%}
{{ begin_changes(plan.name, plan.marks, growth.changes, target_relation, plan.clean_columns) }}
{%- else -%}
{{ append_changes(plan.name, plan.marks, growth.changes, growth.differing, target_relation) }}
{%- endif %}

set variable {{ plan.name }}_loaded = (
    select greatest(
        coalesce((select max(_load_id) from {{ plan.judged }}), ''),
        {%- if has_ledger %}
        coalesce((
            select max(load_id)
            from ledger.files
            where
                source = {{ sql_literal(plan.source) }}
                and table_name = {{ sql_literal(plan.table_name) }}
                and status = 'loaded'
        ), ''),
        {%- endif %}
        {{ "getvariable('" ~ plan.name ~ "_mark')" if how == "grown" else "''" }}
    )
);

create or replace table {{ plan.marks }} as
select
    {{ staging_code(plan) }} as code,
    ({{ raw_shape(plan) }}) as shape,
    {%- if has_ledger %}
    cast(({{ loaded_files_hash(plan, "getvariable('" ~ plan.name ~ "_loaded')") }}) as hugeint) as files,
    {%- else %}
    cast(null as hugeint) as files,
    {%- endif %}
    getvariable('{{ plan.name }}_loaded') as load_id,
    coalesce((select max(generation) from {{ plan.marks }}), 0) + {{ 1 if how == "anew" else 0 }} as generation,
    cast(getvariable('{{ plan.name }}_version') as bigint) as version,
    cast(getvariable('{{ plan.name }}_oldest') as bigint) as oldest_version,
    {{ "(select sees_rows_alone from " ~ plan.marks ~ ")" if is_alone is none else is_alone | string | lower }} as sees_rows_alone,
    {{ taken_references(plan) }} as taken;
{%- endmacro %}


{% macro taken_references(plan) -%}
    {%- set hashed = {} -%}
    {%- for reference in plan.growth.compared -%}
        {%- do hashed.update({reference.name: referenced_hash(reference)}) -%}
    {%- endfor -%}
    {{- taken_inputs(plan.growth.logged.values(), hashed) -}}
{%- endmacro %}
