"""What people are told of a change: what broke, since when, what depends on it, what to run.

`Change`, changes of sources, dbt's manifest, the current version -> `Message` -> text for people,
fields for programs

One message tells all that a run changed. Its id is that of the run: who receives it twice can tell.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ingestion.settings import Settings
from ingestion.units import tell_seconds
from runner.history import now
from runner.notify.problems import Change, Problem
from runner.project import descendants, parents, published_relations
from runner.versions import current_version

if TYPE_CHECKING:
    from runner.changes.telling import Told
    from runner.compiled.view import Project

_SHOWN_PROBLEMS = 10
_SHOWN_MARTS = 8
_MEND_CODE = "mend {file}, then `wellspring resume`"
_TO_DO = {
    "source": "mend the cause; `wellspring resume` reads it again, and so does the next run",
    "file": "`wellspring quarantine list` shows why; a mended file is taken by the next run",
    "model": _MEND_CODE,
    "seed": _MEND_CODE,
    "test": "look at the rows ({file} is the test), mend the model, its rules or the source, then "
    "`wellspring resume`",
    "freshness": "see whether the source still delivers; its declaration says how old it may be",
    "landing": "restore landing from a backup, then `wellspring load build audit publish docs`",
    "anomaly": "`wellspring veracity` shows what was expected; if the rows are right, declare it",
    "schema_change": "declare the change, or `contract: evolve`; `wellspring changes {name}` has a "
    "patch",
    "watch": "mend the cause: it tries again by itself, `wellspring status` shows what it is doing",
    "version": "`wellspring versions` shows what waits, `wellspring approve` makes it current",
}
_LAST_RESORT = "`wellspring runs show last` tells more; mend the cause, then `wellspring resume`"


@dataclass(frozen=True)
class Message:
    """What is sent to each target.

    Attributes:
        message_id: The same for the same message, however often it is sent.
        title: One line.
        text: All of it, for people.
        fields: All of it, for programs.
    """

    message_id: str
    title: str
    text: str
    fields: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """The message as a target gets it; `text` at the top is what chat programs show."""
        return {"text": self.text, "wellspring": self.fields}


def make_message(
    settings: Settings,
    run_id: str,
    change: Change,
    manifest: Project | None,
    withheld: Sequence[str] = (),
    sources: Sequence[Told] = (),
    number: int = 0,
) -> Message:
    """Puts a change into words.

    Args:
        settings: The project's settings.
        run_id: The run that made the change.
        change: What is new and what has recovered.
        manifest: dbt's manifest; None if the project could not be read.
        withheld: Tables that stay at their last good version.
        sources: Changes of sources that somebody has to decide about.
        number: Which message of the run it is, if it may send several.
    """
    message_id = f"{run_id}-{number}" if number else run_id
    project, host = settings.project_dir.name, socket.gethostname()
    title = f"Wellspring {project} on {host}: {_counts(change, sources)}"
    new = [describe(problem, manifest) for problem in change.new]
    recovered = [describe(problem, None) for problem in change.recovered]
    fields: dict[str, Any] = {
        "message_id": message_id,
        "event": "problems",
        "made_at": now(),
        "project": project,
        "folder": str(settings.project_dir),
        "host": host,
        "run_id": run_id,
        "new": new,
        "recovered": recovered,
        "open": len(change.new) + len(change.remaining),
        "source_changes": [{"table": told.name, "message": told.text} for told in sources],
        "withheld": list(withheld),
        "readers_have": _version(settings),
    }
    text = "\n".join([title, *_lines(fields, len(change.remaining))])
    return Message(message_id, title, text, fields)


def test_message(settings: Settings, message_id: str) -> Message:
    """A message that only shows that it arrives."""
    project, host = settings.project_dir.name, socket.gethostname()
    title = f"Wellspring {project} on {host}: a test"
    text = f"{title}\nNothing is wrong: this shows that messages arrive here.\nmessage {message_id}"
    fields = {"message_id": message_id, "event": "test", "project": project, "host": host}
    return Message(message_id, title, text, {**fields, "made_at": now()})


def _counts(change: Change, sources: Sequence[Told]) -> str:
    parts = []
    if change.new:
        parts.append(f"{len(change.new)} new problem{'s' if len(change.new) > 1 else ''}")
    if change.recovered:
        parts.append(f"{len(change.recovered)} recovered")
    if sources:
        parts.append(f"{len(sources)} change{'s' if len(sources) > 1 else ''} of sources")
    return ", ".join(parts)


def describe(problem: Problem, manifest: Project | None) -> dict[str, Any]:
    """A problem as named values, with what depends on it and what to do.

    Args:
        problem: The problem.
        manifest: dbt's manifest; None if the project could not be read, or to leave that out.
    """
    file, marts = "its file", []
    if manifest is not None:
        ids = _nodes(manifest, problem)
        files = [manifest.nodes[key].original_file_path for key in ids if key in manifest.nodes]
        file, marts = next(iter(files), file), _marts_below(manifest, ids)
    to_do = _TO_DO.get(problem.kind, _LAST_RESORT)
    return {
        **vars(problem),
        "lasted_seconds": round(age(problem.first_seen)),
        "depends_on_it": marts,
        "to_do": to_do.format(file=file, name=problem.name),
    }


def _nodes(manifest: Project, problem: Problem) -> list[str]:
    """Unique ids of what a problem is about."""
    name = problem.name.partition(":")[0]
    if problem.kind in ("source", "file", "freshness", "schema_change"):
        return [
            key
            for key, source in manifest.sources.items()
            if name in (source.source_name, f"{source.source_name}.{source.name}")
        ]
    if problem.kind == "anomaly":
        relation = name.split(" ")[0]
        return [
            key
            for key, node in manifest.nodes.items()
            if f"{node.schema}.{node.alias}" in (relation, relation.rpartition(".")[0])
        ]
    return [
        key
        for key, node in manifest.nodes.items()
        if node.name == problem.name and str(node.resource_type) == problem.kind
    ]


def _marts_below(manifest: Project, ids: Iterable[str]) -> list[str]:
    """What readers get and what is made from these nodes; tests stand for the models they test."""
    start: set[str] = set()
    for key in ids:
        node = manifest.nodes.get(key)
        tested = node is not None and str(node.resource_type) == "test"
        start |= set(parents(manifest, key)) if tested else {key}
    below = set(start)
    for key in start:
        below |= descendants(manifest, key)
    return [str(r) for r in published_relations(manifest) if r.unique_id in below]


def _version(settings: Settings) -> dict[str, Any] | None:
    version = current_version(settings)
    if version is None:
        return None
    made = str(version.manifest()["created_at"])
    return {"version": version.name, "made_at": made, "age_seconds": round(age(made))}


def age(moment: str) -> float:
    """Seconds since a moment in ISO 8601; 0 for one that is to come."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


# -- for people --------------------------------------------------------------------------------


def _lines(fields: dict[str, Any], remaining: int) -> Iterator[str]:
    for problem in fields["new"][:_SHOWN_PROBLEMS]:
        yield ""
        yield from problem_lines(problem)
    yield from _more(len(fields["new"]))
    if fields["recovered"]:
        yield ""
    for problem in fields["recovered"][:_SHOWN_PROBLEMS]:
        lasted = tell_seconds(problem["lasted_seconds"])
        yield f"✓ {problem_title(problem)} is well again; it had lasted {lasted}"
    yield from _more(len(fields["recovered"]))
    if fields["source_changes"]:
        yield ""
    for told in fields["source_changes"][:_SHOWN_PROBLEMS]:
        yield f"! {told['table']} {told['message']}"
    yield from _more(len(fields["source_changes"]))
    yield ""
    if remaining:
        yield f"{remaining} known before and still open"
    if fields["withheld"]:
        yield f"Withheld, at their last good version: {_some(fields['withheld'])}"
    yield _readers(fields["readers_have"])
    yield "`wellspring problems` lists what is open"
    yield f"run {fields['run_id']}, message {fields['message_id']}"


def problem_lines(problem: dict[str, Any]) -> Iterator[str]:
    """A problem for people: what, since when, what depends on it, what to run."""
    message = problem["message"].splitlines() or ["it failed"]
    title = problem_title(problem)
    yield f"✗ {title}: {message[0].removeprefix(f'{title}: ')}"
    yield from (f"  {line.strip()}" for line in message[1:])
    yield f"  since {problem['first_seen'][:16].replace('T', ' ')} UTC, run {problem['first_run']}"
    marts = problem["depends_on_it"]
    if marts:
        yield f"  depends on it: {_some(marts)}"
    yield f"  to do: {problem['to_do']}"


def problem_title(problem: dict[str, Any]) -> str:
    """Step, kind and name."""
    if problem["kind"] == "schema_change":
        return str(problem["name"])
    if problem["kind"] == "step":
        return f"{problem['step']} broke off ({problem['name']})"
    return f"{problem['kind']} {problem['name']}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_MARTS} more" if len(names) > _SHOWN_MARTS else ""
    return ", ".join(names[:_SHOWN_MARTS]) + more


def _more(number: int) -> Iterator[str]:
    if number > _SHOWN_PROBLEMS:
        yield f"... and {number - _SHOWN_PROBLEMS} more"


def _readers(version: dict[str, Any] | None) -> str:
    if version is None:
        return "Readers have nothing yet: no version was published."
    return f"Readers have version {version['version']}, {tell_seconds(version['age_seconds'])} old"
