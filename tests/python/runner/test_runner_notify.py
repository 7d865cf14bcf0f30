"""People are told of what fails anew and of what has recovered: once, completely, by every way."""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import warm
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from toyshop import Answer, Call, ToyShop, surroundings

SECRET = "T0p-Secret-Path"
GOOD = "sale_id,toy_id,amount\n4,1,1.00\n"
BAD = "sale_id,toy_id,amount\n5,1,-4.00\n"
TEST = ("audit", "test", "assert_amounts_are_positive")
SOURCE = ("extract", "source", "stock")


class Receiver:
    """A server for webhooks that keeps what it got and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(json.loads(body))
                receiver.keys.append(self.headers["Idempotency-Key"])
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *ignored: Any) -> None:
                """Says nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"

    def titles(self) -> list[str]:
        return [message["text"].splitlines()[0].partition(": ")[2] for message in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@pytest.fixture
def told(shop: ToyShop, call: Call, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> ToyShop:
    """A shop whose problems are told to a webhook."""
    monkeypatch.setenv("CONNECTIONS__CHAT__URL", receiver.url)
    monkeypatch.setattr("runner.notify.outbox._PAUSES", (0.0, 0.0, 0.0))
    shop.write("wellspring.toml", '[notifications]\nwebhooks = ["chat"]\n')
    return shop


def break_stock(shop: ToyShop) -> None:
    shutil.move(shop.systems / "stock.sqlite", shop.systems / "gone")


def mend_stock(shop: ToyShop) -> None:
    shutil.move(shop.systems / "gone", shop.systems / "stock.sqlite")


def open_keys(shop: ToyShop, call: Call) -> list[tuple[str, str, str]]:
    listed = json.loads(call(shop, "problems", "--json").out)
    return [(found["step"], found["kind"], found["name"]) for found in listed]


def test_failures_are_told_once_and_so_is_their_end(
    told: ToyShop, call: Call, receiver: Receiver
) -> None:
    assert call(told, "run", "-q").code == 0
    assert receiver.got == []
    break_stock(told)
    told.add_sales("sales_2.csv", BAD)
    before = told.current
    assert call(told, "run", "-q").code == 2
    assert call(told, "run", "-q").code == 2
    assert receiver.titles() == ["2 new problems"]
    assert open_keys(told, call) == [SOURCE, TEST]
    new = {found["kind"]: found for found in receiver.got[0]["wellspring"]["new"]}
    assert new["source"]["depends_on_it"] == ["core.dim_toys"]
    assert new["test"]["depends_on_it"] == ["sales.fct_sales"]
    assert "`wellspring resume` reads it again" in new["source"]["to_do"]
    assert "tests/dbt/assert_amounts_are_positive.sql" in new["test"]["to_do"]
    assert receiver.got[0]["wellspring"]["readers_have"]["version"] == before
    text = receiver.got[0]["text"]
    assert "✗ source stock: sqlite:" in text
    assert f"Readers have version {before}, " in text

    mend_stock(told)
    assert call(told, "run", "-q").code == 2
    assert receiver.titles() == ["2 new problems", "1 recovered"]
    assert "source stock is well again; it had lasted" in receiver.got[1]["text"]
    assert "1 known before and still open" in receiver.got[1]["text"]
    assert open_keys(told, call) == [TEST]
    shown = call(told, "problems").out
    assert "✗ test assert_amounts_are_positive" in shown
    assert "1 problem is open" in shown
    told.write(f"tests/dbt/{TEST[2]}.sql", "select 1 as n where false")
    assert call(told, "run", "-q").code == 0
    assert receiver.titles()[2:] == ["1 recovered"]
    assert call(told, "problems").out.strip() == "no problem is open"
    assert len(set(receiver.keys)) == 3


def test_what_a_run_did_not_look_at_stays_open(
    told: ToyShop, call: Call, receiver: Receiver
) -> None:
    model = (told.root / "models/marts/sales/fct_sales.sql").read_text()
    told.write("models/marts/sales/fct_sales.sql", "select nonsense")
    assert call(told, "build", "-q").code == 1
    key = ("build", "model", "fct_sales")
    assert open_keys(told, call) == [key]
    assert "mend models/marts/sales/fct_sales.sql, then" in receiver.got[0]["text"]
    assert call(told, "build", "-q", "--select", "dim_toys").code == 0
    assert call(told, "load", "-q").code == 0
    assert open_keys(told, call) == [key]
    told.write("models/marts/sales/fct_sales.sql", model)
    assert call(told, "build", "-q", "--select", "fct_sales").code == 0
    assert open_keys(told, call) == []
    assert receiver.titles() == ["1 new problem", "1 recovered"]


GATED = """
    models:
      - name: fct_sales
        description: One row per sale.
        access: public
        config: {meta: {gates: [{measure: rows, moves: 20%}]}}
    """


def test_version_that_waits_is_a_problem_until_somebody_decides(
    told: ToyShop, call: Call, receiver: Receiver
) -> None:
    told.write("models/marts/sales/fct_sales.yml", GATED)
    told.add_sales("sales_2.csv", "sale_id,toy_id,amount\n6,1,1.00\n7,1,1.00\n8,1,1.00\n")
    assert call(told, "run", "-q").code == 8
    assert open_keys(told, call) == [("publish", "version", "waiting for approval")]
    assert "`wellspring approve` makes it current" in receiver.got[0]["text"]
    assert call(told, "approve").code == 0
    assert open_keys(told, call) == []
    assert call(told, "run", "-q").code == 0
    assert receiver.titles() == ["1 new problem"]


def test_project_that_cannot_be_read_is_told(told: ToyShop, call: Call, receiver: Receiver) -> None:
    told.write("models/marts/core/dim_toys.sql", "select * from {{ ref('nowhere') }}")
    assert call(told, "run", "-q").code == 3
    assert open_keys(told, call) == [("prepare", "step", "DeclarationError")]
    assert "nowhere" in receiver.got[0]["text"]
    told.write("models/marts/core/dim_toys.sql", "select 1 as toy_id, 'x' as toy_name")
    call(told, "build", "-q", "--select", "dim_toys")
    assert receiver.titles() == ["1 new problem", "1 recovered"]


def test_message_that_could_not_be_delivered_goes_out_with_the_next_run(
    told: ToyShop, call: Call, receiver: Receiver
) -> None:
    receiver.answers = [503, 429, 500]
    break_stock(told)
    done = call(told, "extract")
    assert done.code == 4
    assert "webhook chat could not be told: answered 500" in done.err
    assert len(receiver.got) == 3
    assert call(told, "extract", "-q").code == 4
    assert len(receiver.got) == 4
    assert len(set(receiver.keys)) == 1
    assert call(told, "notify").out.strip() == "nothing waits to be told"


@pytest.mark.parametrize("answer", [404, 302])
def test_refusals_are_not_repeated_and_never_show_the_address(
    told: ToyShop, call: Call, receiver: Receiver, answer: int
) -> None:
    receiver.answers = [answer]
    break_stock(told)
    done = call(told, "extract")
    assert done.code == 4
    assert f"answered {answer}" in done.err
    assert len(receiver.got) == 1
    receiver.answers = [answer]
    tried = call(told, "notify", "--test")
    assert tried.code == 1
    assert f"✗ webhook chat: 1 not: answered {answer}" in tried.out
    history = (told.data / "state" / "history.sqlite").read_bytes()
    log = "".join(path.read_text() for path in (told.data / "state" / "logs").glob("*.log"))
    assert SECRET not in done.out + done.err + tried.out + tried.err + log
    assert SECRET.encode() not in history


def test_targets_that_are_away_or_not_configured_change_no_run(
    shop: ToyShop, call: Call, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.notify.outbox._PAUSES", (0.0, 0.0))
    shop.write(
        "wellspring.toml",
        '[notifications]\nwebhooks = ["chat", "nobody"]\ncommand = ["/no/such/program"]\n'
        'mail_server = "post"\nmail_from = "a@example.com"\nmail_to = ["b@example.com"]\n',
    )
    receiver.server.server_close()
    monkeypatch.setenv("CONNECTIONS__CHAT__URL", receiver.url)
    monkeypatch.setenv("CONNECTIONS__POST__URL", "smtp://ann:secret@127.0.0.1?starttls=never")
    break_stock(shop)
    done = call(shop, "extract")
    assert done.code == 4
    assert "webhook chat could not be told: " in done.err
    assert "webhook nobody could not be told: the connection 'nobody' has no 'url'" in done.err
    assert "command could not be told: /no/such/program: No such file" in done.err
    assert "mail could not be told: " in done.err
    assert open_keys(shop, call) == [SOURCE]


def test_command_gets_json_and_text(
    shop: ToyShop, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'cat > message.json; printf "%s" "$WELLSPRING_MESSAGE" > text; test ! -e refuse'
    monkeypatch.setenv("WELLSPRING__NOTIFICATIONS__COMMAND", f"sh -c '{script}'")
    break_stock(shop)
    assert call(shop, "extract", "-q").code == 4
    message = json.loads((shop.root / "message.json").read_text())
    assert message["wellspring"]["new"][0]["name"] == "stock"
    assert (shop.root / "text").read_text() == message["text"]
    (shop.root / "refuse").touch()
    tried = call(shop, "notify", "--test")
    assert tried.code == 1
    assert "✗ command: 1 not: sh ended with code 1" in tried.out
    (shop.root / "refuse").unlink()
    assert call(shop, "notify", "--test").out.strip() == "✓ command: 1 delivered"


def test_without_targets_a_test_says_what_to_set(shop: ToyShop, call: Call) -> None:
    done = call(shop, "notify", "--test")
    assert done.code == 3
    assert "[notifications]" in done.err


class PostOffice(Controller):
    """A mail server on a free port."""

    def _trigger_server(self) -> None:
        # it tries itself out, for which it has to know the port that it was given
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Post:
    """Keeps mails, and lets in who knows the password over TLS."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.logins: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.rcpt_tos, mail))
        return "250 taken"

    def let_in(self, server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        self.logins.append(data.login)
        return AuthResult(success=data.password == b"s3cret/pw")


def test_mail_goes_over_tls_with_a_login(
    shop: ToyShop, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, post = trustme.CA(), Post()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = PostOffice(
        post,
        hostname="127.0.0.1",
        port=0,
        tls_context=context,
        require_starttls=True,
        authenticator=post.let_in,
    )
    server.start()
    try:
        url = f"smtp://ann:s3cret%2Fpw@127.0.0.1:{server.port}"
        monkeypatch.setenv("CONNECTIONS__POST__URL", url)
        shop.write(
            "wellspring.toml",
            '[notifications]\nmail_server = "post"\nmail_from = "wellspring@example.com"\n'
            'mail_to = ["ann@example.com", "bob@example.com"]\n',
        )
        untrusted = call(shop, "notify", "--test")
        assert untrusted.code == 1
        assert "certificate verify failed" in untrusted.out
        monkeypatch.setenv("CONNECTIONS__POST__CA_FILE", str(tmp_path / "ca.pem"))
        break_stock(shop)
        assert call(shop, "extract", "-q").code == 4
    finally:
        server.stop()
    ((recipients, mail),) = post.mails
    assert recipients == ["ann@example.com", "bob@example.com"]
    assert post.logins == [b"ann"]
    assert "1 new problem" in mail["Subject"]
    assert "✗ source stock" in mail.get_content()
    assert mail["Message-ID"].startswith("<2")


def test_message_survives_a_kill_before_and_after_it_is_delivered(
    told: ToyShop, call: Call, receiver: Receiver
) -> None:
    def killed_at(point: str) -> Answer:
        done = warm.run(
            ["-m", "runner", "extract", "-q"],
            cwd=told.root,
            env={
                **surroundings(told),
                "CONNECTIONS__CHAT__URL": receiver.url,
                "WELLSPRING_FAILPOINT": point,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    break_stock(told)
    assert killed_at("notify.noted").code == -signal.SIGKILL
    assert receiver.got == []
    assert killed_at("notify.delivered").code == -signal.SIGKILL
    assert call(told, "extract", "-q").code == 4
    assert receiver.titles() == ["1 new problem", "1 new problem"]
    assert len(set(receiver.keys)) == 1
    assert call(told, "extract", "-q").code == 4
    assert len(receiver.got) == 2
