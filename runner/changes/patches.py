"""Patches that make the project follow a change of a source.

noted changes + declarations + staging models -> edits of YAML and SQL -> unified diff, or applied

A patch says what the project does not say yet, so there is none once it is applied: that is how an
open change is told from a settled one. Applied patches are put back if dbt refuses the project with
them. Left out: what only a person can decide, such as what a text in place of a number means.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import DeclarationError
from ingestion.evolution import TEXT, widened
from ingestion.schema.journal import Noted, duck_type
from ingestion.schema.shapes import Shape
from runner.changes.staging_sql import with_fallback
from runner.changes.yaml_text import YamlText, entries, entry_named, pair_of, value_of
from runner.yaml_scalar import scalar

if TYPE_CHECKING:
    import yaml

_INGEST = ("config", "meta", "ingest")
_NAMES = ("columns", "exclude_columns", "primary_key")


@dataclass(frozen=True)
class Patched:
    """A file before and after.

    Attributes:
        file: Its path below the project's root.
        before: Its text.
        after: Its text with the patch.
    """

    file: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The difference as `git apply` takes it."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{self.file}",
            f"b/{self.file}",
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in lines
        )


@dataclass(frozen=True)
class Place:
    """What a change of a table concerns in the project.

    Attributes:
        declaration: The source.
        table: The table.
        shape: The table as it was read last.
        models: Files of the models that read it, below the project's root.
    """

    declaration: SourceDeclaration
    table: TableDeclaration
    shape: Shape | None
    models: tuple[str, ...]


class Patches:
    """Patches of a project's files.

    Args:
        root: The project's root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, changes: Sequence[tuple[Noted, Place]]) -> list[Patched]:
        """One patch for all of some changes, by file; nothing where there is nothing to do."""
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        # One change after the other, so that each finds what those before it wrote.
        for noted, place in changes:
            file = place.declaration.file
            for name, edit in self._edits(noted, place, file):
                if name not in before:
                    before[name] = after[name] = (self._root / name).read_text(encoding="utf-8")
                after[name] = edit(after[name])
        return [
            Patched(name, before[name], after[name])
            for name in sorted(before)
            if before[name] != after[name]
        ]

    def apply(self, patched: Sequence[Patched], check: Callable[[], object]) -> None:
        """Writes patched files, and puts them back if the project is refused with them.

        Args:
            patched: The files.
            check: Reads the project, or raises.

        Raises:
            DeclarationError: The project is refused; all is as before.
        """
        try:
            for file in patched:
                self._write(file.file, file.after)
            check()
        except DeclarationError as error:
            for file in patched:
                self._write(file.file, file.before)
            raise DeclarationError(
                message=f"with the patch, the project is refused: {error.message}",
                hint="Nothing is changed. Write the patch to a file (`wellspring changes --diff`), "
                "mend it and use `git apply`.",
            ) from error

    def _write(self, name: str, text: str) -> None:
        path = self._root / name
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(path.stat().st_mode)
        fresh.replace(path)

    @staticmethod
    def _edits(noted: Noted, place: Place, file: str) -> list[tuple[str, Callable[[str], str]]]:
        edits: list[tuple[str, Callable[[str], str]]] = [
            (file, lambda text: SourceText(text, noted, place).edited())
        ]
        if noted.change.kind == "column_renamed":
            old, new = noted.change.old, noted.change.column
            edits += [(model, lambda text: with_fallback(text, old, new)) for model in place.models]
        return edits


class SourceText:
    """The YAML text of a source, edited for one change.

    Args:
        text: The text.
        noted: The change.
        place: What it concerns.
    """

    def __init__(self, text: str, noted: Noted, place: Place) -> None:
        self._yaml = YamlText(text)
        self._noted = noted
        self._place = place

    @cached_property
    def _source(self) -> yaml.Node | None:
        return entry_named(value_of(self._yaml.root(), "sources"), self._noted.source)

    @cached_property
    def _table(self) -> yaml.Node | None:
        return entry_named(value_of(self._source, "tables"), self._noted.table)

    @property
    def _columns(self) -> yaml.Node | None:
        return value_of(self._table, "columns")

    def edited(self) -> str:
        """The text with what the change asks for."""
        if self._table is None:
            return self._yaml.text
        change = self._noted.change
        match change.kind:
            case "column_added":
                self._declare(change.column, f"In the source since {self._day}.")
            case "column_lost":
                self._mark_gone(change.column)
                self._forget(change.column)
            case "column_back":
                self._unmark(change.column)
            case "column_renamed":
                self._rename(change.old, change.column)
            case "column_respelled":
                self._respell(change.old, change.new)
            case "column_retyped":
                self._retype(change.column)
            case "key_changed":
                self._rekey(change.old.split(", "), change.new.split(", "))
            case "table_renamed":
                self._call_origin(change.new)
        return self._yaml.edited()

    @property
    def _day(self) -> str:
        return self._noted.since[:10]

    def _declare(self, name: str, description: str) -> None:
        """Adds a column to those that the table declares, if it declares any."""
        columns = self._columns
        if columns is None or not columns.value or entry_named(columns, name) is not None:
            return
        kind = self._type_of(name)
        parts = [f"name: {scalar(name)}", *([f"data_type: {scalar(kind)}"] if kind else [])]
        parts.append(f"description: {scalar(description)}")
        if all(entry.flow_style for entry in entries(columns)):
            self._yaml.append(columns, f"{{{', '.join(parts)}}}")
            return
        indent = " " * (columns.start_mark.column + 2)
        self._yaml.append(columns, f"\n{indent}".join(parts))

    def _type_of(self, name: str) -> str:
        """The type that raw will have, in the project's words; empty if nobody knows."""
        column = self._place.shape.by_name.get(name) if self._place.shape else None
        return in_words(column.type) if column else ""

    def _mark_gone(self, name: str) -> None:
        entry = entry_named(self._columns, name)
        path = ["config", "meta", "gone_since"]
        if entry is not None and _at(entry, path) is None:
            self._yaml.set_path(entry, path, f'"{self._day}"')

    def _unmark(self, name: str) -> None:
        entry = entry_named(self._columns, name)
        meta = _at(entry, ["config", "meta"])
        pair = pair_of(meta, "gone_since")
        if entry is not None and meta is not None and pair is not None:
            config = pair_of(entry, "config")
            if len(meta.value) == 1 and config is not None and len(config[1].value) == 1:
                self._yaml.remove(entry, *config)
            else:
                self._yaml.remove(meta, *pair)
        elif entry is None:
            self._declare(name, f"In the source since {self._day}.")

    def _rename(self, old: str, new: str) -> None:
        self._mark_gone(old)
        self._yaml = YamlText(self._yaml.edited())
        self._refresh()
        self._declare(new, f"Formerly `{old}`.")
        origin = self._origin(new)
        self._respell(old, origin)

    def _origin(self, name: str) -> str:
        column = self._place.shape.by_name.get(name) if self._place.shape else None
        return (column.origin if column else "") or name

    def _respell(self, old: str, new: str) -> None:
        """Puts a new name in the keys of extraction that say the old one."""
        for key in ("cursor", *_NAMES):
            node = value_of(self._ingest, key)
            shared = value_of(_at(self._source, _INGEST), key) if node is None else None
            listed = _names_in(node if shared is None else shared)
            if not any(_is_name(entry, old) for entry in listed):
                continue
            names = [scalar(new) if _is_name(e, old) else scalar(str(e.value)) for e in listed]
            if names == [scalar(str(entry.value)) for entry in listed]:
                continue
            told = names[0] if key == "cursor" else f"[{', '.join(names)}]"
            self._say(key, told)

    def _say(self, key: str, value: str) -> None:
        """Sets a key of extraction for this table; what the source says of all stays."""
        assert self._table is not None
        self._yaml.set_path(self._table, [*_INGEST, key], value)

    def _forget(self, name: str) -> None:
        """Takes a lost column out of the keys of extraction that cannot do with it."""
        ingest = self._ingest
        for key in ("columns", "exclude_columns"):
            listed = value_of(ingest, key)
            for entry in entries(listed):
                if listed is not None and _is_name(entry, name):
                    self._yaml.remove(listed, entry)
        cursor = pair_of(ingest, "cursor")
        if cursor is not None and ingest is not None and _is_name(cursor[1], name):
            for key in ("cursor", "window"):
                pair = pair_of(ingest, key)
                if pair is not None:
                    self._yaml.remove(ingest, *pair)

    def _retype(self, name: str) -> None:
        declared = value_of(entry_named(self._columns, name), "data_type")
        column = self._place.shape.by_name.get(name) if self._place.shape else None
        if declared is None or column is None or not column.native:
            return
        mine = duck_type(str(declared.value))
        wide = widened(mine, column.type)
        if wide != mine:
            self._yaml.replace(declared, scalar(in_words(wide)))

    def _rekey(self, old: Sequence[str], new: Sequence[str]) -> None:
        listed = value_of(self._ingest, "primary_key")
        if listed is not None and [e.value for e in entries(listed)] == list(old):
            self._yaml.replace(listed, f"[{', '.join(scalar(name) for name in new)}]")

    def _call_origin(self, name: str) -> None:
        assert self._table is not None
        current = _at(self._table, [*_INGEST, "from"])
        if current is None or current.value != name:
            self._yaml.set_path(self._table, [*_INGEST, "from"], scalar(name))

    @property
    def _ingest(self) -> yaml.Node | None:
        """What extraction is told of this table alone."""
        return _at(self._table, _INGEST)

    def _refresh(self) -> None:
        for name in ("_source", "_table"):
            self.__dict__.pop(name, None)


def _names_in(node: yaml.Node | None) -> list[yaml.Node]:
    """The names that a key gives: one, or several in a list."""
    if node is None:
        return []
    return list(entries(node)) if isinstance(node.value, list) else [node]


def _at(node: yaml.Node | None, path: Sequence[str]) -> yaml.Node | None:
    for name in path:
        node = value_of(node, name)
    return node


def _is_name(node: yaml.Node, name: str) -> bool:
    """Whether a name, which may be spelled as in the source, is that of a raw column."""
    from ingestion.landing import normalise

    return name in (node.value, normalise(str(node.value)))


def in_words(kind: str) -> str:
    """A DuckDB type as declarations spell it."""
    return "string" if kind == TEXT else kind.lower().replace(",", ", ")


def combined(patched: Mapping[str, Patched] | Sequence[Patched]) -> str:
    """All differences as one text."""
    files = patched.values() if isinstance(patched, Mapping) else patched
    return "".join(file.diff for file in files)
