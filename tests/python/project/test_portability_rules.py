"""The portability check refuses what it must and passes what the engines share."""

from __future__ import annotations

import duckdb
import portability
import pytest

REFUSED = {
    "select a // b as whole from t": "//",
    "select * exclude (a) from t": "EXCLUDE",
    "select strftime(a, '%Y') as year_text from t": "strftime()",
    "select date_diff('day', a, b) as days from t": "date_diff()",
    "select * from generate_series(1, 3) as series": "generate_series()",
    "select [1, 2] as pair from t": "[1, 2]",
    "select {'a': 1} as record from t": "{'a': 1}",
    "select a->>'b' as part from t": "->>",
    "select a[1] as first_item from t": "a[1]",
    "select a / b as share from t": "a / b",
    "select 1 / 0 as nothing": "1 / 0",
    "select cast(7 / 2 as int) as half": "CAST(7 / 2 AS INT)",
    "select cast(avg(a) as bigint) as mean from t": "CAST(AVG(a) AS BIGINT)",
    "select cast(2.5 as int) as half": "CAST(2.5 AS INT)",
    "select dayofweek(a) as day_number from t": "dayofweek()",
    "select extract(dow from a) as day_number from t": "extract()",
    'select "id" from t': '"id"',
    "select cast(a as varchar) as b from t": "varchar",
    "select a::varchar as b from t": "varchar",
    "select a::text as b from t": "text",
    "select try_cast(a as timestamptz) as b from t": "timestamptz",
    "select quantile_cont(a, 0.5) as middle from t": "quantile_cont()",
    "select arg_max(a, b) as latest from t": "arg_max()",
    "select sha256(a) as digest from t": "sha256()",
    "select concat(a, b) as both_texts from t": "concat()",
    "select log(a) as logarithm from t": "log()",
    "select any_value(a) as some from t": "any_value()",
    "select a from t where regexp_matches(a, 'b')": "regexp_matches()",
    "select a from t where a ~ 'b'": "REGEXP_MATCHES(a, 'b')",
    "select regexp_replace(a, 'b', '') as c from t": "regexp_replace()",
    "select row_number() over (order by a) as n from t": "order by a",
    "select a + interval 1 day as tomorrow from t": "interval",
    "select distinct on (a) a, b from t": "distinct on",
    "select columns('a') from t": "columns()",
    "select a from t union all by name select b from u": "union by name",
    "select unnest(a) as item from t": "unnest()",
    "select list(a) as items from t": "list()",
    "select list_transform(a, lambda x: x + 1) as more from t": "list_transform()",
    "select a from t asof join u on t.x >= u.x": "asof join",
    "select ltrim(a, '0') as b from t": "ltrim()",
    "select a from t using sample 10%": "tablesample",
    "select current_date as today": "current_date",
    "select a, now() as read_at from t": "now()",
    "with a as (from t) select * from a": "from without select",
}

SHARED = [
    "with orders as (select * from s.orders), totals as (select order_id, sum(net_amount) as total"
    " from orders group by all) select * from totals",
    "select row_number() over (partition by a order by b desc) as n from t qualify n = 1",
    "select lag(a) over (partition by b order by c nulls last) as before from t",
    "select a::string as b, cast(c as decimal(18, 2)) as d, try_cast(e as date) as f from t",
    "select a / nullif(b, 0) as c, a / 2 as d, cast(round(a / 2) as int) as e from t",
    "select sum(a) filter (where b) as c, max_by(a, b) as d, median(e) as f from t",
    "select count(*) as n from t where a in (1, 2) and not (b or c)",
    "select a from t where exists (select 1 from u) or b in (select c from u)",
    "select case when (a) then (b) else (c) end as d from t left join u using (id)",
    "select date_trunc('month', a) as m, string_agg(b, ',') as c from t group by a",
    "select a from t inner join u on (t.a = u.a) order by a desc",
    "select a from (select a from t) as x union all (select b from u)",
    "select lower(a) || upper(b) as c, substr(a, 1, 2) as d, cast(e as timestamp) as f from t",
    "select md5(a) as b, levenshtein(a, c) as d, split_part(a, '@', 1) as e from t",
]


@pytest.mark.parametrize(("sql", "found"), REFUSED.items(), ids=list(REFUSED))
def test_what_the_engines_do_not_share_is_refused(sql: str, found: str) -> None:
    refusals = portability.refusals(sql)
    assert any(found in refusal.found for refusal in refusals), refusals
    assert all(refusal.instead for refusal in refusals)


@pytest.mark.parametrize("sql", SHARED)
def test_what_the_engines_share_passes(sql: str) -> None:
    assert portability.refusals(sql) == []
    assert portability.spark_error(sql) is None


def test_a_refusal_names_its_line() -> None:
    refusals = portability.refusals("select\n    a,\n    strftime(b, '%Y') as c\nfrom t")
    assert [refusal.line for refusal in refusals] == [3]


def test_a_dispatch_macro_hides_its_text_and_shows_its_arguments() -> None:
    assert portability.refusals("select dispatched__month(a) as b from t") == []
    inner = portability.refusals("select dispatched__month(strftime(a, '%m')) as b from t")
    assert [refusal.found for refusal in inner] == ["strftime()"]


def test_spark_must_be_able_to_parse_it() -> None:
    assert portability.spark_error("select {'a': 1} as record from t") is not None
    assert portability.spark_error("select from where") is not None


def test_every_shared_function_exists_in_duckdb() -> None:
    syntax = {"cast", "try_cast", "coalesce", "count_if", "if", "ifnull", "nullif"}
    windows = {"cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value"}
    windows |= {"ntile", "percent_rank", "rank", "row_number", "percentile_cont", "percentile_disc"}
    known = duckdb.sql("select distinct function_name from duckdb_functions()").fetchall()
    missing = portability.SHARED_FUNCTIONS - {name for (name,) in known} - syntax - windows
    assert missing == set()
