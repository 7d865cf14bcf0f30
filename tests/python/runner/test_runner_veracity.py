"""Veracity scores: kept over time, told by a command, drawn on a page that needs nothing else."""

from __future__ import annotations

import json
import re
from contextlib import closing
from html.parser import HTMLParser

import duckdb
from toyshop import Call, ToyShop

from runner.veracity.page import veracity_page
from runner.veracity.scores import percent

MODELS = {
    "macros/create_run_tables.sql": """
        {% macro create_run_tables() %}
        create schema if not exists runs;
        create table if not exists runs.checks (
            run_id string, node string, check_kind string, check_name string, test_type string,
            relation string, status string, failures bigint
        );
        create table if not exists runs.veracity_history (
            run_id string, measured_at timestamp, subject_kind string, subject string, part string,
            score double
        );
        create table if not exists runs.anomalies (
            run_id string, anomaly string, relation string, column_name string, measure string,
            series string, slot_at timestamp, value double, expected_low double,
            expected_high double, severity string, is_new boolean, description string
        );
        {% endmacro %}
        """,
    "models/books/veracity_scores.sql": """
        {{ config(materialized="view", meta={"publish": true}) }}
        with parts as (
            select 'mart' as subject_kind, relation as subject, 'valid' as part,
                avg(case when status = 'ok' then 1.0 else 0.0 end) as score, 1.0 as weight,
                1.0 as sound_row_count, 1.0 as row_count,
                coalesce(max(case when status <> 'ok' then check_name end), '') as to_raise
            from runs.checks
            where relation <> '' and check_kind = 'test'
            group by relation
        )
        select * from parts
        union all
        select * replace ('overall' as part) from parts
        """,
    "models/books/veracity_history.sql": """
        {{ config(materialized="view", meta={"publish": true}) }}
        select * from runs.veracity_history
        """,
    "models/books/anomalies.sql": """
        {{ config(materialized="view", meta={"publish": true}) }}
        select * from runs.anomalies
        """,
}


def with_scores(shop: ToyShop) -> ToyShop:
    """The toy shop with models of scores."""
    for path, text in MODELS.items():
        shop.write(path, text)
    project = (shop.root / "dbt_project.yml").read_text()
    hook = 'on-run-start: ["{{ create_run_tables() }}"]\n'
    (shop.root / "dbt_project.yml").write_text(project + hook)
    return shop


def test_scores_are_published_kept_and_shown_and_survive_the_warehouse(
    shop: ToyShop, call: Call
) -> None:
    with_scores(shop)
    answer = call(shop, "run", "--log-format", "plain")
    assert answer.code == 0, answer.out + answer.err

    told = json.loads(call(shop, "veracity", "--json").out)
    scores = {(row["subject"], row["part"]): row["score"] for row in told["scores"]}
    assert scores["sales.fct_sales", "valid"] == 1
    assert scores["core.dim_toys", "overall"] == 1
    assert {row["subject"] for row in told["history"]} == {"sales.fct_sales", "core.dim_toys"}
    assert told["version"] == shop.current

    shown = call(shop, "veracity")
    assert shown.code == 0
    assert "sales.fct_sales" in shown.out
    assert "100 %" in shown.out
    assert "anomalies: none" in shown.out

    docs = shop.published / "current" / "docs"
    assert "Veracity scores" in (docs / "index.html").read_text()
    page = (docs / "veracity.html").read_text()
    assert "sales.fct_sales" in page
    assert shop.current is not None
    assert shop.current in page

    (shop.data / "warehouse" / "wellspring.duckdb").unlink()
    assert call(shop, "load", "build", "audit", "--quiet").code == 0
    with closing(duckdb.connect(str(shop.data / "warehouse" / "wellspring.duckdb"))) as connection:
        found = connection.execute(
            "select (select count(distinct run_id) from runs.measures), "
            "(select count(distinct run_id) from runs.veracity_history)"
        ).fetchall()
    # Runs of the history are of one day, of which readers get the last one.
    assert found == [(1, 1)]


def test_a_version_without_scores_says_where_they_come_from(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "veracity")
    assert answer.code == 6
    assert "no veracity scores" in answer.err
    assert "veracity_scores" in answer.err


def test_what_is_not_perfect_never_reads_as_such() -> None:
    assert percent(1.0) == "100 %"
    assert percent(0.999999) == "99.99 %"
    assert percent(0.5) == "50.00 %"


class Page(HTMLParser):
    """Counts what is open and collects what is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.rows = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += tag == "tr"
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def score(kind: str, subject: str, part: str, share: float, text: str = "") -> dict[str, object]:
    return {
        **{"subject_kind": kind, "subject": subject, "part": part, "score": share},
        **{"weight": 1.0, "sound_row_count": 10.0, "row_count": 11.0, "to_raise": text},
    }


def test_the_page_holds_all_of_it_and_nothing_from_elsewhere() -> None:
    reason = "2 rows: <b> is under 1 & over 9 (shop.orders)"
    anomaly = {"anomaly": "sales.fct_orders rows", "severity": "error", "is_new": True}
    band = {"value": 5.0, "expected_low": 90.0, "expected_high": 110.0, "description": "few rows"}
    gap = {"value": 2.0, "expected_low": None, "expected_high": None, "description": "no file"}
    fields = {
        "version": "v1",
        "created_at": "2026-06-30",
        "scores": [
            score("table", "shop.orders", "overall", 0.85, f"valid: {reason}"),
            score("table", "shop.orders", "valid", 0.85, reason),
            score("table", "shop.customers", "overall", 1.0),
            score("mart", "sales.fct_orders", "overall", 0.95),
        ],
        "history": [score("table", "shop.orders", "overall", s) for s in (0.8, 0.9, 0.85)],
        "anomalies": [anomaly | band, anomaly | gap],
    }
    text = veracity_page(fields)
    page = Page(text)
    assert page.open == []
    assert page.links == ["index.html"]
    assert "<script" not in text
    # A head each for anomalies, marts and tables, and what they list.
    assert page.rows == 3 + 2 + 1 + 2
    assert "<b> is under" not in text
    assert "&lt;b&gt; is under 1 &amp; over 9" in text
    assert re.search(r'class="number bad overall"[^>]*>85.00 %', text)
    for said in ("from 80.00 % to 85.00 %", "5, expected 90 to 110", "2 missing", "not checked"):
        assert said in text
    assert text.index("shop.orders</th>") < text.index("shop.customers</th>")
