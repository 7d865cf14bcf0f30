"""Texts and mails are read whole, odd ones too; what cannot be read is told, and stops nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from files_kit import Lab

from ingestion.declarations import FilesTable
from ingestion.formats.mailfile import text_of_html
from ingestion.formats.preparing import Unit, prepare
from ingestion.formats.tables import rejected_path

HEADERS = b"From: a@b.example\r\nSubject: Hi\r\n"


def unit(folder: Path, name: str, content: bytes, **declared: Any) -> Unit:
    original = folder / f"0-{name}"
    original.write_bytes(content)
    table = FilesTable.model_validate({"path": "*", **declared})
    (only,) = prepare(original, name, table, folder / "prepared")
    return only


def row(one: Unit) -> dict[str, Any]:
    assert one.refused == ""
    (found,) = pq.read_table(one.path).to_pylist()
    return dict(found)


def reason(one: Unit) -> str:
    assert one.refused == ""
    assert pq.read_table(one.path).num_rows == 0
    (found,) = pq.read_table(rejected_path(one.path)).to_pylist()
    return str(found["reason"])


def mail(folder: Path, content: bytes, name: str = "m.eml") -> dict[str, Any]:
    return row(unit(folder, name, content))


def composed(**parts: Any) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = "Ann <ann@x.example>", "Bob <bob@y.example>, c@z.example"
    message["Subject"], message["Date"] = "Größe, 価格", "Mon, 01 Jun 2026 10:00:00 +0200"
    message["Message-ID"], message["In-Reply-To"] = "<2@x>", "<1@x>"
    for name, value in parts.items():
        message[name.replace("_", "-")] = value
    return message


# texts


def test_a_text_file_is_one_row_of_its_name_and_all_its_text(tmp_path: Path) -> None:
    found = row(unit(tmp_path, "a.txt", "\ufeffHé\r\n\r\nyou\r".encode(), format="text"))
    assert (found["name"], found["text"]) == ("a.txt", "Hé\n\nyou\n")
    packed = row(unit(tmp_path, "b.txt.gz", gzip.compress(b"hi"), format="text"))
    assert (packed["name"], packed["text"]) == ("b.txt.gz", "hi")
    assert row(unit(tmp_path, "c.txt", b"", format="text"))["text"] == ""


def test_a_text_takes_the_first_encoding_that_decodes_it(tmp_path: Path) -> None:
    western = {"format": "text", "encodings": ["utf-8", "cp1252"]}
    assert row(unit(tmp_path, "a.txt", "Größe".encode("cp1252"), **western))["text"] == "Größe"
    assert row(unit(tmp_path, "b.txt", "Größe".encode(), **western))["text"] == "Größe"


def test_an_undecodable_text_is_refused_or_rejected_as_declared(tmp_path: Path) -> None:
    assert "byte 0xff" in unit(tmp_path, "a.txt", b"a\xff", format="text").refused
    lenient = unit(tmp_path, "b.txt", b"a\xff", format="text", encoding_errors="reject")
    assert reason(lenient) == "bytes that are not utf-8"
    assert "NUL" in reason(unit(tmp_path, "c.txt", b"a\0b", format="text"))


def test_the_suffix_alone_makes_no_text(tmp_path: Path) -> None:
    assert "tells no format" in unit(tmp_path, "orders.txt", b"a;b").refused


# mails


def test_headers_are_decoded_and_the_date_is_told_in_utc(tmp_path: Path) -> None:
    message = composed(Cc="d@z.example", References="<0@x> <1@x>")
    message.set_content("Hello\n")
    found = mail(tmp_path, message.as_bytes())
    assert found["subject"] == "Größe, 価格"
    assert found["sent_at"] == "2026-06-01T08:00:00Z"
    assert found["from_address"] == "Ann <ann@x.example>"
    assert found["to_addresses"] == "Bob <bob@y.example>, c@z.example"
    assert (found["cc_addresses"], found["message_id"]) == ("d@z.example", "<2@x>")
    assert (found["in_reply_to"], found["reply_references"]) == ("<1@x>", "<0@x> <1@x>")
    assert found["body"] == "Hello"
    assert ["Message-ID", "<2@x>"] in json.loads(found["headers"])
    assert found["attachments"] == "[]"


def test_plain_text_is_preferred_and_html_is_read_where_it_is_alone(tmp_path: Path) -> None:
    both = composed()
    both.set_content("plain\n")
    both.add_alternative("<p>rich</p>", subtype="html")
    assert mail(tmp_path, both.as_bytes())["body"] == "plain"
    alone = composed()
    page = "<style>p{}</style><p>One&nbsp;<b>two</b></p><script>x()</script><ul><li>a<li>b</ul>"
    alone.set_content(page, subtype="html")
    assert mail(tmp_path, alone.as_bytes(), "n.eml")["body"] == "One two\n\na\n\nb"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("a<br>b", "a\nb"),
        ("<td>1</td>", "1"),
        ("<!-- gone -->", ""),
        ("<?xml version='1.0' encoding='latin-1'?><p>é</p>", "é"),
        ("<div>" * 3_000 + "deep", "deep"),
    ],
)
def test_html_gives_what_a_reader_sees(html: str, text: str) -> None:
    assert text_of_html(html) == text


def test_attachments_are_named_and_summed(tmp_path: Path) -> None:
    message = composed()
    message.set_content("see below")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="größe.png")
    message.add_attachment("a;b\n", subtype="csv", filename="x.csv")
    inner = composed()
    inner.set_content("earlier")
    message.add_attachment(inner)
    found = mail(tmp_path, message.as_bytes())
    assert found["body"] == "see below"
    picture, table, forwarded = json.loads(found["attachments"])
    digest = hashlib.sha256(b"\x89PNG").hexdigest()
    assert picture == {"name": "größe.png", "type": "image/png", "size": 4, "sha256": digest}
    assert (table["name"], table["type"]) == ("x.csv", "text/csv")
    assert forwarded["type"] == "message/rfc822"
    assert forwarded["size"] > 50


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (HEADERS + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xf6\xdfe", "Größe"),
        (HEADERS + b"Content-Type: text/plain; charset=klingon\r\n\r\nplain \xf6", "plain \ufffd"),
        (HEADERS + b"\r\nno type \xc3\xa9", "no type é"),
        (HEADERS + b"Content-Type: nonsense;;;=\r\n\r\ntext", "text"),
        (HEADERS + b"Date: the day before yesterday\r\n\r\ntext", "text"),
        (HEADERS + b"Subject: \xff\xfe raw bytes\r\nTo: <<<@@\r\n\r\ntext", "text"),
        (HEADERS + b"\r\n", ""),
        (b"Subject: =?utf-8?b?broken\r\n\r\nx\0y", "x\ufffdy"),
    ],
)
def test_an_odd_mail_is_read_as_far_as_it_goes(tmp_path: Path, content: bytes, body: str) -> None:
    found = mail(tmp_path, content)
    assert found["body"] == body
    assert found["sent_at"] is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"just some words\nwithout any header\n", "begins with no header"),
        (
            HEADERS + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\ncut he',
            "cut: a start boundary was found",
        ),
        (
            HEADERS + b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsb",
            "cut",
        ),
    ],
)
def test_a_mail_that_is_none_or_cut_is_rejected(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in reason(unit(tmp_path, "m.eml", content))


def test_mails_and_texts_are_loaded_and_faults_stop_none(lab: Lab) -> None:
    lab.tables["mails"] = {"path": "mails/*/*.eml"}
    lab.tables["calls"] = {"path": "calls/*.txt", "format": "text", "encoding_errors": "reject"}
    message = composed()
    message.set_content("Hello\n")
    lab.put("mails/2026/a.eml", message.as_bytes())
    lab.put("mails/2026/b.eml", b"no header here")
    lab.put("calls/c.txt", "good morning")
    lab.put("calls/d.txt", b"caf\xe9")
    lab.run()
    (only,) = lab.raw("mails")
    assert (only["name"], only["body"]) == ("mails/2026/a.eml", "Hello")
    assert [one["text"] for one in lab.raw("calls")] == ["good morning"]
    told = {record[1].split(":")[0] for record in lab.rejected()}
    assert told == {"no mail", "bytes that are not utf-8"}
    before = lab.state()
    lab.run()
    assert lab.state() == before
