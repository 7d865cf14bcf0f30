"""Rewritten queries name the right base rows, and say so where they cannot."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from runner.explain.provenance import ROW_LIMIT, NotTraceable, trace

TABLES = """
    create schema shop;
    create table shop.orders as
        select * from (values (1, 'ann', 10), (2, 'bob', 20), (3, 'ann', 30))
        as t (id, who, amount);
    create table shop.people as
        select * from (values ('ann', 'DE'), ('bob', 'FR'), ('cat', 'FR')) as t (who, country);
    create table shop.carts as
        select * from (values (1, ['a', 'b']), (2, ['c'])) as t (cart, items);
"""

# Query, and per row of its result (by its first column) the base rows as relation letter and rowid.
CASES = {
    "a filter": ("select id from shop.orders where amount > 15", {2: "o1", 3: "o2"}),
    "a join": (
        "select id, country from shop.orders join shop.people using (who)",
        {1: "o0 p0", 2: "o1 p1", 3: "o2 p0"},
    ),
    "a left join without a partner": (
        "select p.who, o.id from shop.people p left join shop.orders o on o.who = p.who and id > 1",
        {"ann": "o2 p0", "bob": "o1 p1", "cat": "p2"},
    ),
    "a natural join": (
        "select id, country from shop.orders natural join shop.people",
        {1: "o0 p0", 2: "o1 p1", 3: "o2 p0"},
    ),
    "a group": (
        "select who, sum(amount) from shop.orders group by all",
        {"ann": "o0 o2", "bob": "o1"},
    ),
    "an aggregate without a group": ("select count(*) as n from shop.orders", {3: "o0 o1 o2"}),
    "an aggregate that the parser does not know": (
        "select product(amount) as n from shop.orders where id < 3",
        {200.0: "o0 o1"},
    ),
    "a group over stars and CTEs": (
        "with o as (select * from shop.orders), p as (select * from shop.people), "
        "j as (select o.*, p.country from o join p on o.who = p.who) "
        "select country, sum(amount) from j group by country",
        {"DE": "o0 o2 p0", "FR": "o1 p1"},
    ),
    "a CTE joined with itself": (
        "with o as (select * from shop.orders) "
        "select a.id, b.id from o a join o b on a.who = b.who and a.id < b.id",
        {1: "o0 o2"},
    ),
    "a union": (
        "select who from shop.orders where id = 2 union all "
        "select who from shop.people where country = 'DE'",
        {"bob": "o1", "ann": "p0"},
    ),
    "a union without doubles": (
        "select who from shop.orders union select who from shop.people",
        {"ann": "o0 o2 p0", "bob": "o1 p1", "cat": "p2"},
    ),
    "a union by name": (
        "select who, id from shop.orders where id = 2 "
        "union all by name select country, who from shop.people where who = 'cat'",
        {"bob": "o1", "cat": "p2"},
    ),
    "distinct rows": (
        "with o as (select distinct who from shop.orders) select * from o",
        {"ann": "o0 o2", "bob": "o1"},
    ),
    "a chosen row of each group": (
        "select who, id from shop.orders "
        "qualify row_number() over (partition by who order by id desc) = 1",
        {"ann": "o2", "bob": "o1"},
    ),
    "distinct on": (
        "select distinct on (who) who, id from shop.orders order by who, id",
        {"ann": "o0", "bob": "o1"},
    ),
    "a windowed sum": (
        "select id, sum(amount) over (partition by who) from shop.orders",
        {1: "o0", 2: "o1", 3: "o2"},
    ),
    "exploded lists": (
        "select unnest(items), cart from shop.carts",
        {"a": "c0", "b": "c0", "c": "c1"},
    ),
    "a lateral subquery": (
        "select p.who, l.total from shop.people p, "
        "lateral (select sum(amount) as total from shop.orders o where o.who = p.who) l",
        {"ann": "o0 o2 p0", "bob": "o1 p1", "cat": "p2"},
    ),
    "a nested CTE under a known name": (
        "with orders as (select * from shop.orders where id < 3) "
        "select who from (with orders as (select * from orders where id > 1) select * from orders)",
        {"bob": "o1"},
    ),
    "a subquery that hides its columns": (
        "select t.* exclude (amount) from (select who, amount from shop.orders where id = 2) t",
        {"bob": "o1"},
    ),
    "joins in brackets": (
        "select id from shop.people p join (shop.orders o join shop.carts c on o.id = c.cart) "
        "on p.who = o.who",
        {1: "c0 o0 p0", 2: "c1 o1 p1"},
    ),
    "a limit": ("select id from shop.orders order by amount desc limit 1", {3: "o2"}),
    "rows of its own": ("select n from range(2) as t (n)", {0: "", 1: ""}),
    "an asof join": (
        "select c.cart, o.id from shop.carts c asof join shop.orders o on c.cart >= o.id",
        {1: "c0 o0", 2: "c1 o1"},
    ),
}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute(TABLES)
        yield opened


def aggregates(connection: duckdb.DuckDBPyConnection) -> set[str]:
    found = connection.execute(
        "select distinct function_name from duckdb_functions() where function_type = 'aggregate'"
    )
    return {row[0] for row in found.fetchall()}


@pytest.mark.parametrize("case", CASES)
def test_each_row_names_the_rows_it_is_made_of(
    case: str, connection: duckdb.DuckDBPyConnection
) -> None:
    sql, expected = CASES[case]
    traced = trace(sql, aggregates(connection))
    rows = connection.execute(f"select * exclude (__why), __why from ({traced.sql})").fetchall()
    letters = {number: name.split(".")[1][0] for number, name in traced.relations.items()}
    found = {
        row[0]: " ".join(sorted(f"{letters[w // ROW_LIMIT]}{w % ROW_LIMIT}" for w in row[-1]))
        for row in rows
    }
    assert found == expected


@pytest.mark.parametrize("case", CASES)
def test_the_rows_themselves_stay_as_they_were(
    case: str, connection: duckdb.DuckDBPyConnection
) -> None:
    sql, _ = CASES[case]
    traced = trace(sql, aggregates(connection))
    before = connection.execute(f"select * from ({sql}) order by all").fetchall()
    after = connection.execute(
        f"select * exclude (__why) from ({traced.sql}) order by all"
    ).fetchall()
    assert after == before


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("select id from shop.orders where who in (select who from shop.people)", "shop.people"),
        (
            "with p as (select * from shop.people) select id from shop.orders o "
            "where exists (select 1 from p where p.who = o.who)",
            "shop.people",
        ),
        ("select id, (select count(*) from shop.people) as n from shop.orders", "shop.people"),
        ("select id from shop.orders semi join shop.people using (who)", "shop.people"),
    ],
)
def test_what_only_decides_is_named(
    sql: str, name: str, connection: duckdb.DuckDBPyConnection
) -> None:
    traced = trace(sql)
    assert traced.unfollowed == (name,)
    assert list(traced.relations.values()) == ["shop.orders"]
    before = connection.execute(f"select id from ({sql}) order by all").fetchall()
    after = connection.execute(f"select id from ({traced.sql}) order by all").fetchall()
    assert before == after != []


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "with recursive r as (select 1 as n union all select n + 1 from r where n < 3) "
            "select * from r",
            "recursive",
        ),
        ("select who from shop.orders except select who from shop.people", "except"),
        ("select distinct who from shop.orders limit 1", "limit"),
        ("select columns(*) from shop.orders", "columns"),
        ("select * from shop.orders pivot (sum(amount) for who in ('ann'))", "pivot"),
        ("select (", "parsed"),
    ],
)
def test_what_cannot_be_followed_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(NotTraceable, match=reason):
        trace(sql)


def test_a_view_is_read_from_its_copy(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create view shop.small as select * from shop.orders where amount < 25")
    connection.execute("create temporary table copied as select * from shop.small")
    traced = trace("select id from shop.small", views={"shop.small": "copied"})
    assert traced.relations == {0: "shop.small"}
    assert connection.execute(traced.sql).fetchall() == [(1, [0]), (2, [1])]
