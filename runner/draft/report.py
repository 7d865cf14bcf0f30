"""What a draft did, for the terminal.

`Drafted` -> files by what became of them -> what to look at -> what to do next

Left out: the evidence, which stands in the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.draft.make import Drafted
from runner.draft.merge import Outcome

_TOLD = {
    "new": "new",
    "changed": "changed",
    "merged": "merged with your edits",
    "conflict": "in conflict with your edits: yours stays, the proposal lies beside it",
    "kept": "as you left it",
    "deleted": "deleted by you, not written again",
    "own": "yours, never drafted: left alone",
    "same": "as it was",
}
_LISTED = ("new", "changed", "merged", "conflict", "deleted", "own")


def print_drafted(drafted: Drafted, console: Any, with_diff: bool) -> None:
    """Shows what was drafted.

    Args:
        drafted: The draft.
        console: Where to.
        with_diff: Whether to show each change.
    """
    from rich.text import Text

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    for what in _LISTED:
        files = [outcome for outcome in drafted.outcomes if outcome.what == what]
        if files:
            say(f"{len(files)} {'file' if len(files) == 1 else 'files'} {_TOLD[what]}")
            for line in _paths(files):
                say(f"  {line}")
    still = [o for o in drafted.outcomes if o.what in ("same", "kept")]
    if still:
        say(f"{len(still)} {'file' if len(still) == 1 else 'files'} as before")
    for outcome in drafted.outcomes:
        if outcome.diff and (outcome.what == "conflict" or (with_diff and outcome.what != "own")):
            say(f"\n{outcome.diff.rstrip()}")
    _say_tables(drafted, say)
    say(_next(drafted))


def _paths(files: Sequence[Outcome]) -> list[str]:
    """The files, those of one folder in one line."""
    folders: dict[str, list[str]] = {}
    for outcome in files:
        folder, _, name = outcome.path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    lines = []
    for folder, names in folders.items():
        stems = dict.fromkeys(name.rpartition(".")[0] for name in names)
        packed = []
        for stem in stems:
            ends = sorted(name.rpartition(".")[2] for name in names if name.startswith(f"{stem}."))
            packed.append(f"{stem}.{ends[0]}" if len(ends) == 1 else f"{stem}.{{{','.join(ends)}}}")
        lines.append(f"{folder or '.'}/  {'  '.join(packed)}")
    return lines


def _say_tables(drafted: Drafted, say: Any) -> None:
    if drafted.left_out:
        say("\nnot drafted")
        for name, reason in sorted(drafted.left_out.items()):
            say(f"  {name}: {reason}")
    if drafted.notes:
        say("\nto look at")
        for note in drafted.notes:
            say(f"  {note.table}: {note.told}")
    if drafted.proposals:
        say("\nto decide: take over what you want of each proposal, then delete it")
        for path in drafted.proposals:
            say(f"  {path}")


def _next(drafted: Drafted) -> str:
    if drafted.is_dry:
        return "\nNothing was written."
    if not drafted.sources:
        return "\nNothing to draft: each declared table is staged by hand."
    if any(outcome.text is not None for outcome in drafted.outcomes):
        docs = ", ".join(f"models/staging/{name}/_{name}__docs.md" for name in drafted.sources)
        return f"\nNext: put what columns mean into {docs}, then `wellspring run`."
    return "\nNothing new."
