"""A run killed wherever a build becomes durable: the next one gives what a rebuild gives."""

from __future__ import annotations

from decimal import Decimal

import pytest
from keeping_kit import content, good, killed
from toyshop import Call, ToyShop

# In the order of their passing. Where code is unchanged, statements are played and no dbt starts.
PLAYED = (
    "compiled.before_note",
    "build.statement_done",
    "build.before_commit",
    "build.committed",
    "build.before_marks",
)


def sell(shop: ToyShop, number: int) -> None:
    shop.add_sales(f"sales_{number}.csv", f"sale_id,toy_id,amount\n{number},1,{number}.50\n")


def test_a_played_build_survives_death_upon_death(shop: ToyShop, call: Call) -> None:
    for number, point in enumerate(PLAYED, start=4):
        sell(shop, number)
        killed(shop, point, "run", "--quiet")
    good(call(shop, "run", "--quiet"))
    after = content(shop)
    assert len(after['"sales"."fct_sales"'][1]) == 3 + len(PLAYED)
    good(call(shop, "rebuild", "--quiet"))
    assert content(shop) == after


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_kept_of_changed_code_is_whole_or_made_again(
    shop: ToyShop, call: Call, times: int
) -> None:
    path = "models/marts/sales/sales_by_toy.sql"
    changed = "select toy_id, sum(amount) * 2 as amount from {{ ref('fct_sales') }} group by toy_id"
    shop.write(path, changed)
    killed(shop, "compiled.written", "run", "--quiet", times=times)
    good(call(shop, "run", "--quiet"))
    rows = content(shop)['"sales"."sales_by_toy"'][1]
    assert rows == [(1, Decimal("39.60")), (2, Decimal("10.00"))]
