"""Keeps connections where git does not see them: `.dlt/secrets.toml`.

connection -> what is configured already -> the file with one section more, readable by its owner

A key that is the environment's is written as `${NAME}`, so that its value stays there. Nothing that
is configured is ever changed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingestion.durable import write_whole
from ingestion.errors import BadInput


def secrets_path(project: Path) -> Path:
    """The file of the project's connections."""
    return project / ".dlt" / "secrets.toml"


def configured(project: Path, name: str) -> dict[str, Any]:
    """The keys of a connection in the file of secrets, as they are written there."""
    found = _read(secrets_path(project)).get("connections", {})
    keys = found.get(name, {}) if isinstance(found, dict) else {}
    return dict(keys) if isinstance(keys, dict) else {}


def write_connection(project: Path, name: str, keys: Mapping[str, Any]) -> bool:
    """Writes a connection, unless it is there.

    Args:
        project: The project's root.
        name: Name of the connection.
        keys: Its keys, `url` among them.

    Returns:
        Whether something was written.

    Raises:
        BadInput: The connection is configured otherwise, or git would see the file.
    """
    path = secrets_path(project)
    there = configured(project, name)
    if there:
        other = [key for key, value in keys.items() if there.get(key) != value]
        if not other:
            return False
        raise BadInput(
            f"the connection {name} is configured already, with another {' and '.join(other)}",
            file=path,
            key=f"connections.{name}",
            hint="Choose another name by --connection, or use what is configured: leave the "
            "address out.",
        )
    _check_ignored(path)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    section = [f"[connections.{name}]"]
    section += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    text = f"{before}{gap}" + "\n".join(section) + "\n"
    _parsed(text, path)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    write_whole(path, text, mode=mode)
    return True


def _check_ignored(path: Path) -> None:
    """Secrets go to no file that git would take along."""
    try:
        asked = subprocess.run(
            ["git", "check-ignore", "--quiet", str(path)],
            cwd=path.parent.parent,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return
    if asked.returncode == 1:
        raise BadInput(
            "git does not ignore this file, so the connection would be committed",
            file=path,
            hint="Add the line `.dlt/secrets.toml` to .gitignore.",
        )


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return _parsed(path.read_text(encoding="utf-8"), path)


def _parsed(text: str, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"it is no TOML: {error}", file=path) from error
