"""An explanation as a tree for people, or as named values for programs.

`Explanation` -> `print_explanation` -> text; `explanation_fields` -> JSON

Left out: finding anything out, which `explain` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runner.explain.walk import Edge, Explanation, Level, key_text
from runner.report import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

_SHOWN_RULES = 12
_LONG = 110


def explanation_fields(explanation: Explanation) -> dict[str, Any]:
    """The explanation as named values, complete, the explained relation first."""
    root = explanation.root
    column = explanation.column
    return {
        "model": root.name,
        "relation": root.relation,
        "key": {name: explanation.row[name] for name in root.key},
        "row": explanation.row,
        "column": column,
        "value": explanation.row.get(column) if column else None,
        "built": root.built,
        "published_as": list(explanation.published),
        "levels": [_level_fields(level) for level in explanation.levels.values()],
    }


def _level_fields(level: Level) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(level).items() if name not in ("origins", "edges")},
        "columns": {
            name: {
                "expressions": [vars(step) for step in origin.expressions],
                "made_from": {key: sorted(found) for key, found in origin.columns.items()},
            }
            for name, origin in level.origins.items()
        },
        "made_from": [vars(edge) for edge in level.edges],
    }


def print_explanation(explanation: Explanation, console: Console, with_sql: bool) -> None:
    """Shows an explanation to a person.

    Args:
        explanation: What to show.
        console: Where to.
        with_sql: Whether the compiled SQL of each model is shown.
    """
    from rich.text import Text
    from rich.tree import Tree

    root = explanation.root
    console.print(Text(f"{root.relation}  {_row_name(root, explanation.row)}", style="bold"))
    for name, value in explanation.row.items():
        if explanation.column in (None, name):
            console.print(Text(f"  {name} = {_shown(value)}"), soft_wrap=True)
    console.print(Text(f"  {_built(explanation)}", style="dim"), soft_wrap=True)
    console.print()
    printer = _Printer(explanation, with_sql)
    tree = Tree(printer.label(root, None))
    printer.fill(tree, root)
    console.print(tree)


def _built(explanation: Explanation) -> str:
    built = explanation.root.built
    if not built:
        return "built by no run of the runner's history"
    published = ", ".join(explanation.published)
    told = f"published as {published}" if published else "not published by that run"
    return (
        f"built {built['built_at']} by run {built['run_id']} of git revision "
        f"{built['git_revision'] or 'unknown'}; {told}"
    )


class _Printer:
    """Fills a tree, each relation once; where it is met again, the tree points back."""

    def __init__(self, explanation: Explanation, with_sql: bool) -> None:
        self._explanation = explanation
        self._with_sql = with_sql
        self._shown = {explanation.root.relation}

    def fill(self, tree: Tree, level: Level) -> None:
        from rich.text import Text

        feeding, joined = self._split(level)
        for edge in feeding:
            known = self._explanation.levels[edge.relation]
            if edge.relation in self._shown:
                tree.add(Text(f"{known.name}  {_rows(edge.rows)}, {edge.how}; shown above"))
                continue
            self._shown.add(edge.relation)
            self.fill(tree.add(self.label(known, edge)), known)
        if joined:
            names = ", ".join(f"{self._name(e.relation)} ({_rows(e.rows)})" for e in joined)
            tree.add(Text(f"also read, but no part of the value: {names}", style="dim"))
        for edge in level.edges:
            if edge.rows is None:
                tree.add(Text(f"{self._name(edge.relation)}: not followed: {edge.note}", "yellow"))

    def label(self, level: Level, edge: Edge | None) -> Text:
        """What stands at a node of the tree: its title, and below it what is known."""
        from rich.text import Text

        how = f", {edge.how}" if edge is not None else ""
        text = Text(level.name, style="bold")
        text.append(f"  {_rows(level.row_count)}{how}", style="not bold")
        text.append(f"  {level.file}", style="not bold dim")
        if edge is not None and edge.note:
            text.append(f"  ({edge.note})", style="not bold yellow")
        for line in self._lines(level):
            text.append(f"\n  {line}", style="not bold dim")
        return text

    def _split(self, level: Level) -> tuple[list[Edge], list[Edge]]:
        """Edges to follow in the tree, and those that bring rows but nothing of the value."""
        found = [edge for edge in level.edges if edge.rows]
        feeding = [edge for edge in found if edge.columns]
        if self._explanation.column is None or not feeding:
            return found, []
        return feeding, [edge for edge in found if not edge.columns]

    def _name(self, relation: str) -> str:
        level = self._explanation.levels.get(relation)
        return level.name if level else relation

    def _lines(self, level: Level) -> Iterator[str]:
        for column, origin in level.origins.items():
            steps = [step.sql for step in origin.expressions]
            listed = [f"{key}.{name}" for key, names in origin.columns.items() for name in names]
            made = "  <-  ".join(steps) if steps else ", ".join(sorted(listed))
            yield f"{column}: {_cut(made)}"
        if self._with_sql and level.sql:
            yield level.sql.strip()
        yield from _sample_lines(level)
        yield from _fact_lines(level)
        built, root = level.built, self._explanation.root.built
        if built and built != root and (not root or built["run_id"] != root["run_id"]):
            revision = (built["git_revision"] or "unknown")[:12]
            yield f"built {built['built_at']} by run {built['run_id']}, git {revision}"
        for note in level.notes:
            yield f"note: {note}"
        if level.unfollowed:
            yield f"decide too, not followed: {', '.join(level.unfollowed)}"


def _sample_lines(level: Level) -> Iterator[str]:
    if level.kind == "source":
        for row in level.sample:
            own = {name: v for name, v in row.items() if not name.startswith("_")}
            told = ", ".join(f"{name}={_shown(v)}" for name, v in own.items() if v is not None)
            yield f"row {row.get('_row', '')} of {row.get('_file', '')}: {_cut(told, 400)}"
    else:
        for row in level.sample:
            values = ", ".join(f"{name} = {_shown(row.get(name))}" for name in level.origins)
            yield _row_name(level, row) + (f": {values}" if values else "")
    more = level.row_count - len(level.sample)
    if more > 0:
        yield f"... and {count(more, 'more row')}"


def _fact_lines(level: Level) -> Iterator[str]:
    for file in level.files:
        origin = file["origin_name"] or "a table of the source"
        yield (
            f"file {file['file']}: {_rows(file['row_count'])}, from {origin}, "
            f"load {file['load_id']}, extracted {file['extracted_at']}, "
            f"loaded {file['loaded_at']}, sha256 {file['sha256']}"
        )
    for version in level.versions:
        reasons = f": {version['reasons']}" if version["reasons"] else ""
        yield (
            f"same key, {version['outcome']}: row {version['_row']} of {version['_file']}{reasons}"
        )
    for finding in level.findings:
        yield (
            f"found and kept: {finding['defect']} in {finding['column_name']} "
            f"({finding['rule']}), {_rows(finding['row_count'])}"
        )
    if level.rules:
        shown = "; ".join(level.rules[:_SHOWN_RULES])
        more = len(level.rules) - _SHOWN_RULES
        yield f"screened by {count(len(level.rules), 'row rule')}: {shown}" + (
            f"; and {more} more" if more > 0 else ""
        )
    yield from _test_lines(level)


def _test_lines(level: Level) -> Iterator[str]:
    if not level.tests:
        return
    by_status: dict[str, int] = {}
    for test in level.tests:
        by_status[test["status"]] = by_status.get(test["status"], 0) + 1
    names = {"ok": "passed"}
    told = ", ".join(f"{number} {names.get(key, key)}" for key, number in by_status.items())
    yield f"{count(len(level.tests), 'data test')}: {told}"
    for test in level.tests:
        if test["status"] in ("failed", "warned"):
            yield f"test {test['status']}: {test['test']} ({test['failures']} rows)"


def _row_name(level: Level, row: dict[str, Any]) -> str:
    names = level.key or tuple(row)[:4]
    return key_text({name: row[name] for name in names})


def _rows(number: int | None) -> str:
    return "rows unknown" if number is None else count(number, "row")


def _shown(value: Any) -> str:
    return "(missing)" if value is None else str(value)


def _cut(text: str, limit: int = _LONG * 3) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}..."
