"""The page of a discovery: one HTML file without outside parts.

`Discovery` -> a diagram for each source and one across sources -> references with their evidence ->
entities -> each table with its columns -> HTML

Left out: values of personal columns, which the discovery itself does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from runner.discover.diagram import anchor, diagram
from runner.discover.model import ColumnProfile, Discovery, Reference, TableProfile
from runner.discover.report import behind_text, key_text, overlap_text, reference_cells
from runner.pages import html_page, html_table
from runner.report import count

FILE = "discovery.html"
_BAR_WIDTH, _BAR_HEIGHT = 96, 22
# A table to which more tables of other sources refer hides the rest of a drawing.
_HUB = 8
_STYLE = (
    "<style>.entities text{font:12px system-ui,sans-serif;fill:var(--text)}"
    ".entities .name{font-weight:600}.entities .key{fill:var(--good)}"
    ".entities .both{fill:var(--good);font-style:italic}.entities .refers{fill:var(--soft)}"
    ".entities rect{fill:var(--page);stroke:var(--line);stroke-width:1.2}"
    ".link path{fill:none;stroke:var(--soft);stroke-width:1.2}"
    ".link .tip{fill:var(--soft);stroke:none}.link.maybe path:first-of-type{stroke-dasharray:5 4}"
    ".link.part path:first-of-type{stroke-dasharray:2 3}"
    ".same path{fill:none;stroke:var(--good);stroke-width:1.4;opacity:.55}"
    ".same:hover path{opacity:1;stroke-width:2}"
    ".link:hover path{stroke:var(--good);stroke-width:2}"
    "details{margin:.6rem 0}.values{min-width:12rem;max-width:26rem;overflow-wrap:anywhere}</style>"
)


def discovery_page(found: Discovery) -> str:
    """Draws the page.

    Args:
        found: The discovery.

    Returns:
        A complete HTML document.
    """
    header = (
        f"{count(len(found.tables), 'table')} of {count(len(found.sources), 'source')}, looked at "
        f"{escape(found.made_at[:16].replace('T', ' '))} UTC in {found.seconds:,.0f} s."
    )
    body = (
        f"{_STYLE}{_diagrams(found)}<h2>References</h2>{_reference_table(found.references)}"
        f"{_entities(found)}<h2>Tables</h2>{''.join(_table(t) for t in found.tables)}"
    )
    return html_page("Discovery", "What the sources hold", header, body)


def _diagrams(found: Discovery) -> str:
    drawn = [
        '<p class="soft">Green: what identifies a row. A curve runs from the column that refers to '
        "the table that it refers to; dashed where the evidence is weaker, dotted where only some "
        "values belong there. Green curves join tables that know the same things.</p>"
    ]
    across = [r for r in found.references if r.is_across]
    if across or found.entities:
        drawn.append(f"<h2>Across sources</h2>{_across(found, across)}")
    for source in found.sources:
        tables = [table for table in found.tables if table.source == source]
        inside = [r for r in found.references if not r.is_across]
        said = f"The tables of {source}, listed below"
        picture = diagram(tables, inside, said, full=False)
        drawn.append(f"<h2>{escape(source)}</h2>{picture}")
    return "".join(drawn)


def _across(found: Discovery, references: Sequence[Reference]) -> str:
    """The drawing of what crosses sources, without what nearly all tables refer to."""
    referring: dict[str, set[str]] = {}
    for reference in references:
        referring.setdefault(reference.to_table, set()).add(reference.from_table)
    hubs = {name: len(tables) for name, tables in referring.items() if len(tables) > _HUB}
    shown = [r for r in references if r.to_table not in hubs]
    same = [overlap for entity in found.entities for overlap in entity.overlaps]
    ends = {name for r in shown for name in (r.from_table, r.to_table)}
    ends |= {name for entity in found.entities for name in entity.tables}
    tables = [table for table in found.tables if table.full_name in ends]
    said = f"{len(shown)} references and {len(same)} overlaps across sources, listed below"
    told = "; ".join(f"{name}, to which {count} tables refer" for name, count in hubs.items())
    note = f'<p class="soft">Not drawn, but listed below: {escape(told)}.</p>' if told else ""
    return diagram(tables, shown, said, full=True, same=same) + note


def _reference_table(references: Sequence[Reference]) -> str:
    if not references:
        return "<p>None found.</p>"
    rows = []
    for reference in references:
        start, end, score, orphans, why = (escape(cell) for cell in reference_cells(reference))
        grade = "good" if reference.score >= 0.7 else "fair"
        rows.append(
            f'<tr><th scope="row">{start}</th><td>{end}</td><td class="number {grade}">{score}</td>'
            f'<td class="number">{orphans}</td><td class="why">{why}</td></tr>'
        )
    return html_table(("from", "to", ">score", ">orphans", "evidence"), rows)


def _entities(found: Discovery) -> str:
    parts = []
    for entity in found.entities:
        told = "".join(f"<li>{escape(overlap_text(o))}</li>" for o in entity.overlaps)
        tables = escape(", ".join(entity.tables))
        parts.append(f"<p><b>{escape(entity.name)}</b>: {tables}</p><ul>{told}</ul>")
    return f"<h2>The same things in several tables</h2>{''.join(parts)}" if parts else ""


def _table(table: TableProfile) -> str:
    facts = [f"{table.rows:,} rows", f"key: {escape(key_text(table.primary_key))}"]
    if table.raw_rows != table.rows:
        facts.append(f"{table.raw_rows:,} in raw, with former versions")
    others = [key_text(key) for key in table.keys[:4] if key != table.primary_key]
    if others:
        facts.append(f"other candidates: {escape('; '.join(others))}")
    facts += [escape(note) for note in table.notes]
    if table.sampled_rows is not None:
        facts.append(f"figures of {table.sampled_rows:,} rows at most")
    follows = [f"{d.determinant} decides {d.dependent}" for d in table.dependencies]
    if follows:
        facts.append(escape("; ".join(follows)))
    if table.cursors:
        cursor = table.cursors[0]
        facts.append(f"new rows by {escape(cursor.column)}: {escape('; '.join(cursor.reasons))}")
    heads = ("column", "type", "means", ">missing", ">different", "values", "spread", "to know")
    rows = [_column(column) for column in table.columns]
    return (
        f"<details><summary><b>{escape(table.full_name)}</b> "
        f'<span class="soft">{len(table.columns)} columns, {table.rows:,} rows</span></summary>'
        f'<p class="soft" id="{anchor(table.full_name)}">{". ".join(facts)}.</p>'
        f"{html_table(heads, rows)}</details>"
    )


def _column(column: ColumnProfile) -> str:
    missing = f"{column.null_share:.1%}" if column.nulls else ""
    about = "" if column.is_distinct_exact else "~"
    known = [p.told + (f" ({p.rows:,}): {', '.join(p.values)}" if p.values else f" ({p.rows:,})")
             for p in column.problems]  # fmt: skip
    if column.personal is not None:
        known.insert(0, f"personal data: {column.personal.kind}, by {column.personal.by}")
    if column.unit:
        known.append(f"in {column.unit}")
    return (
        f'<tr><th scope="row">{escape(column.name)}</th><td>{escape(column.data_type[:40])}</td>'
        f"<td>{escape(behind_text(column))}</td>"
        f'<td class="number">{missing}</td><td class="number">{about}{column.distinct:,}</td>'
        f'<td class="values">{escape(_values(column))}</td><td>{_bars(column)}</td>'
        f'<td class="why">{escape("; ".join(known))}</td></tr>'
    )


def _values(column: ColumnProfile) -> str:
    if column.personal is not None:
        return " ".join(form for form, _ in column.shapes[:2])
    if column.frequent and column.distinct <= 50:
        return ", ".join(f"{f.value} ({f.rows:,})" for f in column.frequent[:6])
    if column.minimum is None:
        return ""
    forms = " ".join(form for form, share in column.shapes[:2] if share >= 0.2)
    ends = f"{column.minimum[:30]} to {(column.maximum or '')[:30]}"
    return f"{ends} {forms}".strip()


def _bars(column: ColumnProfile) -> str:
    if not column.histogram:
        return ""
    most = max(b.rows for b in column.histogram) or 1
    step = _BAR_WIDTH / len(column.histogram)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{_BAR_HEIGHT * (1 - b.rows / most):.1f}" '
        f'width="{step - 1:.1f}" height="{max(_BAR_HEIGHT * b.rows / most, 0.5):.1f}" '
        f'fill="var(--soft)"/>'
        for i, b in enumerate(column.histogram)
    )
    said = f"from {column.histogram[0].low} to {column.histogram[-1].high}"
    return (
        f'<svg viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" width="{_BAR_WIDTH}" '
        f'height="{_BAR_HEIGHT}" role="img" aria-label="spread {escape(said)}">'
        f"<title>{escape(said)}</title>{bars}</svg>"
    )
