"""Checks of what is installed and written: Python, packages, settings, the dbt project."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import IngestionError
from ingestion.settings import Settings, former_names
from runner.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from runner.transform import Dbt

_PYTHON = ((3, 11), (3, 14))
_SHOWN = 5


def python(settings: Settings) -> Iterator[Finding]:
    """Whether this Python is one that the project is tested with."""
    version = platform.python_version()
    if _PYTHON[0] <= sys.version_info[:2] < _PYTHON[1]:
        yield Finding("python", "ok", f"{version} in {sys.prefix}")
    else:
        yield Finding(
            "python",
            "fail",
            f"{version}, expected 3.11 to 3.13",
            "Delete .venv and run `make setup PYTHON=python3.11`.",
        )


def packages(settings: Settings) -> Iterator[Finding]:
    """Whether the packages are those of uv.lock."""
    path = settings.project_dir / "uv.lock"
    if not path.is_file():
        yield Finding("packages", "ok", "there is no uv.lock to compare with")
        return
    locked = _locked(path)
    installed = {_name(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
    other = sorted(
        f"{name} {version} instead of {' or '.join(sorted(locked[name]))}"
        for name, version in installed.items()
        if name in locked and version not in locked[name]
    )
    missing = sorted(_direct(settings.project_dir / "pyproject.toml") - set(installed))
    if other or missing:
        told = [*(f"{name} is missing" for name in missing), *other]
        more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        verdict: Verdict = "fail" if missing else "warn"
        text = ", ".join(told[:_SHOWN]) + more
        yield Finding("packages", verdict, text, "`make setup` installs what uv.lock says.", 3)
    else:
        yield Finding("packages", "ok", f"{len(locked.keys() & installed.keys())} as in uv.lock")


def _locked(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for package in tomllib.loads(path.read_text(encoding="utf-8"))["package"]:
        if "version" in package:
            found.setdefault(_name(package["name"]), set()).add(package["version"])
    return found


def _direct(path: Path) -> set[str]:
    """Names of the packages that the project asks for itself, without those under a condition."""
    if not path.is_file():
        return set()
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    asked = [text for text in project.get("dependencies", []) if ";" not in text]
    return {_name(re.split(r"[\[<>=~! ]", text, maxsplit=1)[0]) for text in asked}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def settings_read(settings: Settings) -> Iterator[Finding]:
    """That settings could be read is known already; left are former names and what goes together.

    Raises:
        SettingsError: Mail has no sender or no recipient.
    """
    from runner.notify.targets import targets

    # Raises what is wrong about those who are told.
    targets(settings)
    former = former_names(settings.project_dir)
    if former:
        text = ", ".join(f"{old} is called {new} now" for old, new in former.items())
        yield Finding("settings", "warn", text, "Rename it in wellspring.toml or the environment.")
    else:
        yield Finding("settings", "ok", f"data lies in {settings.data_dir}")


def project(settings: Settings, dbt: Dbt) -> Iterator[Finding]:
    """Whether dbt accepts the project, and every declaration is right."""
    from ingestion.declarations import load_declarations
    from runner.gates import gates
    from runner.transform import Selection
    from runner.veracity.watches import watches

    try:
        manifest, _ = dbt.sources(Selection())
        declarations = load_declarations(manifest, None)
        watches(dbt.project)
        gates(dbt.project)
    except IngestionError as error:
        yield Finding("project", "fail", str(error.message), error.hint, error.exit_code)
        return
    models = sum(str(n.resource_type) == "model" for n in dbt.project.nodes.values())
    yield Finding("project", "ok", f"{models} models, {len(declarations)} declared sources")
    profile = settings.project_dir / "profiles.yml"
    if profile.is_file() and "ingestion.dbt_plugin" not in profile.read_text(encoding="utf-8"):
        yield Finding(
            "project",
            "warn",
            "dbt's connection does not keep to [limits]",
            "Add `plugins: [{module: ingestion.dbt_plugin}]` to the output in profiles.yml.",
        )
