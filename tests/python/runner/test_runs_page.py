"""The page of the runs: all of it is there, nothing comes from elsewhere, a browser draws it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from toyshop import ToyShop

from runner.history import History, Item, Origin
from runner.runs_page import runs_page, runs_page_fields

ORIGIN = Origin(None, "5e77", "ada", "loom", 7, "cron")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), "")
NO_NETWORK = ["--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND"]


class Document(HTMLParser):
    """Notes what is open, what is linked and how many bars are drawn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.bars = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.bars += tag == "rect"
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> str:
    with closing(History(tmp_path / "history.sqlite")) as history:
        for number, status in enumerate(("succeeded", "failed", "partly", "succeeded"), start=1):
            run_id = f"run{number}"
            history.start_run(run_id, "wellspring <run>", "", ORIGIN)
            history.start_step(run_id, 0, "weave & dye")
            verdict = "failed" if status == "failed" else "ok"
            history.add_items(run_id, "audit", [Item("test", "assert_<soft>", verdict, 1)])
            history.add_items(run_id, "audit", [Item("test", "assert_always", "ok", 0)])
            history.finish_step(run_id, 0, "ok", number * 1.5, "")
            history.finish_run(run_id, status, 0, "2 < 3" if status == "failed" else "")
        history.add_version("run1", 3, 4000, 2048, None)
        history.mark_published("run1")
        return runs_page(runs_page_fields(history))


def test_the_page_holds_all_of_it_and_nothing_from_elsewhere(page: str) -> None:
    document = Document(page)
    assert document.open == []
    assert document.links == ["index.html"]
    assert document.bars == 4
    assert "<script" not in page
    for said in (
        *("wellspring &lt;run&gt;", "weave &amp; dye", "2 &lt; 3", "assert_&lt;soft&gt;"),
        *("from 1.5 to 6.0 s in 4 runs", "4,000", "2.0 KiB", "failed or interrupted"),
    ):
        assert said in page
    assert "assert_always" not in page, "a test that always passed needs no line"


def test_an_empty_history_has_a_page_too(tmp_path: Path) -> None:
    with closing(History(tmp_path / "history.sqlite")) as history:
        text = runs_page(runs_page_fields(history))
    assert Document(text).open == []
    assert "All tests have passed" in text


def test_the_page_lies_beside_the_documentation(shop: ToyShop) -> None:
    docs = shop.published / "current" / "docs"
    assert 'href="runs.html"' in (docs / "index.html").read_text()
    assert f"run 1, {shop.current[:4]}-" in (docs / "runs.html").read_text()


@pytest.mark.skipif(not BROWSER and not os.environ.get("CI"), reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_draws_it_offline_at_any_width(page: str, tmp_path: Path, width: int) -> None:
    assert BROWSER, f"this test needs one of {', '.join(NAMES)} on PATH"
    told = "document.title = document.documentElement.scrollWidth <= innerWidth ? 'fits' : 'wide'"
    file = tmp_path / "runs.html"
    # Headless Chromium has no window narrower than 500 pixels; a frame can be.
    file.write_text(page.replace("</body>", f"<script>{told}</script></body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="runs.html" width="{width}" height="900" onload="document.title = '
        "this.contentDocument ? this.contentDocument.title : 'hidden'\"></iframe>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *NO_NETWORK]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files"]
    done = subprocess.run(
        [BROWSER, *options, "--virtual-time-budget=5000", f"file://{frame}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"<title>fits</title>", done.stdout)
