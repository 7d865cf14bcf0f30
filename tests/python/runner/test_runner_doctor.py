"""`wellspring doctor` finds what is broken, says how to mend it, and changes nothing."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from toyshop import Call, ToyShop

from ingestion.declarations import SourceDeclaration
from ingestion.lock import Owner, RunLock
from ingestion.rest.declared import RestSource
from ingestion.settings import Settings
from runner.doctor import code, sources
from runner.doctor.findings import Finding, worst_code


def findings(shop: ToyShop, call: Call, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and what was found by check; of several the worst."""
    done = call(shop, "doctor", "--json", *options)
    found: dict[str, dict[str, Any]] = {}
    for finding in sorted(
        json.loads(done.out), key=lambda f: ("ok", "warn", "fail").index(f["verdict"])
    ):
        found[finding["check"]] = finding
    return done.code, found


def content(folder: Path) -> dict[str, str]:
    """A checksum of every file below a folder, but for what dbt notes about a parse."""
    return {
        str(path): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "logs" not in path.parts
    }


def test_healthy_project_passes_and_nothing_is_changed(shop: ToyShop, call: Call) -> None:
    before = content(shop.data)
    code_, found = findings(shop, call, "--deep")
    assert code_ == 0
    assert {name for name, finding in found.items() if finding["verdict"] == "fail"} == set()
    assert found["source stock"]["found"] == "logged in"
    assert "1 files of sales are there" in found["source till"]["found"]
    assert "checksums as sealed" in found["published"]["found"]
    assert found["project"]["verdict"] == "ok"
    assert content(shop.data) == before
    shown = call(shop, "doctor", "--offline")
    assert "✓ history" in shown.out
    assert "source stock" not in shown.out
    assert "want attention" not in shown.out

    profiles = shop.root / "profiles.yml"
    lines = profiles.read_text().splitlines()
    profiles.write_text("\n".join(line for line in lines if "plugins" not in line))
    _, found = findings(shop, call, "--offline")
    assert found["project"]["verdict"] == "warn"
    assert "ingestion.dbt_plugin" in found["project"]["mend"]
    assert "1 want attention" in call(shop, "doctor", "--offline").out


def test_everything_that_is_broken_is_told_at_once(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.current is not None
    shutil.move(shop.systems / "stock.sqlite", shop.systems / "gone")
    (shop.data / "warehouse" / "wellspring.duckdb").write_bytes(b"not a database" * 500)
    history = shop.data / "state" / "history.sqlite"
    history.write_bytes(history.read_bytes()[:5000] + b"\xff" * 5000)
    (shop.published / shop.current / "wellspring.duckdb").unlink()
    (shop.root / ".dlt").mkdir()
    secrets = shop.root / ".dlt" / "secrets.toml"
    secrets.touch(mode=0o644)
    monkeypatch.setenv("WELLSPRING__LIMITS__MIN_FREE", "100%")
    exit_code, found = findings(shop, call)
    failed = {name for name, finding in found.items() if finding["verdict"] == "fail"}
    assert failed == {"disk", "history", "warehouse", "published", "source stock"}
    assert exit_code == 7
    assert "min_free" in found["disk"]["found"]
    assert "Move it away" in found["history"]["mend"]
    assert "wellspring load build" in found["warehouse"]["mend"]
    assert "wellspring rollback" in found["published"]["mend"]
    assert f"chmod 600 {secrets}" in found["secrets"]["mend"]


def test_what_killed_processes_left_is_told(shop: ToyShop, call: Call) -> None:
    killed = Owner(1, socket.gethostname(), "ann", "wellspring run", "2026-01-01T00:00:00Z", "r")
    (shop.data / "state" / "run.lock").write_text(json.dumps(asdict(killed)))
    (shop.published / "20260101T000000Z-abcd.tmp").mkdir()
    (shop.data / "state" / "spool" / "stock").mkdir(parents=True, exist_ok=True)
    (shop.data / "state" / "spool" / "stock" / "part.parquet").touch()
    landed = next((shop.data / "landing" / "stock" / "toys").glob("*.parquet"))
    shutil.copy(landed, landed.with_name("1111111111.222222.abc.parquet"))
    waiting = shop.data / "state" / "dlt" / "pipelines" / "till" / "load" / "normalized" / "1.2"
    waiting.mkdir(parents=True)
    exit_code, found = findings(shop, call, "--offline")
    assert exit_code == 0
    assert "its last holder was killed: `wellspring run`" in found["lock"]["found"]
    assert "1 landed files" in found["orphans"]["found"]
    assert "till" in found["pending"]["found"]
    texts = call(shop, "doctor", "--offline").out
    assert "published/20260101T000000Z-abcd.tmp, state/spool/stock" in texts


def test_clock_that_went_back_and_a_held_lock_are_told(shop: ToyShop, call: Call) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    connection = sqlite3.connect(shop.data / "state" / "history.sqlite")
    with connection:
        connection.execute("update runs set started_at = ?", [ahead])
    connection.close()
    with RunLock(shop.data / "state" / "run.lock", "another", "wellspring run"):
        exit_code, found = findings(shop, call, "--offline")
    assert exit_code == 4
    assert "47 h" in found["clock"]["found"] or "2 d" in found["clock"]["found"]
    assert "held by `wellspring run`" in found["lock"]["found"]
    assert found["warehouse"]["found"] == "not opened while a run is under way"


def test_age_of_the_last_backup_is_told(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert findings(shop, call, "--offline")[1]["backup"]["verdict"] == "ok"
    monkeypatch.setenv("WELLSPRING__BACKUP__URL", str(tmp_path / "vault"))
    backup = findings(shop, call, "--offline")[1]["backup"]
    assert (backup["verdict"], backup["found"]) == ("warn", "none was made yet")
    assert call(shop, "backup").code == 0
    assert findings(shop, call, "--offline")[1]["backup"]["verdict"] == "ok"
    monkeypatch.setattr("runner.doctor.data._OLD_BACKUP_SECONDS", -1.0)
    assert findings(shop, call, "--offline")[1]["backup"]["verdict"] == "warn"


def test_wrong_settings_and_a_wrong_project_are_findings(shop: ToyShop, call: Call) -> None:
    shop.write("models/marts/core/dim_toys.sql", "select * from {{ ref('nowhere') }}")
    exit_code, found = findings(shop, call)
    assert exit_code == 3
    assert "nowhere" in found["project"]["found"]
    shop.write("wellspring.toml", "[load]\nmemory = '1GB'\n")
    _, found = findings(shop, call, "--offline")
    assert "[load] memory is called [limits] memory now" in found["settings"]["found"]
    shop.write("wellspring.toml", "[notifications]\nmail_server = 'post'\n")
    exit_code, found = findings(shop, call, "--offline")
    assert exit_code == 3
    assert "Set [notifications] mail_from and mail_to" in found["settings"]["mend"]
    shop.write("wellspring.toml", "[extarct]\n")
    exit_code, found = findings(shop, call)
    assert exit_code == 3
    assert list(found) == ["settings"]
    assert "Did you mean extract?" in found["settings"]["mend"]


def test_packages_are_compared_with_the_lock_file(tmp_path: Path) -> None:
    settings = Settings(project_dir=tmp_path, data_dir=tmp_path / "data")
    lock, project = tmp_path / "uv.lock", tmp_path / "pyproject.toml"
    lock.write_text('[[package]]\nname = "pytest"\nversion = "0.0.1"\n')
    project.write_text('[project]\ndependencies = ["pytest>=8"]\n')
    (found,) = code.packages(settings)
    assert found.verdict == "warn"
    assert "instead of 0.0.1" in found.found
    project.write_text('[project]\ndependencies = ["no-such-package==1"]\n')
    (found,) = code.packages(settings)
    assert (found.verdict, found.exit_code) == ("fail", 3)
    assert "no-such-package is missing" in found.found


@pytest.fixture
def api() -> Iterator[tuple[HTTPServer, dict[str, Any]]]:
    """An API whose answer is set by the test."""
    said: dict[str, Any] = {"code": 200, "date": None}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(said["code"])
            if said["date"]:
                self.send_header("Date", said["date"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *ignored: Any) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, said
    server.shutdown()
    thread.join()
    server.server_close()


def test_api_is_asked_for_an_answer_and_its_clock(
    api: tuple[HTTPServer, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, said = api
    monkeypatch.setenv("CONNECTIONS__DESK__URL", f"http://127.0.0.1:{server.server_port}")
    settings = Settings(project_dir=tmp_path, data_dir=tmp_path / "data")
    desk = SourceDeclaration("desk", "raw_desk", "rest", "desk", "", (), RestSource())

    def asked() -> Finding:
        (finding,) = sources.sources(settings, [desk])
        return finding

    assert (asked().verdict, asked().found) == ("ok", "answered 200")
    said["date"] = "Mon, 01 Jan 2024 00:00:00 GMT"
    assert asked().verdict == "warn"
    assert "its clock differs from ours by -" in asked().found
    said |= {"code": 503, "date": None}
    assert asked().verdict == "fail"
    assert "answered 503" in asked().found
    monkeypatch.setenv("CONNECTIONS__DESK__URL", "http://127.0.0.1:1")
    assert "connection refused" in asked().found


def test_source_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_SECONDS", 0.2)
    gate = threading.Event()
    monkeypatch.setattr("ingestion.probing.probe", lambda *ignored: gate.wait(30))
    slow = SourceDeclaration("slow", "raw_slow", "rest", None, "", ())
    settings = Settings(project_dir=tmp_path, data_dir=tmp_path / "data")
    (finding,) = sources.sources(settings, [slow])
    gate.set()
    assert (finding.verdict, finding.exit_code) == ("fail", 4)
    assert "no answer within" in finding.found


def test_worst_fault_gives_the_exit_code() -> None:
    assert worst_code([Finding("a", "ok", ""), Finding("b", "warn", "", "", 7)]) == 0
    faults = [Finding("a", "fail", "", "", 4), Finding("b", "fail", "", "", 3)]
    assert worst_code(faults) == 3
    assert worst_code([Finding("a", "fail", "", "", 1)]) == 1
