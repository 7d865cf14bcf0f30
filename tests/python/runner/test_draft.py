"""Drafted models build, pass the house's checks and keep every value; edits of people survive."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import checks
import pytest
import yaml
from dying import killed_at
from screenedshop import rows
from studio import make_studio, put, sale
from toyshop import ToyShop, command

from ingestion.errors import BadInput
from runner.discover.model import (
    Behind,
    ColumnProfile,
    Discovery,
    Frequent,
    Key,
    Personal,
    Problem,
    Reference,
    TableProfile,
)
from runner.draft import merge
from runner.draft.columns import Column, draft_column
from runner.draft.marts import keyed_sql
from runner.draft.names import column_name, entity_of, foreign_key, plural
from runner.draft.notes import almost_figures
from runner.draft.project_files import with_area, with_staging_models
from runner.draft.tables import plan_tables

STAGING = "models/staging/studio"
SALES = f"{STAGING}/stg_studio__sales"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> ToyShop:
    """The studio, loaded, drafted and run."""
    shop = make_studio(tmp_path_factory.mktemp("draft") / "studio")
    loaded = command(shop, "extract", "load", "--quiet")
    assert loaded.code == 0, loaded.out + loaded.err
    drafted = command(shop, "draft")
    assert drafted.code == 0, drafted.out + drafted.err
    (shop.root / "drafted.txt").write_text(drafted.out, encoding="utf-8")
    done = command(shop, "run", "--quiet")
    assert done.code == 0, done.out + done.err
    return shop


# -- what is drafted ---------------------------------------------------------------------------


def test_kinds_of_marts_follow_from_references_times_and_amounts(studio: ToyShop) -> None:
    marts = {path.stem for path in (studio.root / "models/marts/studio").glob("*.sql")}
    assert marts == {"dim_artists", "dim_albums", "fct_sales", "dim_logs"}


def test_no_row_is_lost_and_no_value_changed_on_the_way_to_the_marts(studio: ToyShop) -> None:
    facts = rows(
        studio,
        "select sale_no, sale_date::varchar, price, is_paid, sale_order, shelf from "
        "studio.fct_sales where sale_no in ('S00001', 'S00050', 'S00100')  order by 1",
    )
    assert facts == [
        ("S00001", "2025-02-02", Decimal("1001.01"), True, "shop", "000001"),
        ("S00050", "2025-03-23", None, True, "web", "000050"),
        ("S00100", "2025-05-17", None, True, "web", "000100"),
    ]
    assert rows(studio, "select count(*), count(album_key) from studio.fct_sales") == [(399, 398)]
    joined = rows(
        studio,
        "select count(*) from studio.fct_sales inner join studio.dim_albums using (album_key) "
        "inner join studio.dim_artists using (artist_key)",
    )
    assert joined == [(398,)]
    assert rows(studio, "select count(manager_artist_key) from studio.dim_artists") == [(37,)]


def test_what_cannot_be_read_is_quarantined_and_what_is_orphaned_told(studio: ToyShop) -> None:
    rejected = "select record_key, reasons from quarantine.stg_studio__sales"
    assert rows(studio, rejected) == [("S00007", "price is unreadable")]
    found = (
        "select record_key, defect, treatment from findings.stg_studio__sales "
        "where rule like '%refers%'"
    )
    assert rows(studio, found) == [("S00009", "orphaned", "staged")]


def test_alike_rows_without_a_key_are_one_and_the_books_say_so(studio: ToyShop) -> None:
    told = (studio.root / "drafted.txt").read_text(encoding="utf-8")
    assert "studio.log: nothing identifies a row" in told
    counted = (
        "select outcome, row_count from books.row_outcomes where table_name = 'log' order by 1"
    )
    assert rows(studio, counted) == [("staged", 1), ("superseded", 2)]


def test_the_draft_says_what_it_rests_on(studio: ToyShop) -> None:
    text = (studio.root / f"{SALES}.yml").read_text(encoding="utf-8")
    assert "# seen: 400 rows, each with another value; declared" in text
    assert "# seen: 392 of 400 rows have a value" in text
    artists = yaml.safe_load((studio.root / f"{STAGING}/stg_studio__artists.yml").read_text())
    (model,) = artists["models"]
    pii = {c["name"]: c.get("config", {}).get("meta", {}).get("pii") for c in model["columns"]}
    assert pii["e_mail"] == "email"
    docs = (studio.root / f"{STAGING}/_studio__docs.md").read_text(encoding="utf-8")
    assert "Personal data (email)" in docs
    assert "mail.example" not in docs + text


def test_the_draft_passes_the_checks_of_the_house(studio: ToyShop) -> None:
    target = studio.root / "target"
    manifest = json.loads((target / "manifest.json").read_text())
    catalog = json.loads((target / "catalog.json").read_text())
    findings = [finding for rule in checks.BY_MANIFEST for finding in rule(manifest)]
    findings += checks.documented_is_built(manifest, catalog)
    # Parts of the books were not copied, so some of their sources are read by nothing.
    drafted = [f for f in findings if not f.file.startswith("models/ledger/")]
    assert not drafted, "\n".join(map(str, drafted))
    tests = [n for n in manifest["nodes"].values() if n["resource_type"] == "test"]
    assert sum("studio" in test["original_file_path"] for test in tests) > 30
    assert len(manifest["unit_tests"]) == 4


def test_lines_keep_within_the_width_of_the_house(studio: ToyShop) -> None:
    for path in (studio.root / "models").rglob("*.sql"):
        if "studio" in path.parts:
            assert max(map(len, path.read_text().splitlines())) <= 80, path


# -- drafting again ----------------------------------------------------------------------------


def test_a_second_draft_merges_proposes_and_respects_what_people_did(studio: ToyShop) -> None:
    albums = studio.root / f"{STAGING}/stg_studio__albums.yml"
    docs = studio.root / f"{STAGING}/_studio__docs.md"
    sales = studio.root / f"{SALES}.sql"
    mart = studio.root / "models/marts/studio/dim_logs.sql"
    _edit(docs, "Text of up to 9 characters, 120 different. Never missing so far.", "The title.")
    _edit(albums, "One row per album of studio", "One row per record of the studio")
    _edit(sales, "as price,", "as price_paid,")
    mart.unlink()
    mart.with_suffix(".yml").unlink()
    with sqlite3.connect(studio.systems / "stock.sqlite") as connection:
        connection.execute("alter table Album add column Press text")
        connection.execute("update Album set Press = 'Press ' || (AlbumId % 3)")
        # More digits than the draft provided for, in the line that was edited.
        put(connection, "Sale", [(*sale(500)[:3], "1,1234", *sale(500)[4:])])
    connection.close()
    assert command(studio, "extract", "load", "--quiet").code == 0
    before = sales.read_text()
    looked = command(studio, "draft", "--diff")
    assert "+        {{ non_blank('press') }} as press," in looked.out
    assert "Nothing was written" in looked.out
    assert "press" not in albums.read_text()

    again = command(studio, "draft", "--json")
    assert again.code == 0, again.out + again.err
    given = json.loads(again.out)
    what = {file["path"]: file["what"] for file in given["files"]}
    assert what[f"{STAGING}/stg_studio__albums.sql"] == "changed"
    assert what[f"{STAGING}/stg_studio__albums.yml"] == "merged"
    assert what[f"{STAGING}/_studio__docs.md"] == "merged"
    assert what[f"{SALES}.sql"] == "conflict"
    assert what["models/marts/studio/dim_logs.sql"] == "deleted"
    assert what[f"{STAGING}/stg_studio__artists.yml"] == "same"
    assert "One row per record of the studio" in albums.read_text()
    assert "- name: press" in albums.read_text()
    assert "The title." in docs.read_text()
    assert "press" in docs.read_text()
    assert "press" in (studio.root / "models/marts/studio/dim_albums.sql").read_text()
    assert sales.read_text() == before
    assert given["proposals"] == [f"{SALES}.sql.proposed"]
    proposal = (studio.root / f"{SALES}.sql.proposed").read_text()
    assert "exact_decimal(\n            'price', 18, 4" in proposal
    assert not mart.exists()


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, path
    path.write_text(text.replace(old, new), encoding="utf-8")


# -- one file ----------------------------------------------------------------------------------

PLACE = "models/x.yml"
FIRST = "# seen: 10 rows\nname: a\ntext: one\nkind: b\nlast: c\n"


def drafted(root: Path, text: str) -> str:
    outcome = merge.settle(root, PLACE, text)
    merge.write(root, outcome)
    return outcome.what


def test_edits_and_drafts_of_other_lines_are_merged(tmp_path: Path) -> None:
    assert drafted(tmp_path, FIRST) == "new"
    assert drafted(tmp_path, FIRST) == "same"
    (tmp_path / PLACE).write_text(FIRST.replace("one", "mine"))
    assert drafted(tmp_path, FIRST) == "kept"
    assert drafted(tmp_path, FIRST + "more: d\n") == "merged"
    assert (tmp_path / PLACE).read_text() == FIRST.replace("one", "mine") + "more: d\n"


def test_figures_alone_are_no_new_draft(tmp_path: Path) -> None:
    drafted(tmp_path, FIRST)
    assert drafted(tmp_path, FIRST.replace("10 rows", "11 rows")) == "same"
    assert "10 rows" in (tmp_path / PLACE).read_text()
    assert drafted(tmp_path, FIRST.replace("10 rows", "11 rows").replace("one", "two")) == "changed"
    assert "10 rows" in (tmp_path / PLACE).read_text()


def test_a_conflict_leaves_the_file_and_is_proposed_once(tmp_path: Path) -> None:
    drafted(tmp_path, FIRST)
    mine = FIRST.replace("one", "mine").replace("last: c", "last: z")
    (tmp_path / PLACE).write_text(mine)
    new = FIRST.replace("one", "theirs")
    assert drafted(tmp_path, new) == "conflict"
    assert (tmp_path / PLACE).read_text() == mine
    proposal = (tmp_path / f"{PLACE}.proposed").read_text()
    assert proposal == mine.replace("mine", "theirs")
    assert merge.proposals(tmp_path) == [f"{PLACE}.proposed"]
    assert drafted(tmp_path, new) == "kept"


def test_without_git_both_sides_changed_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafted(tmp_path, FIRST)
    (tmp_path / PLACE).write_text(FIRST.replace("one", "mine"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert drafted(tmp_path, FIRST + "more: d\n") == "conflict"
    assert (tmp_path / f"{PLACE}.proposed").read_text() == FIRST + "more: d\n"


def test_what_people_wrote_or_deleted_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / PLACE).write_text("name: by hand\n")
    assert drafted(tmp_path, FIRST) == "own"
    assert (tmp_path / PLACE).read_text() == "name: by hand\n"
    (tmp_path / PLACE).unlink()
    assert drafted(tmp_path, FIRST) == "new"
    (tmp_path / PLACE).unlink()
    assert drafted(tmp_path, FIRST.replace("one", "two")) == "deleted"
    assert not (tmp_path / PLACE).exists()


@pytest.mark.parametrize("point", ["draft.begun", "draft.written"])
@pytest.mark.parametrize("edit", ["", "mine"])
def test_a_death_while_drafting_leaves_nothing_half_done(
    tmp_path: Path, point: str, edit: str
) -> None:
    if edit:
        drafted(tmp_path, FIRST)
        (tmp_path / PLACE).write_text(FIRST.replace("one", edit))
    text = FIRST + "more: d\n"
    killed_at(point, lambda: drafted(tmp_path, text))
    merge.recover(tmp_path)
    drafted(tmp_path, text)
    wanted = text.replace("one", edit) if edit else text
    assert (tmp_path / PLACE).read_text() == wanted
    assert merge.base_of(tmp_path, PLACE).read_text() == text
    assert drafted(tmp_path, text) == ("kept" if edit else "same")
    assert list(tmp_path.rglob("*~")) == []


# -- files that list what there is -------------------------------------------------------------


def test_lists_gain_what_is_missing_and_keep_the_rest() -> None:
    for text in ("{%- set names = [] -%}\n", '{%- set names = [\n        "stg_a",\n    ] -%}\n'):
        found = with_staging_models(text, ["stg_b"])
        assert '"stg_b",\n    ] -%}' in found
        assert with_staging_models(found, ["stg_b"]) == found
    with pytest.raises(BadInput, match="list of staging models"):
        with_staging_models("nothing", ["stg_b"])
    project = (
        "name: p\nmodels:\n  p:\n    # what readers get\n    marts:\n      +access: public\n"
        "      core:\n        +schema: core\n    # the books\n    ledger: {+schema: books}\n"
    )
    found = with_area(project, "crm")
    assert found == project.replace(
        "    # the books", "      crm:\n        +schema: crm\n        +group: crm\n    # the books"
    )
    assert with_area(found, "crm") == found
    with pytest.raises(BadInput, match="not configured") as error:
        with_area("name: p\nmodels: {p: {marts: {+access: public}}}\n", "crm")
    assert "crm: {+schema: crm, +group: crm}" in error.value.hint


# -- columns and names -------------------------------------------------------------------------


def column_of(data_type: str, name: str = "pieces", **more: Any) -> Column:
    profile = replace(ColumnProfile(name, data_type, 0, 0.0, 40, True), **more)
    key = ColumnProfile("thing_no", "VARCHAR", 0, 0.0, 100, True)
    table = TableProfile(
        "crm", "things", "raw_crm.things", rows=100, columns=(key, profile),
        primary_key=Key(("thing_no",), 0, 0, 1.0),
    )  # fmt: skip
    return draft_column(profile, table, "thing", (), False, set())


def test_a_value_that_keeps_a_column_from_being_a_number_is_told() -> None:
    sums: dict[str, Any] = {"shapes": (("99,99", 0.9), ("Aaaaa", 0.1))}
    sums["frequent"] = (Frequent("12,50", 2), Frequent("Total", 1))
    told = almost_figures(column_of("VARCHAR", **sums).profile)
    assert told == "stays text because of `Total`; 90% of its values look like `99,99`"
    codes = {"shapes": (("A-99", 0.7), ("99", 0.3))}
    assert almost_figures(column_of("VARCHAR", **codes).profile) == ""
    assert almost_figures(column_of("VARCHAR", **{**sums, **WHOLE}).profile) == ""
    hidden = {**sums, "personal": Personal("national_id", "name")}
    assert almost_figures(column_of("VARCHAR", **hidden).profile) == ""


DAY = {"behind": Behind("date", "date", format="%d.%m.%Y")}
SWAPPED_DAY = {"behind": Behind("date", "date", format="%m/%d/%Y", is_ambiguous=True)}
SHORT_DAY = {"behind": Behind("date", "date", format="%d.%m.%y")}
WORDED_DAY = {"behind": Behind("date", "date", format="%d %b %Y")}
MOMENT = {"behind": Behind("timestamp", "timestamp with time zone", format="iso")}
EPOCH = {"behind": Behind("epoch", "timestamp", format="ms")}
WHOLE = {"behind": Behind("integer", "bigint")}
COMMA = {"behind": Behind("decimal", "decimal(38, 3)", decimal_mark=",", thousands_mark=".")}
SWAPPED_COMMA = {"behind": Behind("decimal", "decimal(38, 2)", is_ambiguous=True)}
YES_OR_NO = {
    "behind": Behind("boolean", "boolean", trues=("yes",)),
    "frequent": (Frequent("Yes", 5), Frequent("no", 5), Frequent("n/a", 1)),
    "problems": (Problem("placeholder", 1, "", ("n/a",)),),
}
TEXT = "{{ non_blank('pieces') }}"
COMMA_CALL = "exact_decimal('pieces', 18, 3, decimal_mark=',', thousands_mark='.')"
EPOCH_CALL = "timestamp_from_epoch_ms(whole_number('pieces', 'bigint'))"
READINGS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("VARCHAR", WHOLE, "{{ whole_number('pieces', 'bigint') }}", "bigint", "pieces"),
    ("VARCHAR", COMMA | {"longest": 9}, f"{{{{ {COMMA_CALL} }}}}", "decimal(18, 3)", "pieces"),
    ("VARCHAR", SWAPPED_COMMA, TEXT, "string", "pieces"),
    ("VARCHAR", DAY, "{{ parse_date('pieces', 'dd.MM.yyyy') }}", "date", "pieces_date"),
    ("VARCHAR", SWAPPED_DAY, TEXT, "string", "pieces"),
    ("VARCHAR", WORDED_DAY, "{{ parse_date('pieces', 'dd MMM yyyy') }}", "date", "pieces_date"),
    ("VARCHAR", SHORT_DAY, TEXT, "string", "pieces"),
    ("VARCHAR", MOMENT, "{{ utc_timestamp('pieces') }}", "timestamp", "pieces_at"),
    ("VARCHAR", EPOCH, f"{{{{ {EPOCH_CALL} }}}}", "timestamp", "pieces_at"),
    ("VARCHAR", YES_OR_NO, "{{ boolean_of('pieces', ['yes'], ['no']) }}", "boolean", "is_pieces"),
    ("VARCHAR", {"behind": Behind("json", "json")}, TEXT, "string", "pieces"),
    ("VARCHAR", {}, TEXT, "string", "pieces"),
    ("DECIMAL(10,2)", {}, "pieces", "decimal(10, 2)", "pieces"),
    ("HUGEINT", {}, "try_cast(pieces as decimal(38, 0))", "decimal(38, 0)", "pieces"),
    ("UUID", {}, "cast(pieces as string)", "string", "pieces"),
    ("BOOLEAN", {}, "pieces", "boolean", "is_pieces"),
    ("TIMESTAMP", {}, "pieces", "timestamp", "pieces_at"),
    ("TIMESTAMP WITH TIME ZONE", {}, "{{ utc_timestamp('pieces') }}", "timestamp", "pieces_at"),
    ("STRUCT(a INTEGER)[]", {}, "pieces", "", "pieces"),
]


@pytest.mark.parametrize(("data_type", "more", "expression", "typed", "name"), READINGS)
def test_a_column_is_read_as_what_its_values_mean(
    data_type: str, more: dict[str, Any], expression: str, typed: str, name: str
) -> None:
    column = column_of(data_type, **more)
    assert (column.reading.expression, column.reading.data_type, column.name) == (
        expression,
        typed,
        name,
    )
    may_fail = data_type == "HUGEINT" or (data_type == "VARCHAR" and typed != "string")
    assert any("typed_from" in rule for rule in column.rules) == may_fail


def test_a_word_that_may_mean_nothing_is_a_value_where_it_stays_one() -> None:
    vain = Problem("placeholder", 40, "stands for no value", ("Na",))
    words = (Frequent("Na", 40), Frequent("K", 30), Frequent("Glucose", 30))
    column = column_of(
        "VARCHAR", frequent=words, is_frequent_exact=True, problems=(vain,), distinct=3
    )
    assert "{one_of: [Glucose, K, Na], severity: flag}" in column.rules
    assert "3 different" in column.seen


def test_identifiers_and_leading_zeros_stay_text() -> None:
    number = Behind("integer", "bigint")
    assert column_of("VARCHAR", "article_no", behind=number).reading.data_type == "string"
    assert column_of("VARCHAR", "thing_no", behind=number).reading.data_type == "string"


def test_texts_that_stand_for_nothing_do_not_reject_a_row() -> None:
    missing = Problem("placeholder", 3, "stands for no value", ("-", "n/a"))
    column = column_of("VARCHAR", behind=Behind("integer", "bigint"), problems=(missing,))
    assert column.rules[0] == '{typed_from: {column: pieces, missing: ["-", n/a]}}'


@pytest.mark.parametrize(
    ("raw", "holds", "unit", "name"),
    [
        ("id", "key", "", "invoice_id"),
        ("name", "", "", "invoice_name"),
        ("order", "", "", "invoice_order"),
        ("_1st", "", "", "invoice_1st"),
        ("active_flag", "boolean", "", "is_active"),
        ("has_items", "boolean", "", "has_items"),
        ("invoice_date", "timestamp", "", "invoice_at"),
        ("changed_on", "date", "", "changed_date"),
        ("at", "timestamp", "", "invoice_at"),
        ("weight", "number", "kg", "weight_kg"),
        ("rate", "number", "%", "rate_pct"),
        ("duration_ms", "number", "ms", "duration_ms"),
        ("taken", "", "", "taken_2"),
        ("other_at", "timestamp", "", "other_at"),
        ("other_on", "timestamp", "", "invoice_row_other_on"),
    ],
)
def test_columns_get_names_of_the_house(raw: str, holds: str, unit: str, name: str) -> None:
    assert column_name(raw, "invoice", holds, unit, {"taken"}, {"other_at"} - {raw}) == name


def test_the_same_entity_of_two_sources_gets_two_names_and_a_joining_key() -> None:
    def table(source: str, name: str, *columns: str) -> TableProfile:
        found = tuple(ColumnProfile(c, "BIGINT", 0, 0.0, 50, True) for c in columns)
        key = Key((columns[0],), 0, 0, 1.0)
        return TableProfile(
            source, name, f"raw_{source}.{name}", rows=50, columns=found, primary_key=key
        )

    across = Reference(
        "desk.customers", ("crm_no",), "crm.customer", ("id",), True, "same",
        50, 0, 50, 0, False, True, 1.0, 1.0, 1.0,
    )  # fmt: skip
    partly = replace(across, from_columns=("other",), is_partial=True)
    found = Discovery(
        "2026-01-01T00:00:00+00:00",
        ("crm", "desk"),
        (table("crm", "customer", "id"), table("desk", "customers", "id", "crm_no", "other")),
        (across, partly),
    )
    crm, desk = plan_tables(
        found, ("crm", "desk"), {}, lambda *_: False, lambda *_: False, lambda *_: ""
    )
    assert (crm.mart, desk.mart) == ("dim_customers", "dim_desk_customers")
    assert (crm.surrogate, desk.surrogate) == ("customer_key", "desk_customer_key")
    (link,) = desk.links
    assert not link.is_screened
    sql = keyed_sql(desk, {"crm.customer": crm, "desk.customers": desk})
    assert f"as {link.key}," in sql
    assert "on customers.crm_no = crm_customers.customer_id" in sql


def test_tables_get_names_of_the_house() -> None:
    assert [plural(word) for word in ("line", "category", "address", "orders", "day")] == [
        "lines",
        "categories",
        "addresses",
        "orders",
        "days",
    ]
    assert entity_of("tbl_invoice_lines") == "invoice_line"
    assert entity_of("customers", {"customer"}) == "customer_2"
    assert foreign_key(("customer_id",), "customer", "customer_key", False) == "customer_key"
    assert (
        foreign_key(("reports_to",), "employee", "employee_key", True) == "reports_to_employee_key"
    )
    assert foreign_key(("billing_address_id",), "address", "address_key", False) == (
        "billing_address_key"
    )
