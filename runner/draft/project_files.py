"""The two files of the project that list what there is: staging models, and areas of marts.

names -> `with_staging_models` (macros/ledger/staging_models.sql)
area -> `with_area` (dbt_project.yml)

Both only gain what is missing, in their own layout, and are compared afterwards: a file whose form
is not known is left alone, and a person is told what to put there.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ingestion.errors import BadInput

STAGING_LIST = "macros/ledger/staging_models.sql"
PROJECT = "dbt_project.yml"
_LIST = re.compile(r"(?s)(set names = \[)(.*?)(\s*\])")


def with_staging_models(text: str, names: Collection[str]) -> str:
    """The macro's text with these models in its list.

    Raises:
        BadInput: The list is not where it was.
    """
    found = _LIST.search(text)
    if found is None:
        raise BadInput(
            "the list of staging models is not there",
            file=STAGING_LIST,
            hint=f'Write it as `set names = ["..."]`, with {", ".join(sorted(names))} in it.',
        )
    listed = re.findall(r"[\"']([a-z0-9_]+)[\"']", found[2])
    if set(names) <= set(listed):
        return text
    lines = "".join(f'\n        "{name}",' for name in sorted({*listed, *names}))
    return f"{text[: found.start(2)]}{lines}\n    ]{text[found.end() :]}"


def with_area(text: str, area: str) -> str:
    """The text of `dbt_project.yml` with an area of marts that has a schema and an owner.

    Raises:
        BadInput: The marts are not configured where they were.
    """
    import yaml

    before = yaml.safe_load(text)
    project = before["name"]
    marts = (before.get("models") or {}).get(project, {}).get("marts")
    if isinstance(marts, dict) and area in marts:
        return text
    wanted = {"+schema": area, "+group": area}
    if isinstance(marts, dict):
        after = _inserted(text, area)
        marts[area] = wanted
        if after is not None and yaml.safe_load(after) == before:
            return after
    raise BadInput(
        "the marts of the project are not configured where they were",
        file=PROJECT,
        key=f"models.{project}.marts",
        hint=f"Put `{area}: {{+schema: {area}, +group: {area}}}` there, then draft again.",
    )


def _inserted(text: str, area: str) -> str | None:
    """The area as the last key below `marts:`."""
    lines = text.split("\n")
    start = next((n for n, line in enumerate(lines) if re.fullmatch(r" +marts:\s*", line)), None)
    if start is None:
        return None
    depth = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= depth:
            break
        if line.strip():
            end = number + 1
    space = " " * (depth + 2)
    added = [f"{space}{area}:", f"{space}  +schema: {area}", f"{space}  +group: {area}"]
    return "\n".join([*lines[:end], *added, *lines[end:]])
