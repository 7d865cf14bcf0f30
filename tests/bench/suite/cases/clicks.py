"""Clicks of a day, from files to published load times, onto days that are there.

days of NDJSON.gz -> former days read, which does not count -> the next day's files appear -> one
command: landing, rows with reasons, repeats, counts, percentiles, audit, published mart

The bare contender answers the same questions with DuckDB alone, as `clicks_day.py` has it. Both
have to count the page views that the generator knows of; the published mart has to tell its
percentiles as well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.kit import Benchmark, Case, Contender, Limit, Made, folder_bytes

_DAYS = "days.json"


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Makes the days, and notes what each has."""
    from clicks_day import FIRST
    from clicks_made import make_day

    days = []
    for number in range(int(sizes["days"])):
        made = make_day(folder, FIRST, number, int(sizes["megabytes"]))
        days.append({"files": [str(path) for path in made.files], "bytes": made.raw_bytes})
    (folder / _DAYS).write_text(json.dumps(days), encoding="utf-8")


def bare(case: Case) -> Made:
    """The same questions, no landing, ledger, reasons, tests or published version."""
    import duckdb
    from clicks_day import bare_marts

    *former, last = _days(case)
    for day in former:
        bare_marts(case.scratch, _paths(day))
    with case.timed():
        bare_marts(case.scratch, _paths(last))
    with duckdb.connect(str(case.scratch / "bare_marts.duckdb"), read_only=True) as connection:
        asked = "select sum(n), sum(n) filter (load_ms is not null) from counted"
        found = connection.execute(asked).fetchone()
    return Made(last["bytes"], str(found), folder_bytes(case.scratch / "bare_marts.duckdb"))


def wellspring(case: Case) -> Made:
    """A run of what the mart is made of, as a command."""
    import duckdb
    from clicks_day import Trial

    *former, last = _days(case)
    trial = Trial(case.scratch, "parquet")
    (case.scratch / "truth").symlink_to(case.data / "truth")
    for day in former:
        _arrive(case, day)
        trial.run()
    _arrive(case, last)
    with case.timed():
        trial.run()
    for step, seconds in trial.steps().items():
        case.told(step, seconds)
    wrong = trial.wrong()
    if wrong:
        raise SystemExit(f"{wrong} rows of the published mart differ from the generator's truth")
    database = (trial.data / "published" / "current").resolve() / "wellspring.duckdb"
    with duckdb.connect(str(database), read_only=True) as connection:
        asked = (
            "select sum(view_count), sum(measured_count) from web.rpt_page_load_month_over_month "
            "where page_type = 'all' and country_code = 'all' and device = 'all' "
            "and connection_type = 'all'"
        )
        found = connection.execute(asked).fetchone()
    return Made(last["bytes"], str(found), folder_bytes(trial.data))


def _days(case: Case) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((case.data / _DAYS).read_text(encoding="utf-8"))
    return found


def _paths(day: Mapping[str, Any]) -> Sequence[Path]:
    return [Path(path) for path in day["files"]]


def _arrive(case: Case, day: Mapping[str, Any]) -> None:
    """Puts a day's files where the project looks for them."""
    for path in _paths(day):
        place = case.scratch / path.relative_to(case.data)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


BENCHMARKS = (
    Benchmark(
        name="clicks",
        title="a part of a day's clicks, from gzipped lines to published load times",
        baseline="bare DuckDB",
        contenders=(
            Contender("bare DuckDB", "suite/cases/clicks.py:bare", rounds=3),
            Contender("wellspring command", "suite/cases/clicks.py:wellspring", rounds=3),
        ),
        prepare=prepare,
        sizes={"megabytes": 5_000, "days": 3},
        quick={"megabytes": 40, "days": 2},
        unit="MB of JSON",
        limits=(
            Limit("wellspring command", rate=70, text="acceptance 6: 250 GB in an hour"),
            Limit("wellspring command", peak_mb=8_000, text="acceptance 6"),
        ),
        about=(
            "Megabytes are those of the JSON, a tenth as gzip. A command is measured with all that "
            "it does anew each time; a process that stays would do without some seconds. The bare "
            "contender tells percentiles in whole milliseconds."
        ),
    ),
)
