"""Each macro gives what its description says, on odd input too, and its Spark side parses."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from decimal import Decimal
from typing import Any

import pytest
import sqlglot
from lab import PROJECT, Lab

AT = dt.datetime
WINTER = "\"timestamp '2026-03-28 03:30:00'\""
SUMMER = "\"timestamp '2026-03-29 03:30:00'\""
PAIRS = '\'\\\'[{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]\\\'\''

EXPRESSIONS: list[tuple[str, Any]] = [
    ("sql_literal(none)", None),
    ("sql_literal(true)", True),
    ("sql_literal(7)", 7),
    ("sql_literal(\"O'Neill\")", "O'Neill"),
    ("matches(\"'AC-12'\", '^[A-Z]{2}-\\\\d+$')", True),
    ("matches(\"'AC-'\", '^[A-Z]{2}-\\\\d+$')", False),
    ("matches(\"cast(null as string)\", 'a')", None),
    ("matches(\"'a spider'\", 'bot|spider')", True),
    ("matches(\"'a b.t'\", 'bot|spider')", False),
    ("matches(\"'a bat'\", 'b.t|spider')", True),
    ("matches(\"cast(null as string)\", 'bot|spider')", None),
    ("'not ' ~ matches(\"'a spider'\", 'bot|spider')", False),
    ("replace_matches(\"'+49 (30) 12'\", '[^0-9]')", "493012"),
    ("replace_matches(\"'a1b2'\", '[0-9]', '#')", "a#b#"),
    ("extract_match(\"'orders_2026-06.csv'\", '\\\\d{4}-\\\\d{2}')", "2026-06"),
    ("extract_match(\"'K: v'\", '^(.+): (.+)$', 2)", "v"),
    ("extract_match(\"'none'\", '\\\\d+')", None),
    ("'round(' ~ kilometres_between(52.52, 13.405, 48.857, 2.352) ~ ')'", 877.0),
    ("'round(' ~ kilometres_between(0, 179.5, 0, -179.5) ~ ')'", 111.0),
    ("'round(' ~ kilometres_between(90, 0, -90, 0) ~ ')'", 20_015.0),
    ("kilometres_between(1, 'cast(null as double)', 1, 1)", None),
    ("without_accents(\"'Müller Łódź'\")", "Muller Łodz"),
    ("non_blank(\"'  a b '\")", "a b"),
    ("non_blank(\"'   '\")", None),
    ("decimal_comma(\"'1.234.567,85'\")", Decimal("1234567.85")),
    ("decimal_comma(\"' -0,5 '\")", Decimal("-0.50")),
    ("decimal_comma(\"'12'\")", Decimal("12.00")),
    ("decimal_comma(\"'7,125'\", 6, 3)", Decimal("7.125")),
    ("decimal_comma(\"'12.50'\")", None),
    ("decimal_comma(\"'1.2345,0'\")", None),
    ("decimal_comma(\"'12,5 EUR'\")", None),
    ("decimal_comma(\"''\")", None),
    ("decimal_comma('cast(null as string)')", None),
    ("whole_number(\"' 42'\")", 42),
    ("whole_number(\"'-3'\")", -3),
    ("whole_number(\"'2.5'\")", None),
    ("whole_number(\"'99999999999'\")", None),
    ("whole_number(\"'99999999999'\", 'bigint')", 99_999_999_999),
    ("exact_decimal(\"'12.50'\", 18, 2)", Decimal("12.50")),
    ("exact_decimal(\"' -.5'\", 18, 2)", Decimal("-0.50")),
    ("exact_decimal(\"'12.505'\", 18, 2)", None),
    ("exact_decimal(\"'12.'\", 18, 2)", None),
    ("exact_decimal(\"'12,50'\", 18, 2)", None),
    ("exact_decimal(\"'1e3'\", 18, 2)", None),
    ("exact_decimal(\"''\", 18, 2)", None),
    ("exact_decimal(\"'+'\", 18, 2)", None),
    ("exact_decimal(\"'1250'\", 18, 0)", Decimal("1250")),
    ("exact_decimal(\"'12.5'\", 18, 0)", None),
    (
        "exact_decimal(\"'1.250,5 kg'\", 18, 2, decimal_mark=',', thousands_mark='.', unit='kg')",
        Decimal("1250.50"),
    ),
    ("exact_decimal(\"'1.25,5'\", 18, 2, decimal_mark=',', thousands_mark='.')", None),
    ("exact_decimal(\"'1''250'\", 18, 2, thousands_mark=\"'\")", Decimal("1250.00")),
    ("boolean_of(\"' Yes'\", ['yes'], ['no'])", True),
    ("boolean_of(\"'NO'\", ['yes'], ['no'])", False),
    ("boolean_of(\"'perhaps'\", ['yes'], ['no'])", None),
    ("boolean_of(\"'x'\", ['x'], [])", True),
    ("share_pct('1', '3')", Decimal("33.33")),
    ("share_pct('0', '0')", None),
    (
        "utc_by_receiver(\"'2026-06-01T08:00:00Z'\", \"'2026-06-01T08:00:05Z'\","
        " \"'2026-06-01T08:01:05Z'\")",
        AT(2026, 6, 1, 8, 0),
    ),
    (
        "utc_by_receiver(\"'2026-06-01T08:00:00Z'\", \"'2026-06-01T08:00:05Z'\","
        " \"'2026-06-03T09:00:10Z'\")",
        AT(2026, 6, 3, 9, 0, 5),
    ),
    (
        "utc_by_receiver(\"'2026-06-01T08:00:00Z'\", 'cast(null as string)',"
        " \"'2026-06-03T09:00:10Z'\")",
        AT(2026, 6, 1, 8, 0),
    ),
    ("utc_timestamp(\"'2026-06-24T22:03:00-03:00'\")", AT(2026, 6, 25, 1, 3)),
    ("utc_timestamp(\"'2026-06-24T22:03:00Z'\")", AT(2026, 6, 24, 22, 3)),
    ("utc_timestamp(\"timestamptz '2026-06-24 22:03:00+02'\")", AT(2026, 6, 24, 20, 3)),
    ("utc_timestamp(\"'soon'\")", None),
    (f"utc_from_local({SUMMER}, \"'Europe/Berlin'\")", AT(2026, 3, 29, 1, 30)),
    (f"utc_from_local({WINTER}, \"'Europe/Berlin'\")", AT(2026, 3, 28, 2, 30)),
    (f"utc_from_local({WINTER}, \"'Mars/Base'\")", None),
    ("timestamp_from_epoch_ms(\"'1718000000123'\")", AT(2024, 6, 10, 6, 13, 20, 123_000)),
    ("timestamp_from_epoch_ms('-1')", AT(1969, 12, 31, 23, 59, 59, 999_000)),
    ("timestamp_from_epoch_ms(\"'x'\")", None),
    ("parse_timestamp(\"'31/12/2026 23:59'\", 'dd/MM/yyyy HH:mm')", AT(2026, 12, 31, 23, 59)),
    ("parse_date(\"'31.12.2026'\", 'dd.MM.yyyy')", dt.date(2026, 12, 31)),
    ("parse_date(\"'31.02.2026'\", 'dd.MM.yyyy')", None),
    ("parse_date(\"'2026-12-31'\", 'dd.MM.yyyy')", None),
    ("parse_date(\"'12-MAR-2026'\", 'dd-MMM-yyyy')", dt.date(2026, 3, 12)),
    ("parse_date(\"'March 2, 2026'\", 'MMMM dd, yyyy')", dt.date(2026, 3, 2)),
    ("parse_date(\"'2 Mrz 2026'\", 'dd MMM yyyy')", None),
    (f"minutes_between({WINTER}, \"timestamp '2026-03-28 03:31:59'\")", 1),
    (f"minutes_between({SUMMER}, {WINTER})", -1440),
    ("json_text(\"'{\\\"a\\\": {\\\"b\\\": [7, 8]}}'\", 'a.b[1]')", "8"),
    ("json_text(\"'{\\\"a\\\": null}'\", 'a')", None),
    ("json_text(\"'no json'\", 'a')", None),
    (
        "json_structs(\"'[{\\\"no\\\": \\\"1\\\"}, {\\\"qty\\\": 2}]'\", ['no', 'qty'])",
        [{"no": "1", "qty": None}, {"no": None, "qty": "2"}],
    ),
    ("json_structs(\"'no json'\", ['no'])", None),
    (f"json_lookup({PAIRS}, 'id', 2, 'v')", "b"),
    (f"json_lookup({PAIRS}, 'id', 3, 'v')", None),
    ("json_lookup(\"'[]'\", 'id', 2, 'v')", None),
    ("every_element('[1, 2]', 'element < 3')", True),
    ("every_element('[1, null]', 'element < 3')", False),
    ("every_element('cast(null as integer[])', 'element < 3')", True),
    ("surrogate_key([\"'a'\", 1])", hashlib.md5(b"a\x1f1").hexdigest()),
    ("surrogate_key([\"'a'\", 'null']) ~ \" = \" ~ surrogate_key([\"'a'\", \"''\"])", False),
    ("surrogate_key([\"'a|b'\", \"'c'\"]) ~ \" = \" ~ surrogate_key([\"'a'\", \"'b|c'\"])", False),
]  # fmt: skip

QUERIES: list[tuple[str, list[tuple[Any, ...]]]] = [
    (
        "date_spine_query(\"date '2024-02-28'\", \"date '2024-03-01'\")",
        [(dt.date(2024, 2, 28),), (dt.date(2024, 2, 29),), (dt.date(2024, 3, 1),)],
    ),
    (
        "explode_json('(select 1 as id, \\'[{\"a\": 1}, 2]\\' as list) as one', 'list', ['id'])",
        [(1, 1, '{"a":1}'), (1, 2, "2")],
    ),
    ("explode_json('(select 1 as id, \\'{\"a\": 1}\\' as list) as one', 'list', ['id'])", []),
    (
        "explode_structs('(select 1 as id, [10, 20] as list) as one', 'list', ['id'])",
        [(1, 1, 10), (1, 2, 20)],
    ),
]

MISUSES = {
    "json_text('a', '$.b')": "json_text: the path is $.b; expected keys joined by dots",
    "parse_date('a', 'dd Mon')": "the format is dd Mon; expected one built of yyyy",
    "parse_date('a', '%d.%m')": "the format is %d.%m",
    "surrogate_key('a')": "surrogate_key: columns is a; expected a list",
    "replace_matches('a', 'b', '\\\\1')": "replace_matches: the replacement is \\1",
}


SPARK_ARGUMENTS = {"format": "dd.MM.yyyy", "path": "a.b[0]", "pattern": "^a", "group": 1}
SPARK_LISTS = {"keep", "fields", "columns"}


def spark_sides() -> dict[str, str]:
    """Return for each `spark__` macro of the project a call with plain arguments."""
    calls = {}
    for file in sorted((PROJECT / "macros").rglob("*.sql")):
        text = file.read_text(encoding="utf-8")
        for name, arguments in re.findall(r"macro (spark__\w+)\(([^)]*)\)", text):
            given = []
            for argument in filter(None, (part.strip() for part in arguments.split(","))):
                plain = SPARK_ARGUMENTS.get(argument, argument)
                given.append(repr([plain] if argument in SPARK_LISTS else plain))
            calls[name] = f"{name}({', '.join(given)})"
    return calls


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.write("models/expressions.sql", "select\n" + ",\n".join(
        f"{{{{ {call} }}}} as answer_{number}" for number, (call, _) in enumerate(EXPRESSIONS)
    ))  # fmt: skip
    for number, (call, _) in enumerate(QUERIES):
        lab.write(f"models/query_{number}.sql", f"select * from ({{{{ {call} }}}}) as answers")
    for number, call in enumerate(MISUSES):
        lab.write(f"models/misuse_{number}.sql", f"{{% if execute %}}{{{{ {call} }}}}{{% endif %}}")
    for name, call in spark_sides().items():
        lab.write(f"analyses/{name}.sql", f"{{{{ {call} }}}}")
    lab.results = lab.dbt("build")
    lab.results |= lab.dbt("compile", "--select", "resource_type:analysis")
    return lab


@pytest.fixture(scope="module")
def answers(lab: Lab) -> tuple[Any, ...]:
    assert lab.results["expressions"][0] == "success", lab.results["expressions"]
    return lab.query("select * from main.expressions")[0]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(number, expected) for number, (_, expected) in enumerate(EXPRESSIONS)],
    ids=[call for call, _ in EXPRESSIONS],
)
def test_an_expression_gives_its_value(
    answers: tuple[Any, ...], number: int, expected: object
) -> None:
    assert answers[number] == expected


@pytest.mark.parametrize("number", range(len(QUERIES)), ids=[call for call, _ in QUERIES])
def test_a_query_gives_its_rows(lab: Lab, number: int) -> None:
    assert lab.results[f"query_{number}"][0] == "success", lab.results[f"query_{number}"]
    assert sorted(lab.query(f"select * from main.query_{number}")) == QUERIES[number][1]


@pytest.mark.parametrize("number", range(len(MISUSES)), ids=list(MISUSES))
def test_a_misuse_is_refused_with_what_is_expected(lab: Lab, number: int) -> None:
    status, message = lab.results[f"misuse_{number}"]
    assert status == "error"
    assert list(MISUSES.values())[number] in message


@pytest.mark.parametrize("name", spark_sides())
def test_the_spark_side_is_spark_sql(lab: Lab, name: str) -> None:
    compiled = lab.folder / "target" / "compiled" / "wellspring" / "analyses" / f"{name}.sql"
    sql = compiled.read_text(encoding="utf-8").strip()
    query = sql if sql.lower().startswith("select") else f"select {sql} from source"
    assert sqlglot.parse_one(query, read="spark").key == "select"
