"""What a run would do, without doing it.

selection -> dbt's manifest -> sources and tables, models in order, tests, what is published

It reads the project and the published folder, takes no lock, starts nothing and writes no data.
Left out: what is new in the sources, which only they can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.settings import Settings
from runner.history import History
from runner.project import in_order, published_relations, tests_by_model
from runner.publications import turns
from runner.versions import current_version, surplus

if TYPE_CHECKING:
    from rich.console import Console

    from ingestion.declarations import SourceDeclaration
    from runner.steps import Run


def plan_fields(run: Run, steps: Sequence[str]) -> list[dict[str, Any]]:
    """What each step would do, as named values.

    Raises:
        DeclarationError: A declaration or the dbt project is wrong.
        BadInput: The selection is wrong.
    """
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "extract": lambda: _extract(run.declarations, run.full_refresh),
        "load": lambda: _load(run.declarations),
        "build": lambda: _build(run),
        "audit": lambda: _audit(run),
        "publish": lambda: _publish(run),
        "docs": lambda: {"page": "docs/index.html beside the published version"},
    }
    return [{"step": step, **makers[step]()} for step in steps]


def _extract(declarations: Sequence[SourceDeclaration], full: bool) -> dict[str, Any]:
    return {
        "mode": "everything anew" if full else "what is new or changed",
        "sources": [
            {
                "source": declaration.name,
                "kind": declaration.kind,
                "connection": declaration.connection,
                "tables": [table.name for table in declaration.tables],
            }
            for declaration in declarations
        ],
    }


def _load(declarations: Sequence[SourceDeclaration]) -> dict[str, Any]:
    names = [f"{d.schema}.{table.name}" for d in declarations for table in d.tables]
    return {"tables": names}


def _build(run: Run) -> dict[str, Any]:
    chosen = run.dbt.select(run.selection, "model", "seed", "snapshot")
    nodes = in_order(run.dbt.manifest, chosen)
    return {
        "mode": "full refresh" if run.full_refresh else "as each model says",
        "nodes": [
            {
                "name": node.name,
                "kind": str(node.resource_type),
                "relation": f"{node.schema}.{node.alias}",
                "materialized": node.config.materialized,
            }
            for node in nodes
        ],
    }


def _audit(run: Run) -> dict[str, Any]:
    manifest = run.dbt.manifest
    found = tests_by_model(manifest, run.dbt.select(run.selection, "test"))
    names = {key: manifest.nodes[key].name if key in manifest.nodes else key for key in found}
    return {"tests": {names[key]: sorted(tests) for key, tests in sorted(found.items())}}


def _publish(run: Run) -> dict[str, Any]:
    relations = published_relations(run.dbt.manifest)
    everything = run.selection.everything
    chosen = {r.unique_id for r in relations} if everything else run.model_ids
    return {
        "tables": [str(r) for r in relations if r.unique_id in chosen],
        "carried_over": [str(r) for r in relations if r.unique_id not in chosen],
        **_versions(run.settings),
    }


def _versions(settings: Settings) -> dict[str, Any]:
    current = current_version(settings)
    path = settings.state_dir / "history.sqlite"
    with closing(History(path if path.is_file() else Path(":memory:"))) as history:
        order = turns(history)
    return {
        "replaces": current.name if current else None,
        "removes": [version.name for version in surplus(settings, order, coming=1)],
    }


# -- for people --------------------------------------------------------------------------------


def print_plan(plan: Sequence[dict[str, Any]], console: Console) -> None:
    """Shows a plan to a person."""
    for step in plan:
        console.print(f"[bold]{step['step']}[/bold]")
        for line in _LINES[step["step"]](step):
            console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print("\nNothing was done (--dry-run).")


def _extract_lines(step: dict[str, Any]) -> list[str]:
    lines = [step["mode"]]
    for source in step["sources"]:
        where = f" by connection {source['connection']}" if source["connection"] else ""
        tables = ", ".join(source["tables"])
        lines.append(f"{source['source']} ({source['kind']}{where}): {tables}")
    return lines


def _build_lines(step: dict[str, Any]) -> list[str]:
    lines = [f"{len(step['nodes'])} nodes, {step['mode']}"]
    for number, node in enumerate(step["nodes"], start=1):
        kind = node["materialized"] if node["kind"] == "model" else node["kind"]
        lines.append(f"{number:>3}. {node['relation']} ({kind})")
    return lines


def _audit_lines(step: dict[str, Any]) -> list[str]:
    total = sum(len(tests) for tests in step["tests"].values())
    lines = [f"{total} tests"]
    for name, tests in step["tests"].items():
        lines.append(f"{name or 'of no single model'}: {', '.join(tests)}")
    return lines


def _publish_lines(step: dict[str, Any]) -> list[str]:
    lines = [f"tables: {', '.join(step['tables']) or 'none'}"]
    if step["carried_over"]:
        lines.append(f"carried over: {', '.join(step['carried_over'])}")
    lines.append(f"replaces: {step['replaces'] or 'nothing, it is the first version'}")
    if step["removes"]:
        lines.append(f"removes: {', '.join(step['removes'])}")
    return lines


_LINES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "extract": _extract_lines,
    "load": lambda step: step["tables"],
    "build": _build_lines,
    "audit": _audit_lines,
    "publish": _publish_lines,
    "docs": lambda step: [step["page"]],
}
