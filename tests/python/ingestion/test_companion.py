"""The companion lives as long as its block, and no longer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ingestion import companion as module
from ingestion.companion import companion
from ingestion.errors import SourceUnreachable
from ingestion.settings import CompanionSettings, Settings

SERVES = """
import json, os, sys
open("pid", "w").write(str(os.getpid()))
url = "http://h?" + os.environ["WELLSPRING_DATA"]
systems = {"desk": {"url": url, "token": "abcdefgh"}, "shop": {"url": "sqlite:///x"}}
print(json.dumps({"connections": systems}), flush=True)
sys.stdin.read()
open("stopped", "w").close()
"""


def settings(folder: Path, code: str) -> Settings:
    command = (sys.executable, "-c", code)
    return Settings(folder, folder / "data", companion=CompanionSettings(command))


def test_its_connections_hold_within_the_block(tmp_path: Path) -> None:
    with companion(settings(tmp_path, SERVES), {"desk"}) as announced:
        assert os.environ["CONNECTIONS__DESK__URL"] == f"http://h?{tmp_path / 'data'}"
        assert set(announced) == {
            "CONNECTIONS__DESK__URL",
            "CONNECTIONS__DESK__TOKEN",
            "CONNECTIONS__SHOP__URL",
        }
        assert not (tmp_path / "stopped").exists()
    assert "CONNECTIONS__DESK__URL" not in os.environ
    assert (tmp_path / "stopped").exists()


def test_it_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), companion(settings(tmp_path, SERVES)):
        raise ZeroDivisionError
    assert (tmp_path / "stopped").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_it_is_left_out_when_nothing_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__DESK__URL", "https://mine")
    with companion(settings(tmp_path, SERVES), {"desk"}) as announced:
        assert announced == {}
    assert not (tmp_path / "pid").exists()


def test_what_the_user_configured_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTIONS__DESK__URL", "https://mine")
    with companion(settings(tmp_path, SERVES), {"desk", "shop"}):
        assert os.environ["CONNECTIONS__DESK__URL"] == "https://mine"
        assert "CONNECTIONS__DESK__TOKEN" not in os.environ
        assert os.environ["CONNECTIONS__SHOP__URL"] == "sqlite:///x"
    assert os.environ["CONNECTIONS__DESK__URL"] == "https://mine"


@pytest.mark.parametrize(
    ("code", "patience", "told"),
    [
        ("import sys; sys.exit('no port is free')", 60.0, "ended with code 1.*no port is free"),
        ("print('hello')", 60.0, "did not announce its connections as JSON"),
        ("import time; time.sleep(60)", 0.3, "was not ready within"),
    ],
)
def test_a_companion_that_does_not_get_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, patience: float, told: str
) -> None:
    monkeypatch.setattr(module, "READY_SECONDS", patience)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    with pytest.raises(SourceUnreachable, match=told), companion(settings(tmp_path, code)):
        pytest.fail("the block must not be entered")


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    wrong = Settings(tmp_path, tmp_path / "data", companion=CompanionSettings(("no-such-thing",)))
    told = "'no-such-thing' cannot be started"
    with pytest.raises(SourceUnreachable, match=told), companion(wrong):
        pytest.fail("the block must not be entered")
