"""What a run would do, without doing it.

selection -> dbt's manifest, the flow -> sources and tables, models in order, tests, what is
published -> text, JSON, or a picture in Mermaid's language

It reads the project and the published folder, takes no lock, starts nothing and writes no data.
Left out: what is new in the sources, which only they can tell.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from ingestion.settings import Settings
from runner.history import History
from runner.machine import Choice, Fail, Flow, Map, Parallel, State, Succeed, Task, Wait
from runner.project import in_order, published_relations, tests_by_model
from runner.publications import turns
from runner.report import count
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
    nodes = in_order(run.dbt.project, chosen)
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
    manifest = run.dbt.project
    found = tests_by_model(manifest, run.dbt.select(run.selection, "test"))
    names = {key: manifest.nodes[key].name if key in manifest.nodes else key for key in found}
    return {"tests": {names[key]: sorted(tests) for key, tests in sorted(found.items())}}


def _publish(run: Run) -> dict[str, Any]:
    relations = published_relations(run.dbt.project)
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


def compiled_sql(run: Run, name: str) -> str:
    """The SQL that a model, test, seed or snapshot is made by, as the warehouse gets it.

    Args:
        run: What was asked for.
        name: Name of a model or a data test.

    Raises:
        BadInput: There is no such model.
        BuildFailed: dbt cannot compile it.
    """
    manifest = run.dbt.manifest
    nodes = {node.name: key for key, node in manifest.nodes.items()}
    if name not in nodes:
        near = difflib.get_close_matches(name, nodes, n=3)
        meant = f"Did you mean {' or '.join(near)}?" if near else "`wellspring plan` lists them."
        raise BadInput(f"there is no model or test {name}", hint=meant)
    run.dbt.compile({nodes[name]}, "{}")
    node = manifest.nodes[nodes[name]]
    return str(node.compiled_code or node.raw_code).strip()


# -- the flow ----------------------------------------------------------------------------------


def flow_fields(flow: Flow, settings: Settings) -> list[dict[str, Any]]:
    """States of a flow as named values, in order."""
    given = settings.retry
    tries = f"up to {given.attempts} times, after {given.first_wait_seconds} s and twice as long"
    found = []
    for state in flow.states:
        fields: dict[str, Any] = {
            "state": state.name,
            "kind": type(state).__name__.lower(),
            "title": state.title,
        }
        if isinstance(state, Task | Map) and state.retries and given.attempts > 1:
            fields["retries"] = f"{tries} each time, at most {given.longest_wait_seconds} s"
        if isinstance(state, Task | Map) and state.catch is not None:
            fields["catches"] = state.catch.title
        if isinstance(state, Choice):
            fields["otherwise"] = state.otherwise
        if isinstance(state, Parallel):
            fields["branches"] = [task.name for task in state.branches]
        found.append(fields)
    return found


def mermaid(flow: Flow, plan: Sequence[dict[str, Any]]) -> str:
    """The plan as a picture: a flowchart in Mermaid's language, which Markdown pages draw.

    Args:
        flow: The part of the flow that would be done.
        plan: From `plan_fields`.
    """
    steps = {step["step"]: step for step in plan}
    lines = ["flowchart TD"]
    states = [s for s in flow.states if not isinstance(s, Fail)]
    for state in states:
        lines += _drawn(state, steps.get(state.name))
    ahead = [s for s in states if not (isinstance(s, Wait) and s.ends)]
    for state, following in pairwise(ahead):
        label = "|yes| " if isinstance(state, Choice) else ""
        lines.append(f"    {state.name} --> {label}{following.name}")
    for state in states:
        if isinstance(state, Choice):
            lines.append(f"    {state.name} --> |no| {state.otherwise}")
        if isinstance(state, Task | Map) and "failed" in flow:
            kept = "" if state.catch is None else "|not caught| "
            lines.append(f"    {state.name} -.-> {kept}failed")
    if "failed" in flow:
        lines.append('    failed(["failed"])')
    return "\n".join(lines)


def _drawn(state: State, step: dict[str, Any] | None) -> list[str]:
    name, told = state.name, _figures(step) if step else ""
    if isinstance(state, Choice):
        return [f'    {name}{{"{state.title}"}}']
    if isinstance(state, Parallel):
        inner = [f'        {task.name}["{task.name}"]' for task in state.branches]
        return [f'    subgraph {name}["side by side"]', *inner, "    end"]
    if isinstance(state, Map) and step:
        told_of = [(s["source"], count(len(s["tables"]), "table")) for s in step["sources"]]
        inner = [
            f'        {name}_{number}["{source}: {tables}"]'
            for number, (source, tables) in enumerate(told_of)
        ]
        return [f'    subgraph {name}["{name}{told}"]', *inner, "    end"]
    if isinstance(state, Wait):
        return [f'    {name}[/"wait: {name}"/]']
    if isinstance(state, Succeed):
        return [f'    {name}(["{name}"])']
    return [f'    {name}["{name}{told}"]']


def _figures(step: dict[str, Any]) -> str:
    """How much a step has to do, as half a line."""
    if step["step"] == "extract":
        return f": {count(len(step['sources']), 'source')}"
    if step["step"] == "build":
        return f": {count(len(step['nodes']), 'node')}"
    if step["step"] == "audit":
        return f": {count(sum(map(len, step['tests'].values())), 'test')}"
    if step["step"] in ("load", "publish"):
        return f": {count(len(step['tables']), 'table')}"
    return ""


# -- for people --------------------------------------------------------------------------------


def print_plan(
    plan: Sequence[dict[str, Any]], console: Console, states: Sequence[dict[str, Any]] = ()
) -> None:
    """Shows a plan to a person.

    Args:
        plan: From `plan_fields`.
        console: Where to.
        states: From `flow_fields`; without them, the steps alone are shown.
    """
    steps = {step["step"]: step for step in plan}
    shown = states or [{"state": name, "title": "", "kind": "task"} for name in steps]
    for state in shown:
        name, title = state["state"], state["title"]
        kind = "" if state["kind"] == "task" else f" ({state['kind']})"
        console.print(f"[bold]{name}[/bold]{kind}  ", end="")
        console.print(title, markup=False, soft_wrap=True)
        lines = [f"tried {state['retries']}"] if "retries" in state else []
        lines += [f"if it fails: {state['catches']}"] if "catches" in state else []
        lines += [f"if not: on with {state['otherwise']}"] if "otherwise" in state else []
        lines += [f"side by side: {', '.join(state['branches'])}"] if "branches" in state else []
        lines += _LINES[name](steps[name]) if name in steps else []
        for line in lines:
            console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print("\nNothing was done.")


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
