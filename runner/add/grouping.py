"""Which files belong together: those whose names differ only in numbers, dates and marks.

names of files -> digits and marks as `*` -> a glob a table -> `Group`

`orders/2026-01-31.csv` and `orders/2026-02-01.csv` are one table, `orders.csv` and `items.csv` two.
A folder of many files with names of their own and one suffix (texts, mails) is one table as well.
Left out: what is inside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath

_PACKED = (".gz", ".zst", ".zip")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HASH = re.compile(r"(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}")
_NUMBERS = re.compile(r"\d+(?:[-_.:TZ]+\d+)*Z?")
_STARS = re.compile(r"\*(?:[-_.]*\*)+")
# A single file with fewer digits than a year has is taken by its name.
_DATED = re.compile(r"\d{4,}|\d\d[-_.]\d\d")
_MANY = 20


@dataclass(frozen=True)
class Group:
    """Files that make a table.

    Attributes:
        path: Glob that finds them.
        name: Name of the table that suggests itself.
        files: Their names below the location, in order.
    """

    path: str
    name: str
    files: tuple[str, ...]


def grouped(names: Sequence[str], source: str) -> list[Group]:
    """Groups of files.

    Args:
        names: Their names below the location.
        source: What a table is called that nothing else gives a name.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(_pattern(name), []).append(name)
    for pattern, files in list(found.items()):
        if len(files) == 1 and not _DATED.search(files[0]):
            del found[pattern]
            found[_escaped(files[0])] = files
    return [
        Group(_apart(path, files, names), _name(path, source), tuple(files))
        for path, files in sorted(_by_folder(found).items())
    ]


def _apart(path: str, files: Sequence[str], names: Sequence[str]) -> str:
    """The glob, narrowed to numbers if it would find files of another table as well."""
    if len(fitting(names, path)) == len(files):
        return path
    folder, _, file = path.rpartition("/")
    narrow = f"{folder}/{file.replace('*', '[0-9]*')}".lstrip("/")
    return narrow if set(files) <= set(fitting(names, narrow)) else path


def given(names: Sequence[str], path: str, source: str) -> Group:
    """The files that a given glob finds."""
    return Group(path, _name(path, source), tuple(sorted(names)))


def suffix_of(name: str) -> str:
    """The suffix that tells the format, without that of a compression; `.zip` if it alone."""
    path = PurePosixPath(name.lower())
    if path.suffix in _PACKED and PurePosixPath(path.stem).suffix:
        return PurePosixPath(path.stem).suffix
    return path.suffix


def _pattern(name: str) -> str:
    folder, _, file = name.rpartition("/")
    stem, dot, suffixes = _parted(file)
    parts = [*folder.split("/"), stem] if folder else [stem]
    return "/".join(_starred(part) for part in parts) + dot + suffixes


def _parted(file: str) -> tuple[str, str, str]:
    """A file's name without its suffixes, and these."""
    path = PurePosixPath(file)
    ends = path.suffix
    if ends.lower() in _PACKED and PurePosixPath(path.stem).suffix:
        ends = PurePosixPath(path.stem).suffix + ends
    if not ends or _NUMBERS.fullmatch(ends.removeprefix(".")):
        return file, "", ""
    return file.removesuffix(ends), ".", _escaped(ends.removeprefix("."))


def _starred(part: str) -> str:
    marked = "\0"
    text = _UUID.sub(marked, part)
    text = _HASH.sub(marked, text)
    text = _NUMBERS.sub(marked, text)
    return _STARS.sub("*", _escaped(text).replace(marked, "*"))


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _by_folder(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Single files of one folder and suffix as one group, where there are many of them."""
    alone: dict[tuple[str, str], list[str]] = {}
    for pattern, files in found.items():
        if len(files) == 1:
            folder, _, file = pattern.rpartition("/")
            alone.setdefault((folder, "".join(_parted(file)[1:])), []).append(pattern)
    for (folder, ends), patterns in alone.items():
        if len(patterns) > _MANY:
            files = sorted(file for pattern in patterns for file in found.pop(pattern))
            path = f"{folder}/*{ends}" if folder else f"*{ends}"
            found[path] = sorted({*found.get(path, []), *files})
    return found


def _name(path: str, source: str) -> str:
    """The last part of a glob that has a word in it."""
    from ingestion.landing import normalise

    folders, _, file = path.rpartition("/")
    candidates = [_parted(file)[0], *reversed(folders.split("/"))]
    for candidate in candidates:
        plain = re.sub(r"\[(.)\]", r"\1", candidate).partition("=")[0]
        words = re.sub(r"[^A-Za-z0-9]+", "_", plain.replace("*", "_")).strip("_")
        name = re.sub(r"[^a-z0-9]+", "_", normalise(words)).strip("_") if words else ""
        name = re.sub(r"^\d+_?", "", name)
        if name and name not in ("part", "data", "file", "export"):
            return name
    return source


def fitting(names: Sequence[str], path: str) -> list[str]:
    """Names that a glob of one level finds; `**` goes through any number of folders."""
    if "**" in path:
        return [name for name in names if fnmatch(name, path.replace("**/", "*"))]
    depth = path.count("/")
    return [name for name in names if name.count("/") == depth and fnmatch(name, path)]
