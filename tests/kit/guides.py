"""Follows a guide word by word: writes its files, does what it says elsewhere, runs its commands.

docs/guides/x.md -> fenced blocks in order -> files of a project, statements in a system, commands

A block whose first line is a comment with a path (`# .dlt/secrets.toml`, `-- models/x.sql`) is that
file. One whose comment begins with `in` (`-- in the database`) is handed to what the test gives for
it, and one in `sh` is run. What a test may change are addresses: those of its own servers in place
of the guide's. Left out: blocks of other languages without such a comment.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import warm

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_PLACE = re.compile(r"^(?:#|--) (in [\w ]+|\.?[\w./-]+\.\w+)$")
_PROGRAMS = {"wellspring": ["-m", "runner"], "dbt": ["-m", "dbt.cli.main"], "python": []}


@dataclass(frozen=True)
class Block:
    """A fenced block of a guide.

    Attributes:
        language: What stands behind the fence.
        place: The file it is, or `in ...`; empty without either.
        text: What it holds, without the line that names the place.
    """

    language: str
    place: str
    text: str


def blocks(guide: str) -> Iterator[Block]:
    """The fenced blocks of a guide, in order."""
    for found in _BLOCK.finditer((GUIDES / guide).read_text(encoding="utf-8")):
        first, _, rest = found[2].partition("\n")
        place = _PLACE.match(first)
        yield Block(found[1], place[1] if place else "", rest if place else found[2])


def follow(
    guide: str,
    folder: Path,
    addresses: Mapping[str, str],
    elsewhere: Mapping[str, Callable[[str], object]],
) -> list[tuple[str, str]]:
    """Does what a guide says.

    Args:
        guide: Name of the file below docs/guides.
        folder: The project's root.
        addresses: What stands in the guide, and what to write instead.
        elsewhere: What to do with blocks that are not for the project, by their place.

    Returns:
        The commands, each with what it printed.
    """
    said = []
    for block in blocks(guide):
        text = block.text
        for theirs, ours in addresses.items():
            text = text.replace(theirs, ours)
        if block.place.startswith("in "):
            elsewhere[block.place](text)
        elif block.place:
            _write(folder / block.place, text)
        elif block.language == "sh":
            lines = text.replace("\\\n", " ").splitlines()
            said += [(line, command(line, folder)) for line in lines if line.strip()]
    return said


def command(line: str, folder: Path) -> str:
    """Runs a command of a guide, and gives back what it printed; it must succeed."""
    program, *arguments = shlex.split(line, comments=True)
    if arguments[:2] == ["show", "--inline"]:
        return _shown(arguments[2], folder)
    environment = {
        **os.environ,
        "WELLSPRING_DATA": str(folder / "data"),
        "COLUMNS": "200",
        "DBT_PROFILES_DIR": str(folder),
    }
    done = warm.run(
        [*_PROGRAMS[program], *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return f"{done.stdout}\n{done.stderr}"


def _shown(query: str, folder: Path) -> str:
    """What `dbt show` would show, asked of the warehouse itself: dbt takes seconds to begin."""
    query = re.sub(r"\{\{ source\('(\w+)', '(\w+)'\) \}\}", r"raw_\1.\2", query)
    query = re.sub(r"\{\{ ref\('(stg_\w+)'\) \}\}", r"staging.\1", query)
    place = folder / "data" / "warehouse" / "wellspring.duckdb"
    with duckdb.connect(str(place), read_only=True) as connection:
        return "\n".join(map(str, connection.execute(query).fetchall()))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.read_text(encoding="utf-8") if file.suffix == ".toml" and file.exists() else ""
    file.write_text(before + text, encoding="utf-8")


if __name__ == "__main__":
    for one in blocks(sys.argv[1]):
        sys.stdout.write(f"{one.language:8} {one.place}\n")
