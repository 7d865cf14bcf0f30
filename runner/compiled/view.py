"""A read-only view of the parsed project, the same from dbt's manifest and from what is kept.

dbt's manifest as a dictionary -> `lasting` -> JSON -> `View` -> nodes with dbt's attributes

Whatever asks about the project without changing or compiling it asks a view, so that it works
without dbt. Left out: macros, exposures and all that only dbt itself needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

# What dbt has as objects; any other mapping is one there too.
_OBJECTS = {
    *("config", "depends_on", "test_metadata", "freshness", "warn_after", "error_after"),
    *("contract", "checksum"),
}
# Large, or noted by dbt about a parse or a compilation.
_DROPPED = {
    *("created_at", "build_path", "compiled", "compiled_code", "compiled_path", "extra_ctes"),
    *("extra_ctes_injected", "_pre_injected_sql", "refs", "sources", "metrics", "doc_blocks"),
    *("unrendered_config", "unrendered_config_call_dict"),
}


class Project(Protocol):
    """The parsed project: dbt's manifest, or a view of it."""

    @property
    def nodes(self) -> Mapping[str, Any]:
        """Models, seeds, snapshots, tests and operations by unique id."""

    @property
    def sources(self) -> Mapping[str, Any]:
        """Source tables by unique id."""


class Part:
    """A node, or a part of one, whose fields are attributes as in dbt."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            value = self._fields[name]
        except KeyError:
            raise AttributeError(name) from None
        if isinstance(value, dict):
            if name == "columns":
                return {key: Part(column) for key, column in value.items()}
            if name in _OBJECTS:
                return Part(value)
        return value

    def __repr__(self) -> str:
        return f"Part({self._fields.get('unique_id', sorted(self._fields))})"


class _Parts(Mapping[str, Any]):
    """Nodes by unique id, wrapped when they are asked for."""

    def __init__(self, content: Mapping[str, Mapping[str, Any]]) -> None:
        self._parts = {key: Part(fields) for key, fields in content.items()}

    def __getitem__(self, key: str) -> Part:
        return self._parts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


class View:
    """The project as it was parsed.

    Args:
        content: `nodes` and `sources` as `lasting` gives them.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.nodes: Mapping[str, Any] = _Parts(content["nodes"])
        self.sources: Mapping[str, Any] = _Parts(content["sources"])


def lasting(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a view needs of dbt's manifest as a dictionary, fit for JSON."""
    return {
        kind: {
            key: {name: value for name, value in node.items() if name not in _DROPPED}
            | ({"freshness": _threshold(node)} if kind == "sources" else {})
            for key, node in manifest[kind].items()
        }
        for kind in ("nodes", "sources")
    }


def _threshold(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """How old a source table may be; None where nothing is said, which dbt has as empty parts."""
    found = source.get("freshness") or {}
    told = [found.get(name) or {} for name in ("warn_after", "error_after")]
    return dict(found) if any(part.get("count") for part in told) else None
