"""Scores of mutated models, for people and for programs.

`ModelScore`s -> `print_scores` -> tables; `score_fields` -> JSON; `require_score` -> exit code

Left out: mutating, which `mutate` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runner.errors import AuditFailed
from runner.mutate.trials import ModelScore, MutationResult, OnModel

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHOWN_RULES = 3
_SHOWN_RULE = 40


@contextmanager
def progress() -> Iterator[OnModel]:
    """Tells on stderr which model is on; on a terminal it leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("copying and building staging", total=None)

        def on_model(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield on_model


def score_fields(scores: Sequence[ModelScore]) -> dict[str, Any]:
    """Scores as named values, complete."""
    decidable = sum(score.decidable for score in scores)
    caught = sum(score.caught for score in scores)
    return {
        "decidable": decidable,
        "caught": caught,
        "score": round(caught / decidable, 4) if decidable else None,
        "models": [
            {
                "model": score.model,
                "decidable": score.decidable,
                "caught": score.caught,
                "score": None if score.score is None else round(score.score, 4),
                "blind_columns": list(score.blind),
                "columns_without_rule": list(score.unruled),
                "notes": score.notes,
                "mutations": [_result_fields(result) for result in score.results],
            }
            for score in scores
        ],
    }


def _result_fields(result: MutationResult) -> dict[str, Any]:
    return {
        "kind": result.kind,
        "columns": list(result.columns),
        "injected": result.injected,
        "no_effect": result.no_effect,
        "caught": result.caught,
        "caught_by": result.caught_by,
        "survivors": [{"_file": file, "_row": row} for file, row in result.survivors],
    }


def require_score(scores: Sequence[ModelScore], least: float) -> None:
    """Refuses models that notice too little.

    Args:
        scores: Scores of the models.
        least: Share of defects that every model has to notice, 0 to 1.

    Raises:
        AuditFailed: A model notices less.
    """
    low = [score for score in scores if score.score is not None and score.score < least]
    if low:
        told = ", ".join(f"{score.model} {score.score:.2f}" for score in low)
        raise AuditFailed(
            f"{len(low)} of {len(scores)} models notice less than {least:.2f} of the defects: "
            f"{told}",
            hint="Add row rules or tests for the columns that they are blind to.",
        )


def print_scores(scores: Sequence[ModelScore], console: Console) -> None:
    """Shows scores to a person: by model and defect, then what nothing watches."""
    for score in scores:
        figure = "no defect to notice" if score.score is None else f"{score.score:.2f}"
        console.print(
            f"[bold]{score.model}[/bold]  {figure}  ({score.caught} of {score.decidable} noticed)"
        )
        if score.results:
            console.print(_table(score))
        for title, names in (("blind to", score.blind), ("without any rule", score.unruled)):
            if names:
                console.print(f"  {title}: {', '.join(names)}", markup=False)
        for note in score.notes:
            console.print(f"  note: {note}", markup=False)
        console.print()
    fields = score_fields(scores)
    if fields["score"] is not None:
        console.print(
            f"[bold]{fields['score']:.2f}[/bold] in all: {fields['caught']:,} of "
            f"{fields['decidable']:,} defects noticed in {len(scores)} models"
        )


def _table(score: ModelScore) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("defect")
    for name in ("injected", "no effect", "noticed"):
        table.add_column(name, justify="right")
    table.add_column("noticed by", ratio=1, overflow="fold")
    table.add_column("not noticed in", ratio=1, overflow="fold")
    for kind in dict.fromkeys(result.kind for result in score.results):
        results = [result for result in score.results if result.kind == kind]
        missed = [", ".join(r.columns) or "the row" for r in results if r.survivors]
        table.add_row(
            kind,
            str(sum(result.injected for result in results)),
            str(sum(result.no_effect for result in results)),
            str(sum(result.caught for result in results)),
            _rules(results),
            "; ".join(dict.fromkeys(missed)),
        )
    return table


def _rules(results: Sequence[MutationResult]) -> str:
    found: dict[str, int] = {}
    for result in results:
        for rule, count in result.caught_by.items():
            found[rule] = found.get(rule, 0) + count
    ranked = sorted(found, key=lambda rule: (-found[rule], rule))
    shown = [rule if len(rule) <= _SHOWN_RULE else f"{rule[:_SHOWN_RULE]}..." for rule in ranked]
    more = len(shown) - _SHOWN_RULES
    return "; ".join(shown[:_SHOWN_RULES]) + (f"; and {more} more" if more > 0 else "")
