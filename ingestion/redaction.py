"""Keeps secrets out of every text that leaves the process.

secret met -> `register_secret` -> any message or log record -> `redact` -> `***`

It knows the values met by `connections.resolve` and by the companion, and recognises
`user:password@` in any URL by its shape. It imports nothing of the project, so that errors and
logging can use it.
"""

from __future__ import annotations

import logging
import re
import threading
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 4
_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/?#@]*:)[^\s/@]+(?=@)")
_QUERY_SECRET = re.compile(
    r"(?P<head>[?&][^=&\s]*(?:token|secret|password|signature|api_?key)[^=&\s]*=)[^&\s'\"]+", re.I
)
_BEARER = re.compile(r"(?P<head>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}")
_secrets: set[str] = set()
_lock = threading.Lock()


def register_secret(value: str) -> None:
    """Makes `redact` mask a value, plain and as it is written in a URL.

    Values under four characters are not registered: masking each of them would garble every text.
    They are still masked inside URLs.
    """
    if len(value) < _SHORTEST:
        return
    with _lock:
        _secrets.update({value, quote(value, safe=""), quote_plus(value)})


def redact(text: str) -> str:
    """The text with every known secret replaced by `***`."""
    with _lock:
        known = sorted(_secrets, key=len, reverse=True)
    # First by place, and whole: a secret that begins like another one would leave its end behind.
    for pattern in (_URL_PASSWORD, _QUERY_SECRET, _BEARER):
        text = pattern.sub(rf"\g<head>{MASK}", text)
    for value in known:
        text = text.replace(value, MASK)
    return text


class RedactingFilter(logging.Filter):
    """A logging filter that masks secrets in messages and in the text of exceptions."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Masks the record in place and lets it pass."""
        record.msg = redact(record.getMessage())
        record.args = ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True
