"""Mail as it travels (RFC 5322, MIME): one message a file, one row a message.

message -> headers decoded, body as text, attachments by name, type, size and checksum ->
`TextTable`

| column | holds |
|---|---|
| name | the file's name |
| message_id, in_reply_to, reply_references | ids of this and earlier messages, in brackets |
| date, sent_at | the date as written, and the same in UTC as ISO 8601 if it can be read |
| from_address, to_addresses, cc_addresses, subject | headers, decoded |
| body | the text part; where there is only HTML, its text |
| attachments | JSON array of objects: name, type, size in bytes, sha256 of the decoded bytes |
| headers | JSON array of all headers as pairs of name and decoded value, in order |

Letters that the stated encoding does not have become U+FFFD, so that one bad letter does not cost a
message; the rule `encoding` of staging flags them. A message is rejected if it has no headers, or
if it was cut: a part that never ends, or base64 that does not come out. Left out: the bytes of
attachments (they stay in the original), mailboxes of many messages, encrypted parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC
from email import errors, message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from ingestion.formats.streams import Content, opened
from ingestion.formats.tables import TextTable

COLUMNS = (
    "name",
    "message_id",
    "in_reply_to",
    "reply_references",
    "date",
    "sent_at",
    "from_address",
    "to_addresses",
    "cc_addresses",
    "subject",
    "body",
    "attachments",
    "headers",
)
_CUT = (
    errors.NoBoundaryInMultipartDefect,
    errors.StartBoundaryNotFoundDefect,
    errors.CloseBoundaryNotFoundDefect,
    errors.InvalidBase64LengthDefect,
    errors.InvalidBase64PaddingDefect,
)
_BLOCKS = {
    "address", "article", "blockquote", "br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
}  # fmt: skip
_UNSEEN = ("head", "script", "style", "template", "title")


def read_mail(content: Content, target: Path, **where: Any) -> TextTable:
    """Writes a message to `target` as Parquet with one row, or none if it is rejected.

    Args:
        content: The message.
        target: Parquet file to write.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: The compressed data is broken.
    """
    with opened(content) as stream:
        data = stream.read()
    table = TextTable()
    if data.strip():
        try:
            record = _record(data)
        except _UNREADABLE as fault:
            table.reject(1, _reason(fault), data.decode("utf-8", "backslashreplace"))
        else:
            table.add({"name": content.member or content.name, **record})
    for name in COLUMNS:
        table.names.setdefault(name)
    table.write(target, **where)
    return table


class _Unreadable(Exception):
    """Says why bytes are no whole message."""


# The standard library's parsers fail in many ways on odd mail; one message must not stop a load.
_UNREADABLE = (Exception,)


def _reason(fault: Exception) -> str:
    if isinstance(fault, _Unreadable):
        return str(fault)
    if isinstance(fault, RecursionError):
        return "its parts are nested too deeply"
    return f"it cannot be taken apart: {type(fault).__name__}: {fault}"


def _record(data: bytes) -> dict[str, str | None]:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)  # the policy says so
    pairs = _headers(message)
    if not pairs:
        raise _Unreadable("no mail: it begins with no header")
    attachments = [_attachment(part) for part in _leaves(message) if _is_attachment(part)]
    body = _body(message)
    _check_whole(message)
    return {
        "message_id": _first(pairs, "message-id"),
        "in_reply_to": _first(pairs, "in-reply-to"),
        "reply_references": _first(pairs, "references"),
        "date": _first(pairs, "date"),
        "sent_at": _sent_at(_first(pairs, "date")),
        "from_address": _first(pairs, "from"),
        "to_addresses": _first(pairs, "to"),
        "cc_addresses": _first(pairs, "cc"),
        "subject": _first(pairs, "subject"),
        "body": body,
        "attachments": _json(attachments),
        "headers": _json(pairs),
    }


def _headers(message: EmailMessage) -> list[list[str]]:
    """Names and values; a value that cannot be parsed stays as it is written."""
    found = []
    for name, raw in message.raw_items():
        try:
            value = str(message.policy.header_fetch_parse(name, raw))
        except Exception:  # the standard library's parsers fail in many ways on odd headers
            value = str(raw)
        found.append([str(name), _storable(re.sub(r"\s*[\r\n]+\s*", " ", value)).strip()])
    return found


def _first(pairs: list[list[str]], wanted: str) -> str | None:
    return next((value for name, value in pairs if name.lower() == wanted and value), None)


def _sent_at(date: str | None) -> str | None:
    """The date in UTC; without a zone, or beyond the calendar, it tells no moment."""
    try:
        moment = parsedate_to_datetime(date or "")
        if moment.tzinfo is None:
            return None
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """Parts that hold content themselves; a forwarded message is one, whole."""
    if message.get_content_maintype() != "multipart":
        yield message
        return
    for part in message.iter_parts():
        if isinstance(part, EmailMessage):
            yield from _leaves(part)


def _is_attachment(part: EmailMessage) -> bool:
    return (
        part.get_content_disposition() == "attachment"
        or _filename(part) is not None
        or part.get_content_maintype() != "text"
    )


def _filename(part: EmailMessage) -> str | None:
    try:
        return part.get_filename()
    except Exception:  # the standard library's parsers fail in many ways on odd parameters
        return None


def _attachment(part: EmailMessage) -> dict[str, Any]:
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        forwarded = inner[0] if isinstance(inner, list) and inner else part
        content = bytes(forwarded) if isinstance(forwarded, EmailMessage) else b""
    else:
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
    name = _filename(part)
    return {
        "name": None if name is None else _storable(name),
        "type": part.get_content_type(),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _body(message: EmailMessage) -> str:
    """The plain text if there is one, else the text of the HTML; parts one after another."""
    texts = [p for p in _leaves(message) if p.get_content_maintype() == "text"]
    texts = [part for part in texts if not _is_attachment(part)]
    plain = [part for part in texts if part.get_content_subtype() != "html"]
    if any(_text(part).strip() for part in plain):
        return "\n\n".join(_text(part).strip() for part in plain)
    return "\n\n".join(text_of_html(_text(part)) for part in texts if part not in plain)


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset() or "utf-8"
    try:
        text = data.decode(charset, "replace")
    except LookupError:
        # An encoding that nobody knows: what is plain ASCII can still be read.
        text = data.decode("ascii", "replace")
    return _storable(text.replace("\0", "\ufffd").replace("\r\n", "\n").replace("\r", "\n"))


def text_of_html(html: str) -> str:
    """The text that a reader of an HTML page sees, a line for each block.

    Args:
        html: The page, however badly formed.
    """
    from lxml import etree
    from lxml import html as pages

    if not html.strip():
        return ""
    parser = pages.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        # As bytes: a declaration of another encoding within the text would be refused.
        root = pages.document_fromstring(html.encode(), parser=parser)
    except etree.ParserError:
        return ""  # nothing but comments
    if any("depth" in str(fault.message) for fault in parser.error_log):
        # The parser drops what is nested deeper than it goes.
        return " ".join(re.sub(r"<[^>]*>", " ", html).split())
    parts: list[str] = []
    _collect(root, parts)
    lines = [re.sub(r"[ \t\xa0]+", " ", line).strip() for line in "".join(parts).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _collect(root: Any, parts: list[str]) -> None:
    """Texts below an element in order, without recursion: pages may be nested deeply."""
    ahead: list[Any] = [root]
    while ahead:
        one = ahead.pop()
        if isinstance(one, str):
            parts.append(one)
            continue
        inner = isinstance(one.tag, str) and one.tag.lower() not in _UNSEEN
        block = "\n" if inner and one.tag.lower() in _BLOCKS else ""
        # A line break is one, a block stands alone.
        parts.append("" if one.tag == "br" else block)
        after = [block] if one is root else [block, re.sub(r"\s+", " ", one.tail or "")]
        ahead.extend(reversed(after))
        if inner:
            ahead.extend(reversed(list(one)))
            parts.append(re.sub(r"\s+", " ", one.text or ""))


def _check_whole(message: EmailMessage) -> None:
    """Raises where a part tells that it was cut."""
    for part in message.walk():
        for defect in part.defects:
            if isinstance(defect, _CUT):
                said = (type(defect).__doc__ or type(defect).__name__).split("\n")[0].rstrip(".")
                raise _Unreadable(f"the message is cut: {said[:1].lower()}{said[1:]}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _storable(text: str) -> str:
    """Bytes that a header should not have (as lone surrogates) become U+FFFD."""
    return (
        text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")
    )
