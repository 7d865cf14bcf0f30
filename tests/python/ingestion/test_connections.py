"""Connections are found where dlt finds them, and their secrets never show."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from ingestion.connections import is_configured, resolve
from ingestion.errors import ConnectionMissing, SourceFailed
from ingestion.redaction import RedactingFilter, redact
from ingestion.settings import Settings


def test_keys_of_the_environment_become_url_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTIONS__DESK__URL", " https://desk.example/api ")
    monkeypatch.setenv("CONNECTIONS__DESK__TOKEN", "t0p-secret-token")
    connection = resolve("desk")
    assert (connection.url, connection.options) == (
        "https://desk.example/api",
        {"token": "t0p-secret-token"},
    )
    assert connection.option("token") == "t0p-secret-token"
    with pytest.raises(ConnectionMissing, match="CONNECTIONS__DESK__USERNAME"):
        connection.option("username")


def test_a_missing_connection_says_which_key_to_set_where() -> None:
    with pytest.raises(ConnectionMissing) as caught:
        resolve("nowhere")
    text = str(caught.value)
    assert "[connections.nowhere]" in text
    assert "CONNECTIONS__NOWHERE__URL" in text
    assert ".dlt/secrets.toml" in text
    assert caught.value.exit_code == 4


def test_secrets_are_masked_wherever_they_turn_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CONNECTIONS__SHOP__URL", "postgresql://ann:p%40ss%2Fword@db/shop")
    monkeypatch.setenv("CONNECTIONS__SHOP__API_KEY", "key-12345678")
    connection = resolve("shop")
    assert "p%40ss" not in repr(connection)
    assert connection.safe_url == "postgresql://ann:***@db/shop"
    error = SourceFailed("login with p@ss/word failed", hint="not key-12345678")
    for text in (str(error), repr(error), str(pickle.loads(pickle.dumps(error)))):
        assert "p@ss/word" not in text
        assert "key-12345678" not in text
    record = logging.LogRecord("x", 20, __file__, 1, "sent %s", ("key-12345678",), None)
    RedactingFilter().filter(record)
    assert record.getMessage() == "sent ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysql://u:pw@h/d", "mysql://u:***@h/d"),
        ("GET https://h/p?access_token=abc&page=2", "GET https://h/p?access_token=***&page=2"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
        ("https://h:8080/p and a@b.c", "https://h:8080/p and a@b.c"),
    ],
)
def test_secrets_are_recognised_by_their_place(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_secrets_toml_is_read_by_dlt_and_without_it(tmp_path: Path) -> None:
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "secrets.toml").write_text(
        '[connections.lake]\nurl = "s3://bucket/x"\nendpoint_url = "http://h"\nsecret = "s3cr3t"\n'
        "[connections.lake.client_kwargs]\nregion = 'eu'\n"
    )
    settings = Settings(project_dir=tmp_path, data_dir=tmp_path / "data")
    assert is_configured("lake", settings)
    assert not is_configured("pond", settings)
    # A process of its own: dlt reads its files once, when it is first imported.
    code = (
        "from pathlib import Path; from ingestion.landing import configure;"
        "from ingestion.settings import Settings; from ingestion.connections import resolve;"
        f"p = Path({str(tmp_path)!r}); configure(Settings(p, p / 'data')); c = resolve('lake');"
        "print(c.url, sorted(c.options), c.options['client_kwargs'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == (
        "s3://bucket/x ['client_kwargs', 'endpoint_url', 'secret'] {'region': 'eu'}"
    )
