"""What a query's columns are made of, as written down and as DuckDB shows it."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from runner.lineage.queries import Column, QueryLineage, read_query

TABLES = {
    "shop": {
        "orders": ["id", "who", "amount", "items"],
        "people": ["who", "country", "age"],
    }
}
ROWS = """
    create schema shop;
    create table shop.orders as select * from (values
        (1, 'ann', 10, ['a', 'b']), (2, 'bob', 20, ['c']),
        (3, 'ann', 30, ['a']), (4, 'dan', 5, ['d'])
    ) as t (id, who, amount, items);
    create table shop.people as select * from (values
        ('ann', 'DE', 30), ('bob', 'FR', 40), ('cat', 'FR', 50)
    ) as t (who, country, age);
"""
# How each column is changed; what is made of it, and nothing else, may then be otherwise.
CHANGES = {
    "orders": {"id": "id + 7", "who": "'bob'", "amount": "amount * 3 + id", "items": "['z', 'a']"},
    "people": {"who": "'x' || who", "country": "country || 'x'", "age": "age + 13"},
}

# Query -> by column of the result what it is made of; `=` for what is passed on as it is. Under
# `rows` what decides about them.
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "columns": (
        "select id, amount * 2 as twice from shop.orders",
        {"id": "=o.id", "twice": "o.amount"},
    ),
    "a filter": (
        "select id from shop.orders where amount > 15",
        {"id": "=o.id", "rows": "filter o.amount"},
    ),
    "a star over a join": (
        "select o.*, p.country from shop.orders o left join shop.people p on o.who = p.who",
        {
            **{"id": "=o.id", "who": "=o.who", "amount": "=o.amount", "items": "=o.items"},
            "country": "=p.country",
            "rows": "join o.who p.who",
        },
    ),
    "a star but for a column": (
        "select * exclude (items, id) replace (amount + 1 as amount) from shop.orders",
        {"who": "=o.who", "amount": "o.amount"},
    ),
    "a join by name": (
        "select id, age from shop.orders join shop.people using (who)",
        {"id": "=o.id", "age": "=p.age", "rows": "join o.who p.who"},
    ),
    "a group": (
        "select who, sum(amount) as total, count(*) as n from shop.orders group by who",
        {"who": "=o.who", "total": "o.amount", "n": "", "rows": "grouping o.who"},
    ),
    "a group by place, filtered afterwards": (
        "select who, max(id) as newest from shop.orders group by 1 having sum(amount) > 10",
        {"who": "=o.who", "newest": "o.id", "rows": "grouping o.who filter o.amount"},
    ),
    "CTEs, one over the other": (
        "with a as (select id, amount as price from shop.orders where id > 1), "
        "b as (select id, price + 1 as price from a) select price, id as key from b",
        {"price": "o.amount", "key": "=o.id", "rows": "filter o.id"},
    ),
    "a CTE that nobody reads": (
        "with a as (select age from shop.people) select id from shop.orders",
        {"id": "=o.id"},
    ),
    "a union": (
        "select who, id as n from shop.orders union all select country, age from shop.people",
        {"who": "=o.who p.country", "n": "=o.id p.age"},
    ),
    "a union by name": (
        "select who, id from shop.orders union all by name select age as id, who from shop.people",
        {"who": "=o.who p.who", "id": "=o.id p.age"},
    ),
    "a union with constants": (
        "select 'order' as kind, who from shop.orders "
        "union all select 'person', who from shop.people",
        {"kind": "=", "who": "=o.who p.who"},
    ),
    "a window": (
        "select id, row_number() over (partition by who order by amount) as place from shop.orders",
        {"id": "=o.id", "place": "o.who o.amount"},
    ),
    "the best of each": (
        "select id from shop.orders "
        "qualify row_number() over (partition by who order by amount desc) = 1",
        {"id": "=o.id", "rows": "filter o.who o.amount"},
    ),
    "a scalar subquery": (
        "select id, (select max(age) from shop.people) as oldest from shop.orders",
        {"id": "=o.id", "oldest": "p.age"},
    ),
    "a correlated subquery": (
        "select id, (select max(age) from shop.people p where p.who = o.who) as age "
        "from shop.orders o",
        {"id": "=o.id", "age": "p.age", "rows": "filter o.who p.who"},
    ),
    "exists": (
        "select id from shop.orders o "
        "where exists (select 1 from shop.people p where p.who = o.who)",
        {"id": "=o.id", "rows": "filter o.who p.who"},
    ),
    "in": (
        "select id from shop.orders where who in (select who from shop.people where age > 35)",
        {"id": "=o.id", "rows": "filter o.who p.who p.age"},
    ),
    "a derived table with names": (
        "select t.a from (select id, who from shop.orders) as t (a, b) where b = 'ann'",
        {"a": "=o.id", "rows": "filter o.who"},
    ),
    "unnested items": (
        "select id, unnest(items) as item from shop.orders",
        {"id": "=o.id", "item": "o.items", "rows": "unnest o.items"},
    ),
    "items beside their row": (
        "select id, t.item from shop.orders, unnest(items) as t (item)",
        {"id": "=o.id", "item": "o.items", "rows": "unnest o.items"},
    ),
    "a list's own variable": (
        "select id, list_transform(items, lambda amount: upper(amount)) as loud from shop.orders",
        {"id": "=o.id", "loud": "o.items"},
    ),
    "a column that the select makes": (
        "select amount * 2 as twice, twice + 1 as more from shop.orders where twice > 30",
        {"twice": "o.amount", "more": "o.amount", "rows": "filter o.amount"},
    ),
    "the first ones": (
        "select id from shop.orders order by amount limit 2",
        {"id": "=o.id", "rows": "limit o.amount"},
    ),
    "one row of each": (
        "select distinct on (who) id from shop.orders order by who, amount",
        {"id": "=o.id", "rows": "grouping o.who"},
    ),
    "a case": (
        "select case when amount > 10 then who else 'few' end as big from shop.orders",
        {"big": "o.amount o.who"},
    ),
    "a query that calls itself": (
        "with recursive up as (select id, amount from shop.orders union all "
        "select id, amount + 100 from up where amount < 100) select id, amount from up",
        {"id": "=o.id", "amount": "o.amount", "rows": "filter o.amount"},
    ),
    "days of a function": (
        "select o.id, d.day from shop.orders o cross join range(2) as d (day)",
        {"id": "=o.id", "day": "="},
    ),
}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(ROWS)
        yield connection


def columns_of(text: str) -> set[Column]:
    full = {"o": "shop.orders", "p": "shop.people"}
    pairs = (part.split(".") for part in text.split())
    return {Column(full[table], name) for table, name in pairs}


def decisions_of(text: str) -> dict[str, set[Column]]:
    found: dict[str, set[Column]] = {}
    kind = ""
    for part in text.split():
        if "." in part:
            found.setdefault(kind, set()).update(columns_of(part))
        else:
            kind = part
    return found


@pytest.mark.parametrize("case", CASES)
def test_columns_are_those_written_down(case: str) -> None:
    sql, expected = CASES[case]
    read = read_query(sql, TABLES)
    wanted = {name: text for name, text in expected.items() if name != "rows"}
    assert list(read.columns) == list(wanted)
    for name, text in wanted.items():
        assert read.columns[name].columns == columns_of(text.removeprefix("=")), name
        assert read.columns[name].unchanged == text.startswith("="), name
    if case != "a query that calls itself":
        assert read.decides == decisions_of(expected.get("rows", ""))


@pytest.mark.parametrize("case", CASES)
def test_a_changed_column_changes_nothing_that_is_not_told(
    case: str, connection: duckdb.DuckDBPyConnection
) -> None:
    sql, _ = CASES[case]
    read = read_query(sql, TABLES)
    before = values(connection, sql)
    changed_at_all = 0
    for table, changes in CHANGES.items():
        for name, change in changes.items():
            connection.execute("begin")
            connection.execute(f"update shop.{table} set {name} = {change}")
            after = values(connection, sql)
            connection.execute("rollback")
            column = Column(f"shop.{table}", name)
            changed = {key for key in before if before[key] != after[key]}
            changed_at_all += len(changed)
            assert changed <= told(read, column), f"{column}: {changed}"
    assert changed_at_all > 0


def told(read: QueryLineage, column: Column) -> set[str]:
    """Columns of the result that may change with a column."""
    if any(column in columns for columns in read.decides.values()):
        return set(read.columns)
    return {name for name, made in read.columns.items() if column in made.columns}


def values(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, list[str]]:
    found = connection.execute(sql)
    names = [part[0].lower() for part in found.description or ()]
    rows = found.fetchall()
    return {name: sorted(str(row[at]) for row in rows) for at, name in enumerate(names)}


@pytest.mark.parametrize("sql", ["select from where", "create table x (a int)"])
def test_what_is_no_query_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match=r"resolved|no query"):
        read_query(sql, TABLES)


def test_a_table_of_unknown_columns_is_no_hindrance() -> None:
    read = read_query("select a.b from x.y as a", {"x": {"y": []}, "z": {}})
    assert read.columns["b"].columns == {Column("x.y", "b")}
