"""The page of the columns' lineage: one HTML file without outside parts, drawn by its own script.

`ColumnGraph` -> numbers for columns -> JSON in the page -> boxes and lines in the browser

The script lies in `page.html` beside this. Left out: rows, which `wellspring explain` follows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.lineage.graph import ColumnGraph
from runner.lineage.queries import Column
from runner.pages import html_page

FILE = "lineage.html"
_HEADER = (
    "Which columns each column is made of, read off the SQL of all models. "
    '<a href="index.html">Documentation of all tables</a>'
)


def lineage_page(graph: ColumnGraph) -> str:
    """Draws the page.

    Args:
        graph: The project's columns.

    Returns:
        A complete HTML document.
    """
    body = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    # No text in it can end the script: the only character that could begin a tag is escaped.
    data = json.dumps(page_fields(graph), separators=(",", ":")).replace("<", "\\u003c")
    return html_page("Lineage", "Lineage of columns", _HEADER, body.replace("__GRAPH__", data))


def page_fields(graph: ColumnGraph) -> dict[str, Any]:
    """The graph as the page reads it: columns by number, in the order of the tables.

    Tables of which no column is known are left out.
    """
    tables = [table for table in graph.tables.values() if table.columns]
    numbers: dict[Column, int] = {}
    for table in tables:
        for name in table.columns:
            numbers[Column(table.relation, name)] = len(numbers)
    return {
        "tables": [
            {
                "relation": table.relation,
                "name": table.name,
                "kind": table.kind,
                "note": table.note,
                "columns": [
                    [name, made.unchanged, sorted(numbers[c] for c in made.columns if c in numbers)]
                    for name, made in table.columns.items()
                ],
                "decides": {
                    how: sorted(numbers[c] for c in columns if c in numbers)
                    for how, columns in table.decides.items()
                },
            }
            for table in tables
        ]
    }
