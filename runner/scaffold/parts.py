"""Which files are Wellspring and which its example, and how files of both look without it.

parts.toml -> `Parts` -> example, product or neither, by path
text with "example: begin" and "example: end" -> `without_example`

Left out: reading and writing projects.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from ingestion.errors import BadInput

Part = Literal["product", "example", "neither"]

STAGING_LIST = "macros/ledger/staging_models.sql"
PROJECT_FILE = "dbt_project.yml"
_BEGIN, _END = "example: begin", "example: end"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Parts:
    """What belongs to what.

    Attributes:
        product: Globs of Wellspring's files.
        example: Globs of the example's files, which win.
        made: Files that take another form without the example, and the template of each.
    """

    product: tuple[str, ...]
    example: tuple[str, ...]
    made: Mapping[str, str]

    def of(self, path: str) -> Part:
        """What a file belongs to.

        Args:
            path: Below the project's root, with slashes.
        """
        if path in self.made:
            return "product"
        if any(_pattern(glob).fullmatch(path) for glob in self.example):
            return "example"
        return (
            "product" if any(_pattern(glob).fullmatch(path) for glob in self.product) else "neither"
        )

    def made_anew(self, path: str, name: str) -> str | None:
        """The text that a file takes without the example; None if it keeps its own."""
        if path not in self.made:
            return None
        text = (_HERE / "templates" / self.made[path]).read_text(encoding="utf-8")
        return text.replace("%NAME%", name)


def read_parts() -> Parts:
    """The parts as parts.toml declares them."""
    import tomllib

    found = tomllib.loads((_HERE / "parts.toml").read_text(encoding="utf-8"))
    return Parts(tuple(found["product"]), tuple(found["example"]), dict(found["made"]))


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    """A glob as a pattern: `**` for anything below, `*` for anything within a name."""
    parts = re.split(r"(\*\*|\*)", glob)
    told = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(told.get(part, re.escape(part)) for part in parts))


def without_example(text: str, file: str) -> str:
    """A text without what stands between the marks of the example.

    Raises:
        BadInput: A mark is missing.
    """
    kept = []
    inside = False
    for line in text.splitlines(keepends=True):
        mark = _BEGIN if _BEGIN in line else _END if _END in line else ""
        if mark and (mark == _BEGIN) is inside:
            raise BadInput(f"the mark {mark!r} has no other half", file=file)
        if mark:
            inside = mark == _BEGIN
        elif not inside:
            kept.append(line)
    if inside:
        raise BadInput(f"the mark {_BEGIN!r} has no other half", file=file)
    return "".join(kept).rstrip("\n") + "\n" if kept else ""


def without_models(text: str, names: Collection[str]) -> str:
    """The list of staging models without some of them."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip().strip(',"') not in names)


def renamed(text: str, name: str) -> str:
    """`dbt_project.yml` of a project with another name; its profile keeps the one it has."""
    text = re.sub(r"(?m)^name: \w+$", f"name: {name}", text)
    former = r"(?m)^(models|seeds|data_tests):\n  \w+:$"
    return re.sub(former, rf"\1:\n  {name}:", text)


def has_marks(text: str) -> bool:
    """Whether a text has something of the example."""
    return _BEGIN in text
