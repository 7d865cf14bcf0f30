"""The page of the runs: one HTML file without outside parts, beside dbt's documentation.

run history -> `runs_page_fields` -> runs, steps, tests that fail, changes, versions -> HTML

Figures are always written as well as drawn; a bar's colour is also said in its title and in the
table below. It is written with the documentation, so it tells of the runs up to the one that wrote
it. Left out: scripts; nothing of it needs one.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

from runner.history import History, now
from runner.pages import html_page, html_table
from runner.runs import seconds_between, size_text

FILE = "runs.html"
_SHOWN_RUNS, _LISTED_RUNS, _SHOWN_TESTS, _SHOWN_VERSIONS = 90, 20, 15, 20
_SHOWN_CHANGES = 20
_WIDTH, _HEIGHT = 900, 120
_LINE_WIDTH, _LINE_HEIGHT = 220, 30
_GRADES = {"succeeded": "good", "partly": "fair", "under way": "fair"}
_COLOURS = {"good": "var(--good)", "fair": "var(--fair)", "bad": "var(--bad)"}
_RUNS = """
    select number, run_id, started_at, finished_at, command, status, exit_code, loaded_rows,
        peak_memory_bytes, message
    from runs order by number desc limit ?
"""
# What a step takes when it has something to do.
_STEPS = """
    select runs.number, step, seconds, steps.peak_memory_bytes
    from steps inner join runs on runs.run_id = steps.run_id
    where steps.status in ('ok', 'warned') and seconds is not null
        and runs.number > (select max(number) from runs) - ?
    order by runs.number, position
"""
_TESTS = """
    select
        name, count(*) as asked, sum(status = 'failed') as failed,
        sum(status = 'warned') as warned,
        max(case when status in ('failed', 'warned') then recorded_at end) as last_trouble
    from step_items
    where kind = 'test'
    group by name
    having failed + warned > 0
    order by failed desc, warned desc, last_trouble desc, name
    limit ?
"""
_VERSIONS = """
    select version, published_at, removed_at, table_count, row_count, bytes
    from published_versions
    where published_at is not null
    order by published_at desc, version desc limit ?
"""


_CHANGES = """
    select name, message, recorded_at
    from step_items
    where kind = 'schema_change'
    order by rowid desc limit ?
"""


def runs_page_fields(history: History) -> dict[str, Any]:
    """What the page tells, as named values; the run that writes it is under way."""
    made_at = now()
    runs = history.rows(_RUNS, (_SHOWN_RUNS,))
    for run in runs:
        if run["status"] == "running":
            run |= {"status": "under way", "finished_at": made_at}
    return {
        "made_at": made_at,
        "runs": runs,
        "steps": history.rows(_STEPS, (_SHOWN_RUNS,)),
        "tests": history.rows(_TESTS, (_SHOWN_TESTS,)),
        "changes": history.rows(_CHANGES, (_SHOWN_CHANGES,)),
        "versions": history.rows(_VERSIONS, (_SHOWN_VERSIONS,)),
    }


def runs_page(fields: dict[str, Any]) -> str:
    """Draws the page.

    Args:
        fields: As `runs_page_fields` gives them.

    Returns:
        A complete HTML document.
    """
    header = (
        f"Written {_moment(fields['made_at'])} UTC. "
        '<a href="index.html">Documentation of all tables</a>'
    )
    body = (
        f"<h2>The last runs</h2>{_bars(fields['runs'])}{_run_table(fields['runs'])}"
        f"<h2>Seconds by step</h2>{_step_table(fields['steps'])}"
        f"<h2>Tests that did not pass</h2>{_test_table(fields['tests'])}"
        f"<h2>Changes of sources</h2>{_change_table(fields['changes'])}"
        f"<h2>Published versions</h2>{_version_table(fields['versions'])}"
    )
    return html_page("Runs", "Runs", header, body)


def _bars(runs: Sequence[dict[str, Any]]) -> str:
    """A bar a run, oldest first, as high as it took long."""
    shown = [(run, seconds_between(run)) for run in reversed(runs)]
    if not shown:
        return "<p>None yet.</p>"
    longest = max([seconds or 0 for _, seconds in shown]) or 1
    step = min(_WIDTH / len(shown), 40)
    drawn = []
    for place, (run, seconds) in enumerate(shown):
        height = max(3.0, (seconds or 0) / longest * _HEIGHT)
        took = f"{seconds:,.1f} s" if seconds is not None else "not ended"
        said = f"run {run['number']}, {_when(run['started_at'])}: {run['status']}, {took}"
        drawn.append(
            f'<rect x="{place * step + 1:.1f}" y="{_HEIGHT - height:.1f}" height="{height:.1f}" '
            f'width="{max(step - 2, 1):.1f}" fill="{_colour(run["status"])}">'
            f"<title>{escape(said)}</title></rect>"
        )
    ends = (_when(shown[0][0]["started_at"]), _when(shown[-1][0]["started_at"]))
    said = f"Duration of {len(shown)} runs from {ends[0]} to {ends[1]}, longest {longest:,.1f} s"
    return (
        f'<svg class="bars" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{said}">{"".join(drawn)}</svg><p class="soft">{said}, UTC.</p>{_key()}'
    )


def _key() -> str:
    fair = "partly, or under way when this was written"
    words = {"good": "succeeded", "fair": fair, "bad": "failed or interrupted"}
    told = (f'<span style="background:{_COLOURS[g]}"></span>{w}' for g, w in words.items())
    return f'<p class="key soft">{"".join(told)}</p>'


def _colour(status: str) -> str:
    return _COLOURS[_GRADES.get(status, "bad")]


def _run_table(runs: Sequence[dict[str, Any]]) -> str:
    rows = []
    for run in runs[:_LISTED_RUNS]:
        seconds = seconds_between(run)
        figures = (
            *(f"{seconds:,.1f}" if seconds is not None else "", _figure(run["loaded_rows"])),
            *(size_text(run["peak_memory_bytes"]), _figure(run["exit_code"])),
        )
        rows.append(
            f'<tr><th scope="row">{run["number"]}</th><td>{_moment(run["started_at"])}</td>'
            f'<td class="when">{escape(run["command"])}</td>'
            f'<td class="{_GRADES.get(run["status"], "bad")}">{escape(run["status"])}</td>'
            f"{_numbers(figures)}"
            f'<td class="why">{escape((run["message"] or "").partition(chr(10))[0])}</td></tr>'
        )
    heads = ("run", "started, UTC", "command", "status", ">seconds", ">rows loaded", ">memory")
    return html_table((*heads, ">exit code", "message"), rows)


def _step_table(steps: Sequence[dict[str, Any]]) -> str:
    if not steps:
        return "<p>No step has done anything yet.</p>"
    seconds: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, int] = {}
    for step in steps:
        seconds[step["step"]].append(step["seconds"])
        memory[step["step"]] = max(memory.get(step["step"], 0), step["peak_memory_bytes"] or 0)
    rows = []
    for name, values in seconds.items():
        figures = [f"{v:,.1f}" for v in (values[-1], statistics.median(values), max(values))]
        size = size_text(memory[name]) if memory[name] else ""
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th>{_numbers((*figures, size))}'
            f'<td class="number">{len(values)}</td><td>{_line(values)}</td></tr>'
        )
    heads = ("step", ">last", ">median", ">longest", ">most memory", ">runs", "over time")
    return html_table(heads, rows)


def _line(values: Sequence[float]) -> str:
    """Seconds from run to run, from 0 up."""
    if len(values) < 2:
        return '<span class="soft">one run</span>'
    high, step = max(values) or 1, (_LINE_WIDTH - 8) / (len(values) - 1)
    height = _LINE_HEIGHT - 8
    dots = [(4 + place * step, 4 + height * (1 - v / high)) for place, v in enumerate(values)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    said = f"from {values[0]:,.1f} to {values[-1]:,.1f} s in {len(values)} runs"
    return (
        f'<svg width="{_LINE_WIDTH}" height="{_LINE_HEIGHT}" role="img" aria-label="{said}">'
        f'<title>{said}</title><polyline points="{points}" fill="none" stroke="currentColor" '
        f'stroke-width="1.5"/><circle cx="{dots[-1][0]:.1f}" cy="{dots[-1][1]:.1f}" r="2.5" '
        'fill="currentColor"/></svg>'
    )


def _change_table(changes: Sequence[dict[str, Any]]) -> str:
    if not changes:
        return "<p>No run has met one yet.</p>"
    rows = [
        f'<tr><th scope="row">{escape(change["name"])}</th>'
        f'<td class="why">{escape(change["message"])}</td>'
        f"<td>{_moment(change['recorded_at'])}</td></tr>"
        for change in changes
    ]
    return html_table(("table", "change", "met, UTC"), rows)


def _test_table(tests: Sequence[dict[str, Any]]) -> str:
    if not tests:
        return "<p>All tests have passed in all runs that the history has.</p>"
    rows = [
        f'<tr><th scope="row">{escape(test["name"])}</th>'
        f"{_numbers((test['failed'], test['warned'], test['asked']))}"
        f"<td>{_moment(test['last_trouble'])}</td></tr>"
        for test in tests
    ]
    return html_table(("test", ">failed", ">warned", ">asked", "last, UTC"), rows)


def _version_table(versions: Sequence[dict[str, Any]]) -> str:
    if not versions:
        return "<p>None yet.</p>"
    rows = []
    for version in versions:
        gone = version["removed_at"]
        rows.append(
            f'<tr><th scope="row">{escape(version["version"])}</th>'
            f"<td>{_moment(version['published_at'])}</td>"
            f"<td>{f'removed {_moment(gone)}' if gone else 'kept'}</td>"
            f"{_numbers((version['table_count'], _figure(version['row_count'])))}"
            f'<td class="number">{size_text(version["bytes"])}</td></tr>'
        )
    return html_table(("version", "published, UTC", "files", ">tables", ">rows", ">size"), rows)


def _numbers(figures: Sequence[Any]) -> str:
    return "".join(f'<td class="number">{figure}</td>' for figure in figures)


def _figure(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _when(text: str) -> str:
    return escape(text[:19].replace("T", " "))


def _moment(text: str) -> str:
    return f'<span class="when">{_when(text)}</span>'
