"""How many wrong cells row rules find in the hospital data, with rules from its constraints alone.

hospital.csv, hospital_constraints.txt -> a dbt project with one staging model, each constraint a
rule `determined_by` -> findings -> hospital_clean.csv -> precision and recall of cells and rows

    .venv/bin/python tests/bench/hospital_cells.py FOLDER

FOLDER holds the three files as published with Raha and HoloClean: 1,000 rows of 19 columns with 509
wrong cells. A constraint `EQ(a) EQ(b) IQ(c)` reads: rows that agree in a and b agree in c. Nothing
is tuned: the value that most rows of a group tell is taken for the right one. The baseline is what
a plain test of the same dependencies reports: every row of a group that disagrees.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
# The tests' small dbt project is a module beside them, not of a package: it is found by its folder.
sys.path.insert(0, str(ROOT / "tests" / "python" / "project"))

from lab import Lab  # noqa: E402

Cells = set[tuple[int, str]]


def dependencies(text: str) -> dict[str, list[list[str]]]:
    """Reads constraints: column -> the lists of columns that each determine it."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for line in filter(None, map(str.strip, text.splitlines())):
        same = [name.lower() for name in re.findall(r"EQ\(t1\.(\w+),t2\.\w+\)", line)]
        [differs] = [name.lower() for name in re.findall(r"IQ\(t1\.(\w+),t2\.\w+\)", line)]
        found[differs].append(same)
    return dict(found)


def find(
    folder: Path, columns: list[str], rules: dict[str, list[list[str]]]
) -> tuple[Cells, float]:
    """Stages the rows with the rules.

    Returns:
        The cells that a rule found, by row number from 0 and column, and the seconds it took.
    """
    with tempfile.TemporaryDirectory() as scratch:
        lab = Lab(Path(scratch))
        lab.declare("hospital")
        lab.raw("hospital", dict.fromkeys(columns, "varchar"), [])
        lab.execute(
            "insert into raw_lab.hospital select *, 'hospital.csv', row_number() over (), '1', "
            f"null, false from read_csv('{folder}/hospital.csv', all_varchar = true)"
        )
        cleaned = ", ".join(f"nullif({name}, '') as {name}" for name in columns)
        lab.stage(
            "stg_lab__hospitals",
            "hospital",
            f"_row as tid, {cleaned}",
            staging={"key": ["tid"]},
            rules={name: [{"determined_by": by} for by in lists] for name, lists in rules.items()},
        )
        began = time.monotonic()
        results = lab.dbt("run")
        seconds = time.monotonic() - began
        if {status for status, _ in results.values()} != {"success"}:
            raise SystemExit(str(results))
        told = lab.query(
            "select distinct cast(record_key as integer) - 1, column_name"
            " from findings.stg_lab__hospitals"
        )
    return {(row, column) for row, column in told}, seconds


def truth(folder: Path, columns: list[str]) -> Cells:
    """The cells in which the dirty copy differs from the clean one."""
    dirty = duckdb.sql(
        f"select * from read_csv('{folder}/hospital.csv', all_varchar = true)"
    ).fetchall()
    clean = duckdb.sql(
        "select cast(tid as integer), lower(attribute), coalesce(correct_val, '') "
        f"from read_csv('{folder}/hospital_clean.csv', all_varchar = true)"
    ).fetchall()
    right = {(tid, column): value for tid, column, value in clean}
    return {
        (tid, column)
        for tid, values in enumerate(dirty)
        for column, value in zip(columns, values, strict=True)
        if (tid, column) in right and (value or "") != right[tid, column]
    }


def every_row_of_a_split_group(folder: Path, rules: dict[str, list[list[str]]]) -> Cells:
    """What a test of the dependency alone would report."""
    told: Cells = set()
    for column, lists in rules.items():
        for by in lists:
            keys = ", ".join(by)
            rows = duckdb.sql(
                "with numbered as (select *, row_number() over () - 1 as tid "
                f"from read_csv('{folder}/hospital.csv', all_varchar = true)) "
                f"select tid from numbered where ({keys}) in (select ({keys}) from numbered "
                f"group by {keys} having count(distinct {column}) > 1)"
            ).fetchall()
            told |= {(tid, column) for (tid,) in rows}
    return told


def line(name: str, told: set[object], wrong: set[object]) -> str:
    """One line of the table."""
    right = len(told & wrong)
    precision, recall = right / max(len(told), 1), right / max(len(wrong), 1)
    both = 2 * precision * recall / max(precision + recall, 1e-9)
    figures = f"{len(wrong):>8}{len(told):>8}{right:>8}"
    return f"{name:<44}{figures}{precision:>11.4f}{recall:>9.4f}{both:>8.4f}"


def main() -> None:
    """Prints precision and recall."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    rules = dependencies((folder / "hospital_constraints.txt").read_text(encoding="utf-8"))
    header = (folder / "hospital.csv").open(encoding="utf-8").readline().strip()
    columns = [name.lower() for name in header.split(",")]
    wrong = truth(folder, columns)
    told, seconds = find(folder, columns, rules)
    plain = every_row_of_a_split_group(folder, rules)
    ruled = {cell for cell in wrong if cell[1] in rules}
    print(f"{'':<44}{'wrong':>8}{'told':>8}{'right':>8}{'precision':>11}{'recall':>9}{'F1':>8}")
    print(line("cells", set(told), set(wrong)))
    print(line("cells of columns with a constraint", set(told), set(ruled)))
    print(line("rows", {row for row, _ in told}, {row for row, _ in wrong}))
    print(line("baseline: all cells of a split group", set(plain), set(wrong)))
    print(
        f"{len(wrong) - len(ruled)} wrong cells stand in columns without a constraint; "
        f"{seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
