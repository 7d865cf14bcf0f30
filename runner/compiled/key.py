"""Names all that dbt's view of the project comes of, without loading dbt.

dbt_project.yml, profiles.yml, folders of code, environment they read, versions -> `project_key`

It costs a read of the project's small files. Left out: data; what is kept under a key says what it
expects of the warehouse.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ingestion.settings import DATA_VARIABLE, Settings

_FILES = ("dbt_project.yml", "profiles.yml", "packages.yml", "dependencies.yml", "selectors.yml")
# Where dbt looks if the project does not say where.
_FOLDERS = {
    "model": "models",
    "seed": "seeds",
    "macro": "macros",
    "test": "tests",
    "snapshot": "snapshots",
    "analysis": "analyses",
    "function": "functions",
}
_CODE = {".sql", ".yml", ".yaml", ".md", ".csv", ".py", ".lock"}
_PACKAGES = ("dbt-core", "dbt-adapters", "dbt-common", "dbt-duckdb", "duckdb", "wellspring")
_NAMED_PATHS = re.compile(
    r"^(?P<kind>[a-z-]+)-paths\s*:(?P<rest>(?:.*\n(?:[ \t]+-?.*\n|-.*\n)*))", re.M
)
_PATH = re.compile(r"[\w./-]+")
_READS = re.compile(r"\benv_var\s*\(")
_VARIABLE = re.compile(r"\benv_var\s*\(\s*['\"](\w+)['\"]")


def project_key(settings: Settings) -> str | None:
    """A name for the code of the project and for what reads it.

    Returns:
        The name; None if it cannot be told: there is no project, a seed or folder lies outside of
        it, or its code reads variables of the environment whose names it computes.
    """
    root = settings.project_dir
    project = root / "dbt_project.yml"
    if not project.is_file():
        return None
    digest = sha256()
    variables: set[str] = set()
    for path in _code_files(root, project.read_text(encoding="utf-8", errors="replace")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode())
        digest.update(content)
        if b"env_var" in content:
            text = content.decode("utf-8", errors="replace")
            found = _VARIABLE.findall(text)
            if len(found) != len(_READS.findall(text)):
                return None
            variables |= set(found)
    given = {**os.environ, **settings.environment()}
    told = [f"{name}={given.get(name)}" for name in sorted(variables - {DATA_VARIABLE})]
    told += [f"{name}={text}" for name, text in sorted(given.items()) if name.startswith("DBT_")]
    # Seeds are read from where they lie.
    told += [str(root), *(f"{name} {_version(name)}" for name in _PACKAGES)]
    digest.update("\n".join([*told, own_code(Path(__file__).parent)]).encode())
    return digest.hexdigest()[:32]


def _code_files(root: Path, project: str) -> Iterator[Path]:
    """Files that dbt may read, each once, in a fixed order."""
    said = {found["kind"]: found["rest"] for found in _NAMED_PATHS.finditer(project)}
    named = [word for text in said.values() for word in _PATH.findall(text)]
    usual = [name for kind, name in _FOLDERS.items() if kind not in said]
    folders = {root / name for name in (*usual, *named, "dbt_packages")}
    tops = sorted(f for f in folders if f.is_dir() and not any(p in folders for p in f.parents))
    yield from (root / name for name in _FILES if (root / name).is_file())
    for top in tops:
        for folder, below, files in os.walk(top, followlinks=True):
            below[:] = sorted(name for name in below if not name.startswith((".", "__pycache__")))
            yield from (
                Path(folder, name) for name in sorted(files) if Path(name).suffix.lower() in _CODE
            )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def own_code(folder: Path) -> str:
    """A name for what of our own lies in a folder."""
    digest = sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
