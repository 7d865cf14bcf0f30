"""`wellspring example remove`: a clone becomes a project of its own.

project -> what is the example's, what changes -> agreed to -> files of both rewritten, then the
example's files removed

Git is what brings anything back, so changes that are not committed are a reason to refuse. Killed
half-way, the same command with `--force` does the rest.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ingestion.durable import write_whole
from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from runner.scaffold.new_project import plain_text, project_files
from runner.scaffold.parts import read_parts


@dataclass(frozen=True)
class Removal:
    """What would go.

    Attributes:
        root: The project.
        removed: Files that go.
        changed: Files that stay and their new text.
    """

    root: Path
    removed: tuple[str, ...]
    changed: dict[str, str]

    def by_folder(self) -> list[tuple[str, int]]:
        """How many files go from each folder."""
        folders = Counter("/".join(file.split("/")[:-1][:3]) or "." for file in self.removed)
        return sorted(folders.items())


def plan_removal(root: Path) -> Removal:
    """What goes and what changes if the example is removed.

    Raises:
        BadInput: There is no example in this project.
    """
    parts = read_parts()
    files = list(project_files(root))
    removed = tuple(file for file in files if parts.of(file) == "example")
    if not removed:
        raise BadInput("this project has no example", hint="There is nothing to remove.")
    gone = {Path(file).stem for file in removed}
    changed = {}
    for file in files:
        if parts.of(file) != "product":
            continue
        try:
            before = (root / file).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        after = plain_text(file, before, root.name, parts, gone)
        if after != before:
            changed[file] = after
    return Removal(root, removed, changed)


def check_committed(root: Path) -> None:
    """Whether git could bring everything back.

    Raises:
        BadInput: It could not.
    """
    hint = "Commit it first, or say --force if what goes may be lost."
    try:
        asked = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise BadInput("git is not here to bring anything back", hint=hint) from None
    if asked.returncode:
        raise BadInput("this folder is no clone that git knows", hint=hint)
    lines = asked.stdout.splitlines()
    if lines:
        shown = ", ".join(line[3:] for line in lines[:5])
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise BadInput(f"changes are not committed: {shown}{more}", hint=hint)


def remove(removal: Removal) -> None:
    """Rewrites what stays, then removes the example's files and the folders that get empty."""
    for file, text in removal.changed.items():
        write_whole(removal.root / file, text, mode=(removal.root / file).stat().st_mode & 0o777)
    failpoint("example.between_rewriting_and_removing")
    folders = set()
    for file in removal.removed:
        path = removal.root / file
        path.unlink(missing_ok=True)
        folders |= {parent for parent in path.parents if parent.is_relative_to(removal.root)}
    for folder in sorted(folders, key=lambda one: len(one.parts), reverse=True):
        left = [entry for entry in folder.iterdir() if entry.name != "__pycache__"]
        if folder != removal.root and not left:
            for entry in folder.iterdir():
                for compiled in entry.iterdir():
                    compiled.unlink()
                entry.rmdir()
            folder.rmdir()
