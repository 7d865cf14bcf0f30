"""Texts as YAML scalars, for whoever writes a declaration or proposes one.

text -> itself, where YAML reads it as that text | in double quotes
"""

from __future__ import annotations

import json
import re

import yaml

_PLAIN = re.compile(r"[A-Za-zÀ-ÿ_][\w ()/&+.-]*[\w).]|[A-Za-zÀ-ÿ]")
# PyYAML reads them as texts, not all others do.
_WORDS = frozenset(("y", "n", "nan", "inf"))


def scalar(text: str) -> str:
    """A text as a YAML scalar in one line, also within a list in brackets.

    Args:
        text: The text.

    Returns:
        The text as it is, or in quotes where it could be taken for anything else.
    """
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    if is_plain and yaml.safe_load(f"[{text}]") == [text]:
        return text
    return json.dumps(text, ensure_ascii=False)
