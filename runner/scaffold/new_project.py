"""`wellspring init`: a new project with all of Wellspring and nothing of the example.

the project that this command runs from -> its product files, marks taken out, some made anew ->
a folder beside the target -> renamed into place

The copy is whole or not there. Nothing is fetched: `make` sets the project up from uv.lock.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from runner.scaffold import parts as of_parts
from runner.scaffold.parts import PROJECT_FILE, STAGING_LIST, Parts, read_parts

# What runs, tools and git leave behind; nothing of it is a part of the project.
_NOT_WALKED = {".git", ".venv", ".uv", ".dlt", "data", "target", "logs", "dbt_packages", "site"}
_LEFT_BEHIND = re.compile(r"(^|/)(__pycache__|\.[a-z]+_cache|[^/]*\.egg-info)(/|$)|\.pyc$")
_NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
# Names that dbt or Python would take for something else.
_TAKEN = {
    "dbt",
    "models",
    "seeds",
    "tests",
    "macros",
    "ingestion",
    "runner",
    "target",
    "anycompany",
}


def make_project(name: str, into: Path | None = None, origin: Path | None = None) -> Path:
    """Makes a new project.

    Args:
        name: Its name, for dbt as well.
        into: Its folder; by default one of that name, here.
        origin: The project to take it from; by default the one whose code runs.

    Returns:
        Its folder.

    Raises:
        BadInput: The name cannot be used, the folder is there already, or Wellspring was installed
            without its project.
    """
    check_name(name)
    target = (into or Path(name)).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(
            f"{target} is there already",
            hint="Choose another name, or another folder by --into; nothing is ever overwritten.",
        )
    origin = origin or Path(__file__).parents[2]
    if not (origin / PROJECT_FILE).is_file() or not (origin / "uv.lock").is_file():
        raise BadInput(
            f"{origin} has the commands of Wellspring, but not its project",
            hint="Run `wellspring init` from a clone: git clone ..., make setup, "
            ".venv/bin/wellspring init NAME.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{target.name}.{os.getpid()}"
    try:
        _copy(origin, fresh, name, read_parts())
        _make_repository(fresh)
        failpoint("init.before_rename")
        if target.exists():
            target.rmdir()
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def check_name(name: str) -> None:
    """Whether a project can have a name.

    Raises:
        BadInput: It cannot.
    """
    if not _NAME.match(name) or keyword.iskeyword(name) or name in _TAKEN:
        raise BadInput(
            f"a project cannot be called {name!r}",
            hint="Use lower case letters, digits and single underscores, beginning with a letter, "
            "and no word that dbt or Python keeps for itself.",
        )


def project_files(root: Path) -> Iterator[str]:
    """Files of a project below its root, without what runs and tools leave behind."""
    for entry in sorted(root.iterdir()):
        if entry.name in _NOT_WALKED:
            continue
        found = [entry] if entry.is_file() else sorted(entry.rglob("*"))
        for path in found:
            shown = path.relative_to(root).as_posix()
            if path.is_file() and not _LEFT_BEHIND.search(shown):
                yield shown


def plain_text(path: str, text: str, name: str, parts: Parts, gone: set[str]) -> str:
    """What a product file says without the example.

    Args:
        path: The file, below the project's root.
        text: What it says now.
        name: Name of the project, for files that are made anew.
        parts: What belongs to what.
        gone: Names of models that go.
    """
    made = parts.made_anew(path, name)
    if made is not None:
        return made
    if path == STAGING_LIST:
        return of_parts.without_models(text, gone)
    return of_parts.without_example(text, path) if _may_have_marks(path, text) else text


def _may_have_marks(path: str, text: str) -> bool:
    """The code that speaks of the marks has none."""
    speaks_of_them = ("runner/scaffold/", "docs/decisions/")
    is_about = path.startswith(speaks_of_them) or path.endswith("test_scaffold.py")
    return not is_about and of_parts.has_marks(text)


def _copy(origin: Path, target: Path, name: str, parts: Parts) -> None:
    files = list(project_files(origin))
    gone = {Path(file).stem for file in files if parts.of(file) == "example"}
    if not (origin / "anycompany").is_dir():
        # A project of its own: its models are not ours to hand on.
        gone |= {Path(file).stem for file in files if file.startswith("models/staging/")}
    for file in files:
        if parts.of(file) != "product":
            continue
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        content = (origin / file).read_bytes()
        try:
            text = plain_text(file, content.decode("utf-8"), name, parts, gone)
        except UnicodeDecodeError:
            place.write_bytes(content)
            continue
        if file == PROJECT_FILE:
            text = of_parts.renamed(text, name)
        place.write_text(text, encoding="utf-8", newline="")
        shutil.copymode(origin / file, place)


def _make_repository(folder: Path) -> None:
    """An empty repository, so that git ignores what it should; without git there is none."""
    try:
        subprocess.run(["git", "init", "--quiet", str(folder)], check=False, capture_output=True)
    except FileNotFoundError:
        return
