"""What the runner asks of the parsed dbt project.

dbt's manifest -> models in order, what is published, what lies above a test, tests of a model

Plain look-ups over the manifest that `transform.Dbt` keeps. Left out: anything about the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.compiled.view import Project

_PUBLISHED_FOLDER = "marts"
# What makes a model give something else although code and rows are the same.
_VOLATILE = re.compile(
    r"\b((current_date|current_time|current_timestamp|current_localtimestamp|get_current_timestamp"
    r"|getdate|transaction_timestamp|run_started_at|invocation_id|gen_random_uuid|nextval|env_var)\b"
    r"|(now|today|random|uuid)\s*\()",
    re.IGNORECASE,
)
# What dbt notes about a parse or a compilation, not about the code.
_NOTED = {
    *("created_at", "build_path", "compiled", "compiled_code", "compiled_path", "extra_ctes"),
    *("extra_ctes_injected", "_pre_injected_sql", "relation_name", "deferred"),
}


@dataclass(frozen=True)
class Relation:
    """A table that readers get.

    Attributes:
        unique_id: dbt's name of the model.
        schema: Its schema, in the warehouse and in the published version.
        name: Its name there.
        description: What it holds, in words.
        columns: Description by column, for those that have one.
        keys: Columns that identify a row, of each key that is declared.
    """

    unique_id: str
    schema: str
    name: str
    description: str
    columns: dict[str, str]
    keys: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def published_relations(manifest: Project) -> list[Relation]:
    """Models that readers get: public ones of the marts, and those that ask for it.

    A model outside `models/marts` asks with `config: meta: publish: true`; a public mart declines
    with `false`.
    """
    found = []
    tests = _attached(manifest)
    for node in manifest.nodes.values():
        if str(node.resource_type) != "model" or node.config.materialized == "ephemeral":
            continue
        public_mart = str(node.access) == "public" and _PUBLISHED_FOLDER in node.fqn[1:-1]
        if (node.config.meta or {}).get("publish", public_mart):
            texts = {name: column.description for name, column in node.columns.items()}
            described = {name: text.strip() for name, text in texts.items() if text}
            keys = tuple(_keys(node, tests.get(node.unique_id, ())))
            text = node.description.strip()
            place = (node.unique_id, node.schema, node.alias)
            found.append(Relation(*place, text, described, keys))
    return sorted(found, key=str)


def in_order(manifest: Project, unique_ids: Collection[str]) -> list[Any]:
    """Nodes in an order in which they can be built; alphabetical where that leaves a choice."""
    chosen = set(unique_ids)
    graph = {key: parents(manifest, key) for key in sorted(manifest.nodes)}
    order = TopologicalSorter(graph).static_order()
    return [manifest.nodes[key] for key in order if key in chosen]


def sources_above(manifest: Project, unique_ids: Iterable[str]) -> set[str]:
    """Unique ids of the source tables from which nodes are made, however far above.

    Sources that are among the nodes count too.
    """
    found: set[str] = set()
    seen: set[str] = set()
    ahead = list(unique_ids)
    while ahead:
        key = ahead.pop()
        if key in seen:
            continue
        seen.add(key)
        if key.startswith("source."):
            found.add(key)
        elif key in manifest.nodes:
            ahead += parents(manifest, key)
    return found


def screened_tables(manifest: Project, unique_ids: Iterable[str]) -> list[str]:
    """Names (`shop.orders`) of the source tables whose rows go into nodes, sorted.

    A staging model takes rows of one table; the models that its rows refer to lend it none.
    """
    found: set[str] = set()
    seen: set[str] = set()
    ahead = list(unique_ids)
    while ahead:
        key = ahead.pop()
        if key in seen:
            continue
        seen.add(key)
        if key in manifest.sources:
            found.add(key)
        elif key in manifest.nodes:
            above = parents(manifest, key)
            own = [parent for parent in above if parent in manifest.sources]
            is_screened = manifest.nodes[key].config.materialized == "staging"
            ahead += own if is_screened and own else above
    return source_names(manifest, found)


def source_names(manifest: Project, unique_ids: Iterable[str]) -> list[str]:
    """Short names (`shop.orders`) of source tables, sorted."""
    known = (manifest.sources[key] for key in unique_ids if key in manifest.sources)
    return sorted(f"{source.source_name}.{source.name}" for source in known)


def tests_by_model(manifest: Project, unique_ids: Iterable[str]) -> dict[str, list[str]]:
    """Names of tests by the model they are attached to; under an empty key those of none."""
    found: dict[str, list[str]] = {}
    for key in unique_ids:
        node = manifest.nodes[key]
        attached = getattr(node, "attached_node", None) or ""
        found.setdefault(attached, []).append(node.name)
    return found


def parents(manifest: Project, key: str) -> list[str]:
    """Unique ids of what a node is made from."""
    node = manifest.nodes[key]
    depends_on = getattr(node, "depends_on", None)
    return list(getattr(depends_on, "nodes", ()))


def descendants(manifest: Project, unique_id: str) -> set[str]:
    """Unique ids of models, seeds and snapshots that are made from a node, however far below."""
    return made_from(manifest, {unique_id})


def made_from(manifest: Project, unique_ids: Collection[str]) -> set[str]:
    """Unique ids of models, seeds and snapshots that are made from any of these, however far below.

    Args:
        manifest: The project.
        unique_ids: Nodes or source tables; those of them that are made from others count too.
    """
    found: set[str] = set()
    for key in TopologicalSorter({k: parents(manifest, k) for k in manifest.nodes}).static_order():
        if key in manifest.nodes and str(manifest.nodes[key].resource_type) != "test":
            above = parents(manifest, key)
            if any(parent in unique_ids or parent in found for parent in above):
                found.add(key)
    return found


def made_into(manifest: Project, unique_ids: Collection[str]) -> set[str]:
    """Unique ids of nodes that any of these are made from, however far above."""
    found: set[str] = set()
    ahead = list(unique_ids)
    while ahead:
        key = ahead.pop()
        above = [one for one in parents(manifest, key) if one in manifest.nodes]
        ahead += [one for one in above if one not in found]
        found.update(above)
    return found


def unique_keys(manifest: Project, unique_id: str) -> list[tuple[str, ...]]:
    """Keys of a node that the project declares: by tests, for staging, or for an increment.

    Returns:
        Columns in lower case, of each key; those of data tests first.
    """
    return _keys(manifest.nodes[unique_id], attached_tests(manifest, unique_id))


def _keys(node: Any, tests: Iterable[Any]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for test in tests:
        metadata = getattr(test, "test_metadata", None)
        if metadata is None or "unique" not in metadata.name:
            continue
        columns = metadata.kwargs.get("columns") or metadata.kwargs.get("combination_of_columns")
        listed = columns if isinstance(columns, list) else [metadata.kwargs.get("column_name")]
        found.append(tuple(str(name).strip('"').lower() for name in listed if name))
    config = node.config
    staging = (config.meta or {}).get("staging") or {}
    for declared in (staging.get("key"), getattr(config, "unique_key", None)):
        listed = [declared] if isinstance(declared, str) else declared or []
        found.append(tuple(str(name).lower() for name in listed))
    return [key for key in dict.fromkeys(found) if key]


def attached_tests(manifest: Project, unique_id: str) -> list[Any]:
    """Data tests of a model: those attached to it, and singular ones that read it; by name."""
    return _attached(manifest).get(unique_id, [])


def _attached(manifest: Project) -> dict[str, list[Any]]:
    """Data tests by the model that they are attached to, or that singular ones read; by name."""
    found: dict[str, list[Any]] = {}
    for node in manifest.nodes.values():
        if str(node.resource_type) != "test":
            continue
        owner = getattr(node, "attached_node", None)
        owners = dict.fromkeys(parents(manifest, node.unique_id)) if owner is None else (owner,)
        for unique_id in owners:
            found.setdefault(unique_id, []).append(node)
    return {key: sorted(tests, key=lambda node: str(node.name)) for key, tests in found.items()}


def is_volatile(text: str) -> bool:
    """Whether code gives something else although rows are the same."""
    return bool(_VOLATILE.search(text))


def code_hash(manifest: Mapping[str, Any], project_dir: Path) -> str | None:
    """A name for all code that a build and its tests come of.

    Args:
        manifest: dbt's manifest as a dictionary, as it is before anything is compiled.
        project_dir: The project's root; its settings (`vars` among them) are in no manifest.

    Returns:
        The name; None if the same code can give different results: it asks for the time, chance or
        the environment, or a seed is so large that dbt does not know its content.
    """
    import dbt.version
    import duckdb

    own = manifest["metadata"]["project_name"]
    nodes, macros = manifest["nodes"], manifest["macros"]
    written = [node.get("raw_code") or "" for node in nodes.values()]
    written += [m["macro_sql"] for m in macros.values() if m["package_name"] == own]
    large = any((node.get("checksum") or {}).get("name") == "path" for node in nodes.values())
    if large or any(_VOLATILE.search(text) for text in written):
        return None
    parts = [
        {key: _lasting(node) for key, node in nodes.items()},
        {key: _lasting(source) for key, source in manifest["sources"].items()},
        {key: macro["macro_sql"] for key, macro in macros.items()},
        (project_dir / "dbt_project.yml").read_text(encoding="utf-8"),
        [dbt.version.__version__, duckdb.__version__],
    ]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def node_codes(manifest: Mapping[str, Any], project_dir: Path) -> dict[str, str]:
    """A name for the code that each node is built with: its own, its macros', its sources'.

    Args:
        manifest: dbt's manifest as a dictionary, as it is before anything is compiled.
        project_dir: The project's root.

    Returns:
        Names by unique id, of models, seeds and snapshots.
    """
    macros, sources = manifest["macros"], manifest["sources"]
    settings = (project_dir / "dbt_project.yml").read_text(encoding="utf-8")
    used: dict[str, list[str]] = {}

    def below(key: str) -> list[str]:
        if key not in used:
            used[key] = []
            called = macros[key]["depends_on"]["macros"] if key in macros else []
            used[key] = sorted({key, *(name for call in called for name in below(call))})
        return used[key]

    found = {}
    for key, node in manifest["nodes"].items():
        if node["resource_type"] not in ("model", "seed", "snapshot"):
            continue
        calls = {name for call in node["depends_on"]["macros"] for name in below(call)}
        texts = {name: macros[name]["macro_sql"] for name in sorted(calls) if name in macros}
        above = node["depends_on"].get("nodes", [])
        declared = {name: _lasting(sources[name]) for name in above if name in sources}
        parts = [_lasting(node), texts, declared, settings]
        text = json.dumps(parts, sort_keys=True, default=str)
        found[key] = sha256(text.encode()).hexdigest()[:32]
    return found


def _lasting(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in _NOTED}
