"""What the run history tells: the runs, one of them with all that belongs to it, a test over time.

run history, lock -> `runs_fields` / `run_fields` / `tests_fields` -> text or JSON

Nothing of it opens the warehouse, so it works in the middle of a run. Left out: what sources and
readers have now, which `status` tells.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from ingestion.lock import current_owner
from ingestion.settings import Settings
from runner.history import History
from runner.report import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COMPARED_RUNS = 20
_SHOWN_FAULTS = 20
_LISTED = """
    select
        number, run_id, started_at, finished_at, command, selection, status, exit_code, message,
        logical_date, resumes, peak_memory_bytes, git_revision, started_by, user, host,
        coalesce(loaded_rows, (
            select sum(row_count) from step_items
            where step_items.run_id = runs.run_id and step = 'load' and kind = 'table'
        )) as rows
    from runs
"""
# A step that had nothing to do is compared with others that had nothing to do.
_FORMER_SECONDS = """
    select step, steps.status = 'nothing_new' as is_idle, seconds
    from steps inner join runs on runs.run_id = steps.run_id
    where runs.number < ? and steps.status in ('ok', 'nothing_new', 'warned')
    order by runs.number desc
"""
_TESTS = """
    select
        name,
        count(*) as runs,
        sum(status = 'failed') as failed,
        sum(status = 'warned') as warned,
        max(case when status in ('failed', 'warned') then recorded_at end) as last_trouble,
        max(recorded_at) as last_asked
    from step_items
    where kind = 'test' and name like ? escape '!'
    group by name
    order by failed desc, warned desc, name
"""
_TEST_RESULTS = """
    select
        runs.number, runs.run_id, recorded_at, step_items.status, row_count as failures,
        step_items.seconds, step_items.message
    from step_items inner join runs on runs.run_id = step_items.run_id
    where kind = 'test' and name = ?
    order by recorded_at desc, runs.number desc
"""


@contextmanager
def opened(settings: Settings) -> Iterator[History]:
    """The run history.

    Raises:
        BadInput: There is none yet.
        IngestionError: It is damaged.
    """
    path = settings.state_dir / "history.sqlite"
    if not path.is_file():
        raise BadInput(
            "there is no run history yet", file=path, hint="`wellspring run` does a first run."
        )
    with closing(History(path)) as history:
        yield history


def as_it_is(run: dict[str, Any], running: str | None) -> dict[str, Any]:
    """A run, or a step of it, with the status that a killed run could not note any more.

    Args:
        run: A row with `run_id` and `status`.
        running: Run id of the run that holds the lock.
    """
    if run["status"] == "running" and run["run_id"] != running:
        return {**run, "status": "interrupted"}
    return run


def runs_fields(settings: Settings, limit: int, failed: bool = False) -> list[dict[str, Any]]:
    """The last runs, newest first, as named values.

    Args:
        settings: The project's settings.
        limit: How many at most; 0 for all.
        failed: Only those that did not succeed.

    Raises:
        BadInput: There is no history yet.
    """
    running = _running(settings)
    condition = "where status not in ('succeeded', 'running') or (status = 'running' and run_id <> "
    chosen = f"{condition} ?)" if failed else ""
    with opened(settings) as history:
        found = history.rows(
            f"{_LISTED} {chosen} order by number desc limit ?",
            (*([running or ""] if failed else []), limit or -1),
        )
    return [_told(run, running) for run in found]


def run_fields(settings: Settings, name: str) -> dict[str, Any]:
    """One run with everything that the history has of it.

    Args:
        settings: The project's settings.
        name: Its number, its run id, or `last`.

    Raises:
        BadInput: There is no such run.
    """
    running = _running(settings)
    with opened(settings) as history:
        run = find_run(history, name)
        run_id = run["run_id"]
        items = history.rows("select * from step_items where run_id = ? order by rowid", (run_id,))
        return {
            **_told(run, running),
            "resumed_by": [
                row["number"]
                for row in history.rows(
                    "select number from runs where resumes = ? order by number", (run_id,)
                )
            ],
            "steps": _steps(history, run, running),
            "attempts": history.rows(
                "select step, name, number, started_at, seconds, status, message from attempts "
                "where run_id = ? order by started_at, step, name, number",
                (run_id,),
            ),
            "sources": _sources(items),
            "faults": [_fault(item) for item in items if item["status"] in ("failed", "warned")],
            "tests": _test_counts(items),
            "built": _built(items),
            "versions": history.rows(
                "select version, table_count, row_count, bytes, sealed_at, published_at, "
                "removed_at, git_revision from published_versions where run_id = ?",
                (run_id,),
            ),
        }


def find_run(history: History, name: str) -> dict[str, Any]:
    """The run with this number or run id; `last` is the newest.

    Raises:
        BadInput: There is none.
    """
    if name == "last":
        found = history.rows("select * from runs order by number desc limit 1")
    else:
        number = int(name) if name.isdecimal() else -1
        found = history.rows("select * from runs where run_id = ? or number = ?", (name, number))
    if found:
        return found[0]
    known = history.rows("select min(number) as low, max(number) as high from runs")[0]
    if known["high"] is None:
        raise BadInput("there is no run yet", hint="`wellspring run` does a first run.")
    raise BadInput(
        f"there is no run {name}",
        hint=f"Runs have the numbers {known['low']} to {known['high']}; `wellspring runs` lists "
        "them.",
    )


def tests_fields(settings: Settings, name: str | None, limit: int) -> dict[str, Any]:
    """How tests came out over time.

    Args:
        settings: The project's settings.
        name: A test, or a part of the names of several; all tests if None.
        limit: How many lines at most; 0 for all.

    Returns:
        `tests` with a line for each that matches, and `results` run by run if just one does.

    Raises:
        BadInput: No test of that name was ever asked.
    """
    with opened(settings) as history:
        pattern = "".join(f"!{c}" if c in "!%_" else c for c in name or "")
        tests = history.rows(_TESTS, (f"%{pattern}%",))
        tests = [test for test in tests if test["name"] == name] or tests
        if name and not tests:
            raise BadInput(
                f"no audit has asked a test named {name}",
                hint="`wellspring runs tests` lists all that were asked.",
            )
        results = history.rows(_TEST_RESULTS, (tests[0]["name"],)) if len(tests) == 1 else []
    return {"tests": tests[: limit or None], "results": results[: limit or None]}


def _running(settings: Settings) -> str | None:
    owner = current_owner(settings.state_dir / "run.lock")
    return owner.run_id if owner else None


def _told(run: dict[str, Any], running: str | None) -> dict[str, Any]:
    return {**as_it_is(run, running), "seconds": seconds_between(run)}


def seconds_between(run: dict[str, Any]) -> float | None:
    """How long a run took; None if it has not ended, or could not note that it had."""
    if not run["finished_at"]:
        return None
    began, ended = (datetime.fromisoformat(run[key]) for key in ("started_at", "finished_at"))
    return round((ended - began).total_seconds(), 3)


def _steps(history: History, run: dict[str, Any], running: str | None) -> list[dict[str, Any]]:
    """The run's steps, each with the median of the same step in former runs."""
    former: dict[tuple[str, int], list[float]] = {}
    for row in history.rows(_FORMER_SECONDS, (run["number"],)):
        seconds = former.setdefault((row["step"], row["is_idle"]), [])
        if len(seconds) < _COMPARED_RUNS and row["seconds"] is not None:
            seconds.append(row["seconds"])
    steps = history.rows(
        "select run_id, step, status, started_at, seconds, attempts, row_count as rows, bytes, "
        "peak_memory_bytes, message from steps where run_id = ? order by position",
        (run["run_id"],),
    )
    told = []
    for step in steps:
        seconds = former.get((step["step"], int(step["status"] == "nothing_new")), [])
        told.append(as_it_is(step, running))
        told[-1]["median_seconds"] = round(statistics.median(seconds), 3) if seconds else None
        del told[-1]["run_id"]
    return told


def _sources(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was landed and loaded, by table."""
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        if item["kind"] != "table":
            continue
        row = found.setdefault(item["name"], {"table": item["name"], "status": item["status"]})
        if item["status"] == "failed":
            row["status"] = "failed"
        verb = "landed" if item["step"] == "extract" else "loaded"
        row |= {f"rows_{verb}": item["row_count"], f"files_{verb}": item["file_count"]}
        row[f"bytes_{verb}"] = item["bytes"]
        row["refused" if verb == "landed" else "rejected"] = item["rejected"]
    return [found[name] for name in sorted(found)]


def _fault(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in ("step", "kind", "name", "status", "row_count", "message")}


def _test_counts(items: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(item["status"] for item in items if item["kind"] == "test")
    words = {"passed": "ok", "warned": "warned", "failed": "failed", "skipped": "skipped"}
    return {word: counts[status] for word, status in words.items()}


def _built(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": item["name"],
            "kind": item["kind"],
            "status": item["status"],
            "rows": item["row_count"],
            "seconds": item["seconds"],
        }
        for item in items
        if item["kind"] in ("model", "seed", "snapshot")
    ]


# -- for people --------------------------------------------------------------------------------

STATUS_STYLES = {"succeeded": "green", "running": "yellow", "partly": "yellow"}


def print_runs(runs: Sequence[dict[str, Any]], console: Console) -> None:
    """Shows runs to a person."""
    if not runs:
        console.print("no run is as asked for")
        return
    table = _table("run", "run id", "started", "command", "status")
    for name in ("seconds", "rows", "code"):
        table.add_column(name, justify="right")
    for run in runs:
        style = STATUS_STYLES.get(run["status"], "red")
        table.add_row(
            *(str(run["number"]), run["run_id"], _moment(run["started_at"]), _text(run["command"])),
            f"[{style}]{run['status']}[/{style}]",
            *(_seconds(run["seconds"]), _figure(run["rows"]), _figure(run["exit_code"])),
        )
    console.print(table)


def print_run(run: dict[str, Any], console: Console) -> None:
    """Shows one run to a person."""
    _print_head(run, console)
    _print_steps(run["steps"], console)
    _print_sources(run["sources"], console)
    _print_attempts(run["attempts"], console)
    tests = run["tests"]
    if any(tests.values()):
        counts = ", ".join(f"{number:,} {word}" for word, number in tests.items() if number)
        console.print(f"[bold]tests[/bold]      {counts}")
    if run["built"]:
        console.print(f"[bold]built[/bold]      {_slowest(run['built'])}", soft_wrap=True)
    for version in run["versions"]:
        console.print(f"[bold]published[/bold]  {_version(version)}", soft_wrap=True)
    _print_faults(run["faults"], console)
    if run["message"]:
        console.print("[bold]message[/bold]    ", end="")
        console.print(run["message"], markup=False, soft_wrap=True)


def print_tests(fields: dict[str, Any], console: Console) -> None:
    """Shows tests over time to a person."""
    if not fields["tests"]:
        console.print("no audit has asked a test yet")
        return
    if len(fields["tests"]) == 1 and fields["results"]:
        _print_test(fields["tests"][0], fields["results"], console)
        return
    table = _table("test")
    for name in ("asked", "failed", "warned", "last trouble"):
        table.add_column(name, justify="right")
    for test in fields["tests"]:
        last = _moment(test["last_trouble"]) if test["last_trouble"] else "never"
        numbers = [f"{test[name]:,}" for name in ("runs", "failed", "warned")]
        table.add_row(_text(test["name"]), *numbers, last)
    console.print(table)


def _print_test(test: dict[str, Any], results: Sequence[dict[str, Any]], console: Console) -> None:
    asked = count(test["runs"], "time")
    counts = f"asked {asked}, {test['failed']} failed, {test['warned']} warned"
    console.print(f"[bold]{test['name']}[/bold]: {counts}", soft_wrap=True)
    table = _table("run", "asked", "result")
    for name in ("rows", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("message")
    styles = {"ok": "green", "warned": "yellow"}
    for result in results:
        style = styles.get(result["status"], "red")
        word = "passed" if result["status"] == "ok" else result["status"]
        table.add_row(
            *(str(result["number"]), _moment(result["recorded_at"]), f"[{style}]{word}[/{style}]"),
            *(_figure(result["failures"]), _seconds(result["seconds"])),
            _text((result["message"] or "").partition("\n")[0]),
        )
    console.print(table)


def _print_head(run: dict[str, Any], console: Console) -> None:
    style = STATUS_STYLES.get(run["status"], "red")
    took = f" in {_seconds(run['seconds'])} s" if run["seconds"] is not None else ""
    code = f", exit code {run['exit_code']}" if run["exit_code"] else ""
    console.print(
        f"[bold]run {run['number']}[/bold]     {run['run_id']} "
        f"[{style}]{run['status']}[/{style}]{took}{code}",
        soft_wrap=True,
    )
    lines = [
        ("command", run["command"]),
        ("started", f"{_moment(run['started_at'])} UTC by {run['user']} on {run['host']} "
                    f"({run['started_by']}, process {run['pid']})"),
        ("from", f"git {run['git_revision'] or 'no revision'}, settings {run['settings_hash']}"),
    ]  # fmt: skip
    if run["logical_date"]:
        lines.append(("stands for", run["logical_date"]))
    if run["resumes"]:
        lines.append(("resumes", run["resumes"]))
    if run["resumed_by"]:
        lines.append(("resumed by", ", ".join(f"run {n}" for n in run["resumed_by"])))
    if run["peak_memory_bytes"]:
        lines.append(("memory", f"{size_text(run['peak_memory_bytes'])} at its peak"))
    for name, text in lines:
        console.print(f"[bold]{name:<10}[/bold] ", end="")
        console.print(text, markup=False, soft_wrap=True)


def _print_steps(steps: Sequence[dict[str, Any]], console: Console) -> None:
    table = _table("step", "status")
    for name in ("seconds", "usually", "tries", "rows", "size", "memory"):
        table.add_column(name, justify="right")
    table.add_column("what")
    for step in steps:
        table.add_row(
            *(step["step"], step["status"], _seconds(step["seconds"])),
            *(_seconds(step["median_seconds"]), _figure(step["attempts"]), _figure(step["rows"])),
            *(size_text(step["bytes"]), size_text(step["peak_memory_bytes"])),
            _text(step["message"] or ""),
        )
    console.print(table)


def _print_sources(sources: Sequence[dict[str, Any]], console: Console) -> None:
    names = ("rows_landed", "rows_loaded", "files_landed", "files_loaded", "refused", "rejected")
    busy = [row for row in sources if row["status"] == "failed" or any(map(row.get, names))]
    if not busy:
        return
    table = _table("table", "status")
    for name in ("landed", "loaded", "files", "refused", "rejected", "size"):
        table.add_column(name, justify="right")
    for row in busy:
        size = row.get("bytes_loaded") or row.get("bytes_landed")
        rows = (row.get("rows_landed"), row.get("rows_loaded"))
        files = row.get("files_loaded") or row.get("files_landed")
        figures = [_figure(n) for n in (*rows, files, row.get("refused"), row.get("rejected"))]
        table.add_row(row["table"], row["status"], *figures, size_text(size))
    console.print(table)


def _print_attempts(attempts: Sequence[dict[str, Any]], console: Console) -> None:
    told = [a for a in attempts if a["number"] > 1 or a["status"] != "ok"]
    for attempt in told:
        first = (attempt["message"] or "").partition("\n")[0]
        text = f"{attempt['step']} {attempt['name']}, try {attempt['number']}: {attempt['status']}"
        console.print("[bold]tried[/bold]      ", end="")
        console.print(f"{text}{f', {first}' if first else ''}", markup=False, soft_wrap=True)


def _print_faults(faults: Sequence[dict[str, Any]], console: Console) -> None:
    for fault in faults[:_SHOWN_FAULTS]:
        sign, style = ("!", "yellow") if fault["status"] == "warned" else ("✗", "red")
        found = f" ({count(fault['row_count'], 'row')})" if fault["row_count"] else ""
        console.print(f"[{style}]{sign}[/{style}] ", end="")
        lines = (fault["message"] or fault["status"]).splitlines()
        text = f"{fault['kind']} {fault['name']}{found}: {lines[0]}"
        console.print(text, markup=False, soft_wrap=True)
    if len(faults) > _SHOWN_FAULTS:
        console.print(f"  and {len(faults) - _SHOWN_FAULTS} more (--json has all)")


def _slowest(built: Sequence[dict[str, Any]]) -> str:
    good = [node for node in built if node["status"] == "ok"]
    slow = sorted(good, key=lambda node: -(node["seconds"] or 0))[:3]
    told = ", ".join(f"{node['name']} {_seconds(node['seconds'])} s" for node in slow)
    return f"{len(good)} of {len(built)} nodes, slowest {told}" if told else f"0 of {len(built)}"


def _version(version: dict[str, Any]) -> str:
    figures = f"{count(version['table_count'], 'table')}, {count(version['row_count'], 'row')}"
    gone = f", removed {_moment(version['removed_at'])}" if version["removed_at"] else ""
    at = f"at {_moment(version['published_at'])}" if version["published_at"] else "not yet"
    return f"{version['version']}: {figures}, {size_text(version['bytes'])}, {at}{gone}"


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _text(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _moment(text: str) -> str:
    """An ISO moment for people, to the second."""
    return text[:19].replace("T", " ")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f}"


def _figure(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def size_text(size: int | None) -> str:
    """Bytes for people: `1.4 MiB`; nothing for None."""
    if size is None:
        return ""
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
