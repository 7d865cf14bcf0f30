"""How far sources, tables and marts can be trusted: the scores that the warehouse draws, told.

`books.veracity_scores` after an audit -> run history -> `runs.veracity_history`
published version -> `veracity_fields` -> text, JSON or the page of the documentation

The scores are a model's; here they are kept over time and shown. Left out: how a score is made
(models/ledger/veracity_scores), and the page, which `veracity_page` draws.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from ingestion.settings import Settings
from runner.history import History
from runner.versions import Version, require_current

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

PARTS = ("fresh", "complete", "unique", "consistent", "valid")
KINDS = {"mart": "marts", "source": "sources", "table": "source tables"}
_HISTORY_DAYS = 90
_SCORES, _HISTORY, _ANOMALIES = "veracity_scores", "veracity_history", "anomalies"


def keep_scores(
    connection: duckdb.DuckDBPyConnection,
    history: History,
    run_id: str,
    moment: datetime,
    schema: str,
) -> list[tuple[Any, ...]]:
    """Notes the scores that the warehouse has now in the run history.

    Args:
        connection: The warehouse.
        history: Where they are kept.
        run_id: The run.
        moment: The moment that it stands for, UTC.
        schema: Schema of the model `veracity_scores`.

    Returns:
        Rows of `runs.veracity_history`: the last run of each of the last 90 days.
    """
    scores = connection.execute(
        f'select subject_kind, subject, part, score from "{schema}".{_SCORES}'
    ).fetchall()
    history.add_veracity(run_id, moment, scores)
    found = history.rows(
        "select * from veracity where run_id in ("
        "select run_id from measured_runs where number in ("
        "select max(number) from measured_runs group by substr(measured_at, 1, 10))) "
        "and measured_at >= (select date(max(measured_at), ?) from veracity)",
        (f"-{_HISTORY_DAYS} days",),
    )
    return [
        (
            row["run_id"],
            datetime.fromisoformat(row["measured_at"]).replace(tzinfo=None),
            *(row[name] for name in ("subject_kind", "subject", "part", "score")),
        )
        for row in found
    ]


def veracity_fields(settings: Settings, version: Version | None = None) -> dict[str, Any]:
    """Scores, their history and the anomalies of a published version as named values.

    Args:
        settings: The project's settings.
        version: Which version; the current one if None.

    Raises:
        BadInput: Nothing is published, or the version has no scores.
    """
    from runner.query import open_version

    version = version or require_current(settings)
    with closing(open_version(settings, version)) as connection:
        schema = _schema(connection)
        if schema is None:
            raise BadInput(
                "the published version has no veracity scores",
                file=version.database,
                hint="They come of the model veracity_scores; `wellspring run` publishes it.",
            )
        return {
            "version": version.name,
            "created_at": version.manifest()["created_at"],
            "scores": _rows(connection, f'from "{schema}".{_SCORES} order by all'),
            "history": _rows(
                connection,
                f"from \"{schema}\".{_HISTORY} where part = 'overall' order by measured_at",
            ),
            "anomalies": _rows(
                connection,
                f'from "{schema}".{_ANOMALIES} order by severity, not is_new, anomaly',
            ),
        }


def has_scores(settings: Settings, version: Version) -> bool:
    """Whether a version can be asked for scores."""
    from runner.query import open_version

    with closing(open_version(settings, version)) as connection:
        return _schema(connection) is not None


def _schema(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The schema that holds scores, history and anomalies; None if one of them is absent."""
    found = connection.execute(
        "select schema_name from duckdb_tables() where table_name in (?, ?, ?) "
        "group by schema_name having count(*) = 3",
        [_SCORES, _HISTORY, _ANOMALIES],
    ).fetchone()
    return str(found[0]) if found else None


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found = connection.execute(sql)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def by_subject(fields: dict[str, Any]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Scores by kind of subject, subject and part; subjects with the lowest score first."""
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {kind: {} for kind in KINDS}
    for row in fields["scores"]:
        found.setdefault(row["subject_kind"], {}).setdefault(row["subject"], {})[row["part"]] = row
    return {
        kind: dict(sorted(subjects.items(), key=lambda item: item[1]["overall"]["score"]))
        for kind, subjects in found.items()
    }


def percent(score: float) -> str:
    """A score for people; what is not perfect never reads 100 %."""
    return "100 %" if score >= 1 else f"{min(score * 100, 99.99):.2f} %"


# -- for people --------------------------------------------------------------------------------


def print_veracity(fields: dict[str, Any], console: Console) -> None:
    """Shows the scores to a person, then what was unusual."""
    from rich import box
    from rich.table import Table

    for kind, subjects in by_subject(fields).items():
        if not subjects:
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        table.add_column(KINDS.get(kind, kind))
        for part in ("overall", *PARTS):
            table.add_column(part, justify="right")
        for subject, parts in subjects.items():
            told = [percent(parts[p]["score"]) if p in parts else "" for p in ("overall", *PARTS)]
            table.add_row(subject, *told)
        console.print(table)
        _print_reasons(console, subjects)
    _print_anomalies(console, fields["anomalies"])
    console.print(f"version {fields['version']}", style="dim")


def _print_reasons(console: Console, subjects: dict[str, dict[str, dict[str, Any]]]) -> None:
    """What would raise the lowest score of the kind."""
    for subject, parts in list(subjects.items())[:1]:
        if parts["overall"]["to_raise"]:
            text = f"to raise {subject}: {parts['overall']['to_raise']}"
            console.print(text, markup=False, soft_wrap=True)


def _print_anomalies(console: Console, anomalies: list[dict[str, Any]]) -> None:
    console.print(f"\nanomalies: {len(anomalies) or 'none'}", style="bold")
    for anomaly in anomalies:
        new = "new, " if anomaly["is_new"] else ""
        text = f"  {anomaly['description']} ({new}{anomaly['severity']})"
        console.print(text, markup=False, soft_wrap=True)
