"""`versions`, `diff`, `rollback`, `approve` and `pin` from the command line, on the toy shop."""

from __future__ import annotations

import json
from typing import Any

import pytest
from toyshop import Answer, Call, ToyShop, command

from ingestion.lock import RunLock

GATED = """
    models:
      - name: fct_sales
        description: One row per sale.
        access: public
        config:
          meta:
            gates:
              - {gates}
        columns:
          - name: sale_id
            description: Number of the sale.
            data_tests: [unique, not_null]
          - name: amount
            description: What was paid.
    """


def listed(call: Call, shop: ToyShop) -> list[dict[str, Any]]:
    answer = call(shop, "versions", "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def summary(answer: Answer) -> dict[str, Any]:
    return json.loads(answer.out.splitlines()[-1])


def amount(call: Call, shop: ToyShop) -> float:
    answer = call(shop, "sql", "--format", "json", "select sum(amount) as a from sales.fct_sales")
    return json.loads(answer.out)[0]["a"]


def gate(shop: ToyShop, text: str) -> None:
    shop.write("models/marts/sales/fct_sales.yml", GATED.replace("{gates}", text))


def test_versions_diff_and_rollback(shop: ToyShop, call: Call) -> None:
    first = shop.current
    shop.add_toys((1, "great bear", "grey"), (3, "train", "red"))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,3,30.00\n")
    assert call(shop, "run", "-q").code == 0
    second = shop.current

    newer, older = listed(call, shop)
    assert (newer["version"], newer["state"]) == (second, "current")
    assert (older["version"], older["state"]) == (first, "kept")
    assert newer["rows"] == 7
    assert newer["made_current"]["action"] == "publish"
    assert newer["made_current"]["run_id"] == second
    found = json.loads(call(shop, "diff", "--rows", "2", "--json").out)
    assert (found["before"], found["after"]) == (first, second)
    toys, sales = found["tables"]
    assert (toys["added"], toys["changed"], toys["cells"]) == (1, 1, {"toy_name": 1})
    assert toys["key"] == ["toy_id"]
    assert toys["samples"][1]["cells"] == {"toy_name": {"before": "bear", "after": "great bear"}}
    assert (sales["rows"], sales["added"]) == ({"before": 3, "after": 4}, 1)
    shown = call(shop, "diff", str(first), "current", "--table", "dim_toys", "--rows", "1").out
    assert "toy_name: bear -> great bear" in shown
    assert "fct_sales" not in shown

    answer = call(shop, "rollback")
    assert answer.code == 0, answer.err
    assert f"readers get {first} again" in answer.out
    assert shop.current == first
    assert [v["state"] for v in listed(call, shop)] == ["rolled back", "current"]
    assert "rolled back: the same content is not published" in call(shop, "versions").out


def test_run_after_a_rollback_says_what_is_held_back(shop: ToyShop, call: Call) -> None:
    first = shop.current
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,30.00\n")
    call(shop, "run", "-q")
    second = shop.current
    call(shop, "rollback")

    answer = call(shop, "run", "--log-format", "json")

    assert answer.code == 8
    told = summary(answer)
    assert (told["status"], told["held_back"], told["published"]) == ("partly", second, None)
    assert "from which readers were taken back" in told["errors"][0]["message"]
    assert shop.current == first
    assert call(shop, "rollback", str(second)).code == 0
    assert call(shop, "run", "-q").code == 0
    assert shop.current == second


def test_gate_holds_a_run_back_until_it_is_approved(shop: ToyShop, call: Call) -> None:
    gate(shop, '{measure: "sum(amount)", moves: 20%}')
    assert call(shop, "run", "-q").code == 0
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1000.00\n")

    held = call(shop, "run")

    assert held.code == 8, held.out + held.err
    assert "sales.fct_sales: sum(amount) moved from 24.80 to 1,024.80" in held.out
    assert "wellspring approve" in held.out
    assert amount(call, shop) == 24.80
    waiting = listed(call, shop)[0]
    assert (waiting["state"], waiting["published_at"]) == ("waiting", None)
    assert (shop.published / waiting["version"] / "docs" / "index.html").is_file()
    again = call(shop, "run")
    assert again.code == 8
    assert "still waits for approval" in again.out
    assert "sales.fct_sales" in call(shop, "diff", "current", "waiting").out
    assert "wellspring approve" in call(shop, "versions").out
    assert f"waiting    {waiting['version']}" in call(shop, "status").out

    assert call(shop, "approve", waiting["version"]).code == 0
    assert amount(call, shop) == 1024.80
    assert listed(call, shop)[0]["made_current"]["action"] == "approve"
    assert call(shop, "run", "-q").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{measure: rows, moves: much}", "meta.gates.0.moves: found 'much'; expected a share"),
        ("{measure: amount, moves: 1}", "found 'amount'; expected `rows` or an aggregate"),
        ("{measure: sum(price), moves: 1}", "the model has no column price; known: amount"),
        ("{measure: rows, moves: 1, where: sum(amount) > 1}", "expected a condition on a row"),
        ("{measure: rows, moves: 1, when: x}", "meta.gates.0.when"),
        ("{measure: '1 +', moves: 1}", "found '1 +'"),
    ],
)
def test_wrong_gate_is_told_before_anything_runs(
    shop: ToyShop, call: Call, text: str, said: str
) -> None:
    gate(shop, text)

    answer = call(shop, "run")

    assert answer.code == 3
    assert "models/marts/sales/fct_sales.yml: model fct_sales" in answer.out
    assert said in answer.out
    assert len(listed(call, shop)) == 1


def test_gate_of_a_model_that_is_not_published_is_wrong(shop: ToyShop, call: Call) -> None:
    shop.write(
        "models/marts/sales/sales_by_toy.yml",
        """
        models:
          - name: sales_by_toy
            config: {meta: {gates: [{measure: rows, moves: 1}]}}
        """,
    )
    yaml = shop.root / "models/marts/sales/fct_sales.yml"
    yaml.write_text(yaml.read_text().partition("  - name: sales_by_toy")[0])

    answer = call(shop, "run")

    assert answer.code == 3
    assert "only a published mart can have them" in answer.out


def test_list_works_during_a_run_and_changes_wait_for_its_end(shop: ToyShop, call: Call) -> None:
    with RunLock(shop.data / "state" / "run.lock", "20260101T000000Z-aaaa", "wellspring run"):
        assert len(listed(call, shop)) == 1
        refused = command(shop, "rollback")
    assert refused.code == 5
    assert "another run is under way" in refused.err


def test_pin_and_names(shop: ToyShop, call: Call) -> None:
    assert call(shop, "pin", "current").code == 0
    assert listed(call, shop)[0]["pinned"]
    assert "current, pinned" in call(shop, "versions").out
    assert call(shop, "pin", str(shop.current), "--off").code == 0
    assert not listed(call, shop)[0]["pinned"]
    answer = call(shop, "rollback", "20010101T000000Z-0000")
    assert answer.code == 6
    assert "wellspring versions" in answer.err
    assert call(shop, "approve").code == 6


def test_nothing_published_yet(fresh: ToyShop, call: Call) -> None:
    assert "nothing is published yet" in call(fresh, "versions").out
    assert call(fresh, "rollback").code == 6
    assert call(fresh, "diff").code == 6
