"""The page of veracity scores: one HTML file without outside parts.

`veracity_fields` -> tables with bars, lines of the scores over time, bands of anomalies -> HTML

Figures are always written as well as drawn; drawings are small SVGs of our own, and colours come in
a light and a dark set. Left out: scripts; nothing of it needs one.
"""

from __future__ import annotations

from collections import defaultdict
from html import escape
from typing import Any

from runner.pages import html_page
from runner.veracity.scores import KINDS, PARTS, by_subject, percent

FILE = "veracity.html"
_INTRODUCTION = """
A score is the share of rows that nothing speaks against, from 0 to 100 %. <b>Fresh</b>: arrived in
time, no stale versions. <b>Complete</b>: nothing missing or unreadable. <b>Unique</b>: nothing sent
twice. <b>Consistent</b>: agrees with other tables and sources. <b>Valid</b>: readable, plausible.
A mart is as good as the source tables that it is made from, weighted by their rows, times the share
of its own tests that pass. Rows in quarantine lower the score of their source although no mart
holds them.
"""
_LINE_WIDTH, _LINE_HEIGHT = 110, 26
_BAND_WIDTH, _BAND_HEIGHT = 150, 18


def veracity_page(fields: dict[str, Any]) -> str:
    """Draws the page.

    Args:
        fields: As `veracity.veracity_fields` gives them.

    Returns:
        A complete HTML document.
    """
    trends = _trends(fields["history"])
    subjects = by_subject(fields)
    tables = [
        f"<h2>{KINDS.get(kind, kind).capitalize()}</h2>{_score_table(kind, found, trends)}"
        for kind, found in subjects.items()
        if found
    ]
    header = (
        f"Version {escape(fields['version'])}, made {escape(str(fields['created_at']))}. "
        '<a href="index.html">Documentation of all tables</a>'
    )
    body = (
        f"<p>{_INTRODUCTION}</p><h2>Anomalies</h2>"
        f"{_anomaly_table(fields['anomalies'])}{''.join(tables)}"
    )
    return html_page("Veracity scores", "Veracity", header, body)


def _trends(history: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in history:
        found[row["subject_kind"], row["subject"]].append(row["score"])
    return found


def _score_table(
    kind: str,
    subjects: dict[str, dict[str, dict[str, Any]]],
    trends: dict[tuple[str, str], list[float]],
) -> str:
    heads = "".join(f'<th scope="col">{part}</th>' for part in ("overall", *PARTS))
    rows = []
    for subject, parts in subjects.items():
        cells = "".join(_score_cell(part, parts.get(part)) for part in ("overall", *PARTS))
        rows.append(
            f'<tr><th scope="row">{escape(subject)}</th>{cells}'
            f"<td>{_trend(trends.get((kind, subject), []))}</td>"
            f'<td class="why">{_reasons(parts)}</td></tr>'
        )
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">{escape(kind)}</th>{heads}'
        '<th scope="col">overall, by day</th><th scope="col">what would raise it</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _score_cell(part: str, row: dict[str, Any] | None) -> str:
    if row is None:
        return '<td class="number soft" title="not checked">not checked</td>'
    weight = " overall" if part == "overall" else ""
    title = f"{row['sound_row_count']:,.0f} of {row['row_count']:,.0f} rows"
    return (
        f'<td class="number {_grade(row["score"])}{weight}" title="{title}">'
        f"{percent(row['score'])}</td>"
    )


def _grade(score: float) -> str:
    return "good" if score >= 0.99 else "fair" if score >= 0.9 else "bad"


def _reasons(parts: dict[str, dict[str, Any]]) -> str:
    """The first thing to mend in plain sight, the rest on demand."""
    told = [(part, parts[part]["to_raise"]) for part in PARTS if part in parts]
    items = [f"<li>{part}: {escape(text)}</li>" for part, text in told if text]
    if not items:
        return "nothing known"
    first = escape(parts["overall"]["to_raise"].split(";")[0])
    return f"<details><summary>{first}</summary><ul>{''.join(items)}</ul></details>"


def _trend(scores: list[float]) -> str:
    """A line of scores; its floor is the lowest of them, for all of them lie close to 1."""
    if len(scores) < 2:
        return '<span class="soft">first score</span>'
    low, high = min(scores), max(scores)
    step = (_LINE_WIDTH - 6) / (len(scores) - 1)
    height = _LINE_HEIGHT - 6
    share = [(score - low) / (high - low) if high > low else 0.5 for score in scores]
    dots = [(3 + number * step, 3 + height * (1 - s)) for number, s in enumerate(share)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    said = f"from {percent(scores[0])} to {percent(scores[-1])}, lowest {percent(low)}"
    return (
        f'<svg width="{_LINE_WIDTH}" height="{_LINE_HEIGHT}" role="img" aria-label="{said}">'
        f'<title>{said}</title><polyline points="{points}" fill="none" stroke="currentColor" '
        f'stroke-width="1.5"/><circle cx="{dots[-1][0]:.1f}" cy="{dots[-1][1]:.1f}" r="2.5" '
        'fill="currentColor"/></svg>'
    )


def _anomaly_table(anomalies: list[dict[str, Any]]) -> str:
    if not anomalies:
        return "<p>Nothing unusual in the audit of this version.</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(row["anomaly"])}</th>'
        f'<td class="{"bad" if row["severity"] == "error" else "fair"}">{escape(row["severity"])}'
        f"{', new' if row['is_new'] else ''}</td><td>{_band(row)}</td>"
        f"<td>{escape(row['description'])}</td></tr>"
        for row in anomalies
    )
    heads = ("what", "severity", "value and expected band", "in words")
    named = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{named}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _band(row: dict[str, Any]) -> str:
    """Band and value on one scale; gaps have neither."""
    low, high, value = row["expected_low"], row["expected_high"], row["value"]
    if low is None or high is None:
        return f'<span class="soft">{value:,.0f} missing</span>'
    left, right = min(low, value), max(high, value)
    scale = (_BAND_WIDTH - 10) / ((right - left) or 1)
    start, end, dot = (5 + (x - left) * scale for x in (low, high, value))
    middle = _BAND_HEIGHT / 2
    said = f"{value:,.4g}, expected {low:,.4g} to {high:,.4g}"
    return (
        f'<svg width="{_BAND_WIDTH}" height="{_BAND_HEIGHT}" role="img" aria-label="{said}">'
        f'<title>{said}</title><line x1="5" x2="{_BAND_WIDTH - 5}" y1="{middle}" y2="{middle}" '
        f'stroke="var(--line)"/><rect x="{start:.1f}" width="{max(end - start, 2):.1f}" y="3" '
        f'height="{_BAND_HEIGHT - 6}" fill="var(--band)"/><circle cx="{dot:.1f}" cy="{middle}" '
        'r="4" fill="var(--bad)"/></svg>'
    )
