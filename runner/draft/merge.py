"""A drafted file and what a person made of it: one text, or a proposal beside it.

new draft + what was drafted last (`.drafts/<path>`) + the file -> `settle` -> `Outcome` -> `write`

What was drafted last is the common ancestor of a three-way merge by `git merge-file`. Where that
cannot tell, the file stays as the person has it and the proposal lies beside it. A file that was
deleted stays away, one that was never drafted is a person's own. Figures alone, such as counts in
comments, make no new draft. A death at any moment leaves each file as it was or as it shall be.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.durable import sync, write_whole
from ingestion.failpoints import failpoint

BASES = ".drafts"
PROPOSED = ".proposed"
_PENDING = "~"


@dataclass(frozen=True)
class Outcome:
    """What becomes of one drafted file.

    Attributes:
        path: The file, below the project's root.
        what: new, changed, merged, conflict, same, kept (a person's edits stay, nothing new),
            deleted (a person did), own (a person's, never drafted).
        text: What the file shall hold; None if it stays as it is.
        base: What is kept as the last draft; None if that stays as it is.
        proposal: What lies beside the file after a conflict.
        diff: From the file as it is to what is written or proposed, or would be.
    """

    path: str
    what: str
    text: str | None = None
    base: str | None = None
    proposal: str | None = None
    diff: str = ""


def base_of(root: Path, path: str) -> Path:
    """Where the last draft of a file is kept."""
    return root / BASES / path


def settle(root: Path, path: str, new: str) -> Outcome:
    """What becomes of a file, given a new draft of it; nothing is written.

    Args:
        root: The project's root.
        path: The file, below the root.
        new: The new draft.
    """
    mine, base = _read(root / path), _read(base_of(root, path))
    if base is None:
        if mine is None:
            return Outcome(path, "new", new, new, diff=_diff(path, "", new))
        return Outcome(path, "own", diff=_diff(path, mine, new))
    if mine is None:
        return Outcome(path, "deleted")
    new = _with_old_figures(base, new, path)
    if new == base:
        return Outcome(path, "same" if mine == base else "kept")
    if mine == base:
        return Outcome(path, "changed", new, new, diff=_diff(path, mine, new))
    if mine == new:
        return Outcome(path, "same", base=new)
    merged, is_clean = _merged(mine, base, new)
    if is_clean:
        what = "merged" if merged != mine else "kept"
        return Outcome(path, what, merged, new, diff=_diff(path, mine, merged))
    return Outcome(path, "conflict", base=new, proposal=merged, diff=_diff(path, mine, merged))


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        return None


def _diff(path: str, before: str, after: str) -> str:
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), path, path
        )
    )


def _with_old_figures(base: str, new: str, path: str) -> str:
    """The new draft, but with the last one's words where they differ in figures alone."""
    split = r"(?<=\n)\n+" if path.endswith(".md") else r"(?<=\n)"
    old_parts, new_parts = re.split(split, base), re.split(split, new)
    matcher = difflib.SequenceMatcher(
        None, [_masked(p, path) for p in old_parts], [_masked(p, path) for p in new_parts], False
    )
    kept: list[str] = []
    for what, i, j, k, m in matcher.get_opcodes():
        kept += old_parts[i:j] if what == "equal" else new_parts[k:m]
    return ("\n" if path.endswith(".md") else "").join(kept)


def _masked(part: str, path: str) -> str:
    """What tells one part from another: not the figures in texts and comments."""
    if path.endswith(".md"):
        return re.sub(r"\d[\d,.:-]*", "#", " ".join(part.split()))
    if part.lstrip().startswith("#"):
        return re.sub(r"\d[\d,.:-]*", "#", part)
    return part


def _merged(mine: str, base: str, new: str) -> tuple[str, bool]:
    """The three-way merge, and whether it is clean; what is in conflict is as the new draft has it.

    Without git every file that both sides changed is in conflict.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for name, text in (("mine", mine), ("base", base), ("new", new)):
            Path(folder, name).write_text(text, encoding="utf-8")
            names.append(name)
        clean = _git_merge(folder, ["--quiet", *names])
        if clean is not None:
            return clean, True
        proposal = _git_merge(folder, ["--theirs", *names])
    return (proposal if proposal is not None else new), False


def _git_merge(folder: str, arguments: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            ["git", "merge-file", "-p", *arguments],
            cwd=folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.decode("utf-8") if done.returncode == 0 else None


def write(root: Path, outcome: Outcome) -> None:
    """Writes what was settled: the coming base, the file, then the base takes its place.

    Without the file a base would say that a person deleted it, so it comes last; `recover` knows by
    the coming base what a death left behind.
    """
    base = base_of(root, outcome.path)
    pending = base.with_name(base.name + _PENDING)
    if outcome.base is not None:
        write_whole(pending, outcome.base)
    failpoint("draft.begun")
    if outcome.proposal is not None:
        target = root / outcome.path
        write_whole(target.with_name(target.name + PROPOSED), outcome.proposal)
    if outcome.text is not None:
        write_whole(root / outcome.path, outcome.text)
    failpoint("draft.written")
    if outcome.base is not None:
        pending.replace(base)
        sync(base.parent)


def recover(root: Path) -> None:
    """Finishes what a death left behind: a file that was written gets its base.

    A file that was merged has another text than its base; there the former base still serves,
    because both sides have made the same changes since.
    """
    folder = root / BASES
    for pending in sorted(folder.rglob(f"*{_PENDING}")) if folder.is_dir() else ():
        base = pending.with_name(pending.name.removesuffix(_PENDING))
        if _read(root / base.relative_to(folder)) == _read(pending):
            pending.replace(base)
        else:
            pending.unlink()


def proposals(root: Path) -> list[str]:
    """Proposals of earlier drafts that a person has not removed yet."""
    folder = root / "models"
    found = folder.rglob(f"*{PROPOSED}") if folder.is_dir() else ()
    return sorted(str(path.relative_to(root)) for path in found)


def replaced(path: str, before: str, after: str) -> Outcome:
    """A file that is not drafted as a whole, with something put into it."""
    return Outcome(path, "changed", after, diff=_diff(path, before, after))
