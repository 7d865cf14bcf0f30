"""The page of the lineage: a browser draws what a column is made of, without any other part."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toyshop import ToyShop

from runner.lineage.graph import ColumnGraph, Table
from runner.lineage.page import lineage_page, page_fields
from runner.lineage.queries import Column, Made

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
NO_NETWORK = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking")


def made(*columns: str, unchanged: bool = False) -> Made:
    return Made(frozenset(Column(*name.rsplit(".", 1)) for name in columns), unchanged)


def graph() -> ColumnGraph:
    tables = [
        Table("raw.</script>", "source.x", "</script>", "source", {"a<b": made()}),
        Table("raw.fees", "source.f", "till.fees", "source", {"fee": made(), "bay": made()}),
        Table(
            *("parking.days", "model.d", "days", "model"),
            {"fee_usd": made("raw.fees.fee"), "bay": made("raw.fees.bay", unchanged=True)},
            {"grouping": frozenset({Column("raw.fees", "bay")})},
        ),
        Table("parking.top", "model.t", "top", "model", {"most": made("parking.days.fee_usd")}),
    ]
    return ColumnGraph({table.relation: table for table in tables})


def test_the_page_holds_all_columns_and_nothing_from_elsewhere() -> None:
    page = lineage_page(graph())
    assert page.count("</script>") == 2, "a table's name must not end the script"
    assert not re.search(r'(src|href)="(?!index\.html)', page)
    data = re.search(r'<script type="application/json" id="graph">(.*?)</script>', page)
    assert data is not None
    assert json.loads(data[1]) == page_fields(graph())
    [_, _, days, top] = page_fields(graph())["tables"]
    assert days["columns"] == [["fee_usd", False, [1]], ["bay", True, [2]]]
    assert days["decides"] == {"grouping": [2]}
    assert top["columns"] == [["most", False, [3]]]


def test_the_page_lies_beside_the_documentation(shop: ToyShop) -> None:
    docs = shop.published / "current" / "docs"
    assert 'href="lineage.html"' in (docs / "index.html").read_text()
    assert '"sales_by_toy"' in (docs / "lineage.html").read_text()


@pytest.mark.skipif(not BROWSER and not os.environ.get("CI"), reason="no Chromium on this machine")
@pytest.mark.parametrize(
    ("place", "boxes", "lines", "said"),
    [
        (
            "parking.days/fee_usd",
            ["days", "till.fees", "top"],
            2,
            "Its rows are decided by grouping",
        ),
        ("raw.fees/bay", ["days", "till.fees"], 1, "Decides about the rows of"),
        ("", [], 0, "Choose a table or a column"),
    ],
)
def test_a_browser_draws_it_offline(
    tmp_path: Path, place: str, boxes: list[str], lines: int, said: str
) -> None:
    assert BROWSER, f"this test needs one of {', '.join(NAMES)} on PATH"
    file = tmp_path / "lineage.html"
    file.write_text(lineage_page(graph()), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *NO_NETWORK]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [BROWSER, *options, f"file://{file}#{place}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    drawn = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    assert sorted(re.findall(r'<div class="box"><b>(.*?)</b>', drawn)) == boxes
    assert len(re.findall(r"<path ", drawn)) == lines
    assert said in drawn
    assert "days" in drawn, "all tables are listed beside it"
