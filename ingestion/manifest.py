"""dbt's manifest, which holds the declarations, and dbt's selection language.

project -> dbt parse (in-process, quiet) -> manifest -> dbt ls --select -> sources above it

Keep the parsed `Manifest` between calls: parsing costs seconds. Left out: building and testing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ingestion.errors import DeclarationError
from ingestion.redaction import redact
from ingestion.settings import Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

log = logging.getLogger(__name__)

_UNBUILT = ("test.", "unit_test.", "operation.", "analysis.")


def dbt_arguments(settings: Settings) -> list[str]:
    """Options of every dbt call: this project, wherever it is called from, and quietly.

    Nobody reads what dbt writes of itself: at a thousand nodes that is a second for each call.
    """
    return [
        "--project-dir",
        str(settings.project_dir),
        "--profiles-dir",
        str(settings.project_dir),
        "--log-path",
        str(settings.logs_dir),
        "--quiet",
        "--log-level",
        "none",
        "--no-use-colors",
        "--no-write-json",
    ]


def parse_project(settings: Settings) -> Manifest:
    """Parses the dbt project; an unchanged one comes from dbt's partial parse.

    Raises:
        DeclarationError: dbt refuses the project; its own message is passed on.
    """
    result = _invoke(settings, ["parse"])
    manifest: Manifest = result
    return manifest


def read_manifest(
    settings: Settings,
    select: Iterable[str] | str | None = None,
    exclude: Iterable[str] | str | None = None,
    manifest: Manifest | None = None,
) -> tuple[dict[str, Any], set[str]]:
    """Reads the manifest and finds the sources that a selection needs.

    Args:
        settings: The project's settings.
        select: Selection in dbt's language, one text or several; None for everything.
        exclude: Exclusion in dbt's language; sources that it names are left out as well.
        manifest: An already parsed manifest, to spare the parsing.

    Returns:
        The manifest as a dictionary, and the unique ids of the source tables that were selected or
        that any selected model, seed, snapshot or exposure is built from.

    Raises:
        DeclarationError: dbt refuses the project or the selection, or nothing matches it.
    """
    parsed = manifest or parse_project(settings)
    content = parsed.writable_manifest().to_dict(omit_none=False)
    selected, excluded = _words(select), _words(exclude)
    if not selected and not excluded:
        return content, set(content["sources"])
    chosen = _list(settings, parsed, selected, excluded)
    if not chosen:
        raise DeclarationError(
            message=f"nothing in the project matches --select {' '.join(selected) or '*'}"
            + (f" --exclude {' '.join(excluded)}" if excluded else ""),
            hint="`dbt ls` lists every name; the language is that of dbt's node selection.",
        )
    sources = _sources_above(content, chosen)
    if excluded:
        sources -= set(_list(settings, parsed, excluded, []))
    return content, sources


def _sources_above(content: Mapping[str, Any], chosen: Collection[str]) -> set[str]:
    """Sources among the chosen nodes and their ancestors.

    Tests are not followed unless nothing else was chosen: a relationship test names a second model
    that the selection did not ask for.
    """
    parents: Mapping[str, list[str]] = content["parent_map"]
    start = [node for node in chosen if not node.startswith(_UNBUILT)] or list(chosen)
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(parents.get(node, []))
    return {node for node in seen if node in content["sources"]}


def _list(
    settings: Settings, manifest: Manifest, select: list[str], exclude: list[str]
) -> list[str]:
    import json

    arguments = ["ls", "--output", "json", "--output-keys", "unique_id"]
    if select:
        arguments += ["--select", *select]
    if exclude:
        arguments += ["--exclude", *exclude]
    lines = _invoke(settings, arguments, manifest) or []
    return [json.loads(line)["unique_id"] for line in lines]


def _invoke(settings: Settings, arguments: list[str], manifest: Manifest | None = None) -> Any:
    # dbt reads the data folder from the environment (profiles.yml).
    os.environ.update(settings.environment())
    from dbt.cli.main import dbtRunner

    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    outcome = dbtRunner(manifest=manifest).invoke([*arguments, *dbt_arguments(settings)])
    if outcome.exception is not None or not outcome.success:
        said = redact(str(outcome.exception or "no reason given")).strip()
        raise DeclarationError(
            message=f"dbt {arguments[0]} refuses the project: {said}",
            hint="Mend the file that it names and run again; `dbt parse` shows the same message.",
        ) from outcome.exception
    return outcome.result


def _words(given: Iterable[str] | str | None) -> list[str]:
    if given is None:
        return []
    texts = [given] if isinstance(given, str) else list(given)
    return [word for text in texts for word in text.split()]
