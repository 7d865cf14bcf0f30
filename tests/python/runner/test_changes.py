"""Patches that follow a change of a source, and the command that tells and applies them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from toyshop import Call, ToyShop

from ingestion.declarations import DatabaseTable, SourceDeclaration, TableDeclaration
from ingestion.errors import DeclarationError
from ingestion.schema.journal import Noted
from ingestion.schema.shapes import Change, Shape, ShapeColumn
from runner.changes.patches import Patched, Patches, Place
from runner.changes.staging_sql import with_fallback
from runner.yaml_scalar import scalar

YAML = """\
sources:
  - name: shop      # ours
    config: {meta: {ingest: {kind: database, connection: shop, primary_key: [id]}}}
    tables:
      - name: orders
        columns:
          - name: id
            data_type: integer
            description: Number of the order.
          - name: amount      # in cents
            data_type: integer
            description: >
              What it cost,
              all in all.

      - name: notes
        config:
          meta:
            ingest:
              cursor: Changed_At
              window: 1 day
        columns:
          - {name: id, data_type: bigint}
          - {name: changed_at, data_type: timestamp, config: {meta: {pii: none}}}
"""
FILE = "models/sources.yml"
SHAPE = Shape(
    (
        ShapeColumn("id", "BIGINT", "id", "bigint"),
        ShapeColumn("amount", "DECIMAL(12,2)", "amount", "numeric(12,2)"),
        ShapeColumn("colour", "VARCHAR", "colour", "text"),
        ShapeColumn("order_no", "BIGINT", "OrderNo", "bigint"),
    )
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_text(YAML)
    return tmp_path


def patched(root: Path, table: str, *changes: Change) -> str:
    """The YAML once it follows changes of a table; a second patch finds nothing to do."""
    declared = TableDeclaration(table, f"source.x.shop.{table}", DatabaseTable())
    source = SourceDeclaration("shop", "raw_shop", "database", "shop", FILE, (declared,))
    noted = [Noted("shop#1", "shop", table, change, "2026-03-04T05:06:07Z") for change in changes]
    pairs = [(entry, Place(source, declared, SHAPE, ())) for entry in noted]
    (found,) = Patches(root).of(pairs)
    (root / FILE).write_text(found.after)
    assert Patches(root).of(pairs) == []
    return found.after


def lines_in(before: str, after: str) -> list[str]:
    """Lines that a patch adds."""
    return [line for line in after.splitlines() if line not in before.splitlines()]


def test_a_new_column_is_declared_in_the_style_of_its_table(root: Path) -> None:
    block = patched(root, "orders", Change("column_added", "colour"))
    assert lines_in(YAML, block) == [
        "          - name: colour",
        "            data_type: string",
        "            description: In the source since 2026-03-04.",
    ]
    assert block.index("all in all.") < block.index("colour") < block.index("name: notes")
    assert lines_in(block, patched(root, "notes", Change("column_added", "colour"))) == [
        "          - {name: colour, data_type: string, "
        "description: In the source since 2026-03-04.}"
    ]


def test_a_column_is_declared_by_its_name_whatever_yaml_makes_of_it(root: Path) -> None:
    text = patched(root, "orders", Change("column_added", "no"))
    columns = yaml.safe_load(text)["sources"][0]["tables"][0]["columns"]
    assert [column["name"] for column in columns] == ["id", "amount", "no"]


ODD_TEXTS = (
    *("no", "Null", "y", "~", "2026-03-04", "1e3", "a: b", "a #b", "a, b", "[a", "- a", "a\nb"),
    *(" a", '"a"', "'a", "a\\b", "", "*a", "é", "decimal(12, 2)", "One row per order.", "colour"),
)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_text_as_yaml_is_read_as_that_text(text: str) -> None:
    assert yaml.safe_load(f"name: {scalar(text)}") == {"name": text}
    assert yaml.safe_load(f"[{scalar(text)}, {scalar(text)}]") == [text, text]


def test_a_lost_column_is_marked_and_its_cursor_goes(root: Path) -> None:
    assert lines_in(YAML, patched(root, "orders", Change("column_lost", "amount"))) == [
        '            config: {meta: {gone_since: "2026-03-04"}}'
    ]
    text = patched(root, "notes", Change("column_lost", "changed_at"))
    assert '{pii: none, gone_since: "2026-03-04"}' in text
    assert "cursor" not in text
    assert "window" not in text
    back = patched(root, "notes", Change("column_back", "changed_at"))
    assert "config: {meta: {pii: none}}" in back


def test_a_renamed_key_is_renamed_where_extraction_names_it(root: Path) -> None:
    text = patched(root, "orders", Change("column_renamed", "order_no", "id", "order_no"))
    assert "config: {meta: {ingest: {primary_key: [OrderNo]}}}" in text, "as the source spells it"
    assert "connection: shop, primary_key: [id]" in text, "other tables keep theirs"
    assert 'description: "Formerly `id`."' in text


def test_types_that_do_not_hold_the_new_values_are_widened(root: Path) -> None:
    text = patched(root, "orders", Change("column_retyped", "amount", "integer", "numeric(12,2)"))
    assert 'data_type: "decimal(12, 2)"' in text
    assert "# in cents" in text


def test_a_table_of_another_name_is_read_from_there(root: Path) -> None:
    text = patched(root, "orders", Change("table_renamed", "", "orders", "sales orders"))
    assert lines_in(YAML, text) == [
        "        config: {meta: {ingest: {from: sales orders}}}",
    ]


def test_a_patch_that_the_project_refuses_is_taken_back(root: Path) -> None:
    def refuse() -> None:
        raise DeclarationError(message="no")

    with pytest.raises(DeclarationError, match="with the patch, the project is refused: no"):
        Patches(root).apply([Patched(FILE, YAML, "sources: [")], refuse)
    assert (root / FILE).read_text() == YAML


PARTS = """\
with

source as (

    select * from {{ source('shop', 'orders') }}

),

cleaned as (

    select
        id,
        {{ non_blank('cust') }} as customer,
        cust,  -- cust as it is
        source.cust as plain,
        upper(cust) as cust
    from source
    where cust <> ''

),

counted as (

    select cust, count(*) as orders from cleaned group by cust

)

select * from counted
"""


def test_staging_reads_the_new_name_and_falls_back_to_the_old_one() -> None:
    text = with_fallback(PARTS, "cust", "customer_no")
    changed = [line.strip() for line in text.splitlines() if line not in PARTS.splitlines()]
    assert changed == [
        "{{ non_blank('coalesce(customer_no, cust)') }} as customer,",
        "coalesce(customer_no, cust) as cust,  -- cust as it is",
        "coalesce(source.customer_no, source.cust) as plain,",
        "upper(coalesce(customer_no, cust)) as cust",
        "where coalesce(customer_no, cust) <> ''",
    ]
    assert with_fallback(text, "cust", "customer_no") == text


def test_a_column_named_like_a_word_of_sql_is_told_from_the_word() -> None:
    text = (
        "select source.select as a, {{ flag('source.select') }} as b, \"select\" as c\n"
        "from {{ source('a', 'b') }} as source\n"
    )
    assert with_fallback(text, "select", "chosen") == (
        "select coalesce(source.chosen, source.select) as a, "
        "{{ flag('coalesce(source.chosen, source.select)') }} as b, "
        'coalesce(chosen, "select") as c\n'
        "from {{ source('a', 'b') }} as source\n"
    )
    bare = with_fallback("select upper(cust) as c from {{ source('a', 'b') }}", "cust", "order")
    assert 'upper(coalesce("order", cust))' in bare


def test_a_query_in_one_part_is_followed_too() -> None:
    text = "select cust, id from {{ source('a', 'b') }}\n"
    assert with_fallback(text, "cust", "no") == (
        "select coalesce(no, cust) as cust, id from {{ source('a', 'b') }}\n"
    )


def test_a_rename_is_told_with_what_depends_on_it_patched_and_followed(
    shop: ToyShop, call: Call
) -> None:
    shop.add_toys(*[(n, f"toy {n}", ("red", "grey", "blue")[n % 3]) for n in range(3, 20)])
    assert call(shop, "extract", "load", "-q").code == 0
    with closing(sqlite3.connect(shop.systems / "stock.sqlite")) as stock, stock:
        stock.execute("alter table toys rename column colour to shade")
    done = call(shop, "extract", "load", "--log-format", "json")
    (told,) = json.loads(done.out)["schema_changes"]
    assert told["table"] == "stock.toys"
    assert told["message"] == (
        "renamed column colour to shade: 2 models depend on it (`wellspring changes stock#1`)"
    )
    (known,) = json.loads(call(shop, "changes", "--json").out)["changes"]
    assert known["state"] == "open"
    assert known["affects"]["models"] == [
        {"model": "stg_stock__toys", "columns": ["colour"], "rows": False},
        {"model": "dim_toys", "columns": [], "rows": True},
    ]
    assert call(shop, "changes", "--diff").out == known["patch"]
    applied = call(shop, "changes", "--apply")
    assert applied.code == 0, applied.err
    assert "coalesce(shade, colour) as colour" in (
        shop.root / "models/staging/stock/stg_stock__toys.sql"
    ).read_text(encoding="utf-8")
    assert json.loads(call(shop, "changes", "--json").out)["changes"] == []
    assert "1 settled" in call(shop, "changes").out
    done = call(shop, "build", "audit")
    assert done.code == 0, done.err
    assert "renamed column colour to shade" in call(shop, "changes", "stock.toys").out
    unknown = call(shop, "changes", "stock.tois")
    assert (unknown.code, "no change of stock.tois is known" in unknown.err) == (6, True)
