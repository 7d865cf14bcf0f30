"""Edits of a YAML file as text, so that comments, order and style stay.

text -> nodes with their places (PyYAML) -> edits at places -> text

Left out: anchors, which declarations do not need; where one stands, the edit goes to its origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import yaml


@dataclass
class YamlText:
    """A YAML text that is being edited.

    Attributes:
        text: As it is.
    """

    text: str
    _edits: list[tuple[int, int, str]] = field(default_factory=list)
    _set: dict[tuple[int, ...], None] = field(default_factory=dict)

    def root(self) -> yaml.Node | None:
        """The document."""
        return yaml.compose(self.text, Loader=yaml.SafeLoader)

    def edited(self) -> str:
        """The text with all edits."""
        text = self.text
        for _, (start, end, new) in sorted(
            enumerate(self._edits), key=lambda edit: (-edit[1][0], -edit[0])
        ):
            text = text[:start] + new + text[end:]
        return text

    def replace(self, node: yaml.Node, value: str) -> None:
        """Puts another value in place of a node."""
        self._edits.append((node.start_mark.index, node.end_mark.index, value))

    def set_path(self, mapping: yaml.Node, path: Sequence[str], value: str) -> None:
        """Sets a key, and the mappings above it where they are absent."""
        for place, name in enumerate(path):
            inner = value_of(mapping, name)
            if inner is None:
                rest = "".join(f"{{{key}: " for key in path[place + 1 :]) + value
                self._insert(mapping, f"{name}: {rest}{'}' * (len(path) - place - 1)}")
                return
            mapping = inner
        self.replace(mapping, value)

    def append(self, sequence: yaml.Node, entry: str) -> None:
        """Adds an entry, in the style of those that are there."""
        if sequence.flow_style:
            self._insert_flow(sequence, entry)
            return
        last = sequence.value[-1]
        self._line_after(last, f"{' ' * sequence.start_mark.column}- {entry}")

    def remove(self, parent: yaml.Node, entry: yaml.Node, end: yaml.Node | None = None) -> None:
        """Takes an entry out of a list, or a key (with its value as `end`) out of a mapping."""
        start, stop = entry.start_mark.index, (end or entry).end_mark.index
        if parent.flow_style:
            after = re.match(r"\s*,\s*", self.text[stop:])
            if after:
                stop += after.end()
            else:
                before = re.search(r",\s*$", self.text[:start])
                start = before.start() if before else start
        else:
            start = self.text.rfind("\n", 0, start) + 1
            stop = self._end_of_line(_last_index(end or entry))
        self._edits.append((start, stop, ""))

    def _insert(self, mapping: yaml.Node, entry: str) -> None:
        if mapping.flow_style:
            self._insert_flow(mapping, entry)
            return
        indent = " " * mapping.value[0][0].start_mark.column
        self._line_after(mapping, indent + entry)

    def _insert_flow(self, node: yaml.Node, entry: str) -> None:
        end = node.end_mark.index - 1
        blank = len(self.text[:end]) - len(self.text[:end].rstrip())
        comma = ", " if node.value else ""
        self._edits.append((end - blank, end - blank, f"{comma}{entry}"))

    def _line_after(self, node: yaml.Node, line: str) -> None:
        # A folded text takes the blank lines behind it for its own.
        place = self._end_of_line(len(self.text[: _last_index(node)].rstrip()))
        lead = "" if place == 0 or self.text[place - 1] == "\n" else "\n"
        self._edits.append((place, place, f"{lead}{line}\n"))

    def _end_of_line(self, place: int) -> int:
        end = self.text.find("\n", place)
        return len(self.text) if end < 0 else end + 1


def _last_index(node: yaml.Node) -> int:
    """Where the last thing of a node stands; the mark of a block lies behind what follows it."""
    if isinstance(node, yaml.ScalarNode):
        end = int(node.end_mark.index)
        return end - 1 if node.style in ("|", ">") else end
    if node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _last_index(last[1] if isinstance(last, tuple) else last)


def value_of(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a key of a mapping; None if it is not there."""
    pair = pair_of(node, name)
    return pair[1] if pair else None


def pair_of(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """A key of a mapping and its value; None if it is not there."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key, value
    return None


def entry_named(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The entry of a list of mappings that bears a name."""
    for entry in entries(node):
        named = value_of(entry, "name")
        if isinstance(named, yaml.ScalarNode) and named.value == name:
            return entry
    return None


def entries(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """The entries of a list."""
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
