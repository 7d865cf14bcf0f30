"""The report: all results that are kept, as one page of Markdown with a chart.

results (JSON) -> README.md, chart.svg beside them; what became worse since the last ones is named

Each benchmark keeps its own last result, so that one can be run again alone; the page tells of each
when and at which revision it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from suite.chart import chart
from suite.kit import WHOLE
from suite.results import Figures, Result, Spread, StepFigures


def write_report(folder: Path, results: Mapping[str, Result], compared: Sequence[str]) -> Path:
    """Writes the page and the chart.

    Args:
        folder: Where results are kept.
        results: All of them, by benchmark.
        compared: What the comparison with the last results said, a line each.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chart.svg").write_text(chart(list(results.values())), encoding="utf-8")
    page = folder / "README.md"
    page.write_text("\n".join(_page(results, compared)).rstrip() + "\n", encoding="utf-8")
    return page


def section(result: Result) -> list[str]:
    """A benchmark's part of the page."""
    sizes = ", ".join(
        f"{key.replace('_', ' ')} {_plain(size)}" for key, size in result.sizes.items()
    )
    lines = [
        f"## {result.benchmark}",
        "",
        f"{result.title[:1].upper()}{result.title[1:]}. {result.about}".strip(),
        "",
        f"{sizes}{'; ' if sizes else ''}{result.taken_at}, revision {result.commit}, "
        f"load {result.machine['load before']} before and {result.machine['load after']} after.",
        "",
        *_table(result),
    ]
    if any(len(figures.steps) > 2 for figures in result.figures.values()):
        lines += ["", *_steps(result)]
    told = [
        f"- {name}, {key}: {text}"
        for name, one in result.figures.items()
        for key, text in one.notes.items()
    ]
    if told:
        lines += ["", *told]
    if result.promises:
        lines += ["", "| promised | measured | |", "|---|---:|---|"]
        lines += [
            f"| {one.text} | {one.found} | {'holds' if one.holds else '**missed**'} |"
            for one in result.promises
        ]
    return [*lines, ""]


def _page(results: Mapping[str, Result], compared: Sequence[str]) -> list[str]:
    promises = [(name, one) for name, result in results.items() for one in result.promises]
    held = sum(one.holds for _, one in promises)
    lines = [
        "# Benchmarks: the last report",
        "",
        "Written by `make bench`. Medians; a ratio is the median of the ratios of rounds in which "
        "all contenders took turns, so ratios hold where seconds do not. How it is measured and "
        "what the figures mean: [performance](../performance.md).",
        "",
        *_machines(results),
        "![speeds by that of the baseline](chart.svg)",
        "",
        f"**{held} of {len(promises)} promises hold.**",
        "",
    ]
    missed = [f"- {name}: {one.text}: {one.found}" for name, one in promises if not one.holds]
    if missed:
        lines += ["Missed:", *missed, ""]
    lines += ["Compared with the report before this one:", *compared, ""]
    for result in results.values():
        lines += section(result)
    return lines


def _machines(results: Mapping[str, Result]) -> list[str]:
    """The machines of all results; as a rule, one."""
    told = []
    for result in results.values():
        kept = {key: text for key, text in result.machine.items() if not key.startswith("load")}
        text = ", ".join(
            text if key in ("processor", "system", "memory") else f"{key} {text}"
            for key, text in kept.items()
        )
        if text not in told:
            told.append(text)
    return [line for text in told for line in (f"Machine: {text}.", "")]


def _table(result: Result) -> list[str]:
    lines = [
        "| contender | rounds | seconds | processor seconds | "
        f"{result.unit or 'units'}/s | peak memory | on disk | rows | speed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in result.figures.items():
        whole = one.whole
        lines.append(
            f"| {name} | {one.rounds} | {_seconds(whole.seconds)} | {whole.cpu.median:.2f} | "
            f"{one.units / whole.seconds.median:.3g} | {whole.peak.median / 1e6:,.0f} MB | "
            f"{_bytes(one.bytes)} | {one.rows:,} | {_speed(one)} |"
        )
    return lines


def _steps(result: Result) -> list[str]:
    names = dict.fromkeys(
        step for one in result.figures.values() for step in one.steps if step != WHOLE
    )
    lines = [
        "| step | " + " | ".join(result.figures) + " |",
        "|---|" + "---:|" * len(result.figures),
    ]
    for step in names:
        cells = []
        for one in result.figures.values():
            found = one.steps.get(step)
            cells.append(_step(found) if found else "")
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    return lines


def _step(found: StepFigures) -> str:
    peak = f", {found.peak.median / 1e6:,.0f} MB" if found.peak.median else ""
    return f"{found.seconds.median:.2f} s{peak}"


def _seconds(found: Spread) -> str:
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def _speed(one: Figures) -> str:
    speed = one.whole.speed
    return f"{speed.median:.2f} ({speed.low:.2f} to {speed.high:.2f})" if speed else ""


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count else ""


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " / ".join(_plain(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
