"""Types widen only where no digit can be lost."""

from __future__ import annotations

import pytest

from ingestion.evolution import Evolution, widened


@pytest.mark.parametrize(
    ("old", "new", "wide"),
    [
        ("INTEGER", "BIGINT", "BIGINT"),
        ("BIGINT", "SMALLINT", "BIGINT"),
        ("UTINYINT", "USMALLINT", "USMALLINT"),
        ("UTINYINT", "TINYINT", "SMALLINT"),
        ("UBIGINT", "BIGINT", "HUGEINT"),
        ("UBIGINT", "HUGEINT", "VARCHAR"),
        ("DECIMAL(10,2)", "DECIMAL(12,4)", "DECIMAL(12,4)"),
        ("DECIMAL(10,2)", "DECIMAL(6,4)", "DECIMAL(12,4)"),
        ("DECIMAL(38,2)", "DECIMAL(10,4)", "VARCHAR"),
        ("DECIMAL(10,2)", "INTEGER", "DECIMAL(12,2)"),
        ("FLOAT", "DOUBLE", "DOUBLE"),
        ("INTEGER", "DOUBLE", "DOUBLE"),
        ("FLOAT", "INTEGER", "DOUBLE"),
        ("BIGINT", "DOUBLE", "VARCHAR"),
        ("DECIMAL(10,2)", "DOUBLE", "VARCHAR"),
        ("DATE", "TIMESTAMP", "VARCHAR"),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR"),
        ("BOOLEAN", "INTEGER", "VARCHAR"),
        ("STRUCT(a INTEGER)", "STRUCT(a BIGINT)", "VARCHAR"),
        ("VARCHAR", "DATE", "VARCHAR"),
    ],
)
def test_the_wider_type(old: str, new: str, wide: str) -> None:
    assert widened(old, new) == wide


def test_text_that_gets_numbers_stays_as_it_is() -> None:
    assert Evolution("t", {"n": "VARCHAR"}).plan({"n": "INTEGER"}) == []


def test_names_and_types_are_quoted() -> None:
    (change,) = Evolution('"s"."t"', {}).plan({'a"b': "INTEGER"})
    assert change.statement == 'alter table "s"."t" add column "a""b" INTEGER'
