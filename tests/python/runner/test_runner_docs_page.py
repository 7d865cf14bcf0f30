"""The documentation page in a real browser, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toyshop import ToyShop

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), "")
NO_NETWORK = ["--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND"]


@pytest.mark.skipif(not BROWSER and not os.environ.get("CI"), reason="no Chromium on this machine")
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("model/model.toyshop.dim_toys", ["One row per toy", "Number of the toy.", "toy_name"]),
        ("source/source.toyshop.till.sales", ["One row per sale", "sale_id"]),
    ],
)
def test_docs_open_offline(shop: ToyShop, tmp_path: Path, place: str, said: list[str]) -> None:
    assert BROWSER, f"this test needs one of {', '.join(NAMES)} on PATH"
    page = shop.published / "current" / "docs" / "index.html"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *NO_NETWORK]
    options += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [BROWSER, *options, f"file://{page.resolve()}#!/{place}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # The page carries all texts as data too; only what the browser drew counts.
    drawn = re.sub(r"<script\b.*?</script>", "", done.stdout, flags=re.DOTALL)
    for words in said:
        assert words in drawn
