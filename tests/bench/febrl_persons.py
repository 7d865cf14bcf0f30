"""How well the identity models recognise the persons of FEBRL's data set 4.

dataset4a.csv, dataset4b.csv -> `int_persons_unioned` -> the project's own models, unchanged
-> `int_persons_matched` -> record numbers, which tell the true pairs -> precision and recall

    .venv/bin/python tests/bench/febrl_persons.py FOLDER

5,000 persons, each with an original and a copy that has errors in every field; there is no e-mail
address and no telephone number, and the social security number is left out. Pairs are counted after
clustering. Once with the example company's weights and once with weights for such data: weights are
each company's own, models are not. Baseline: records that agree in name and date of birth.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The tests' small dbt project is a module beside them, not of a package: it is found by its folder.
sys.path.insert(0, str(ROOT / "tests" / "python" / "project"))

from lab import Lab  # noqa: E402

MODELS = (
    "int_persons_normalised",
    "int_person_pairs_blocked",
    "int_person_pairs_compared",
    "int_person_pairs_scored",
    "int_persons_matched",
)
# Without mail and telephone the other fields have to carry a match, and all of them have typos.
OWN_WEIGHTS = {
    "name": {"exact": 8, "close": 5, "initial": 4, "family": 1, "given": 1, "different": -5},
    "birth": {"exact": 9, "close": 5, "different": -4},
    "postal": {"exact": 4, "different": -2},
    "street": {"exact": 5, "close": 3, "different": -3},
}
OWN_MIN_SCORE = 4

UNIONED = """
select
    rec_id as customer_record_key,
    'febrl' as source,
    rec_id as source_customer_id,
    nullif(trim(given_name), '') as given_name,
    nullif(trim(surname), '') as family_name,
    cast(null as varchar) as email,
    cast(null as varchar) as phone,
    nullif(trim(concat_ws(' ', street_number, address_1)), '') as street,
    nullif(trim(suburb), '') as city,
    nullif(trim(postcode), '') as postal_code,
    'AU' as country_code,
    cast(try_strptime(trim(date_of_birth), '%Y%m%d') as date) as birth_date,
    cast(null as timestamp) as first_seen_at
from raw_febrl.persons
"""
PAIRS = """
with linked as (
    select {cluster} as cluster, regexp_extract(customer_record_key, 'rec-(\\d+)-', 1) as person
    from intermediate.{relation}
)

select sum(record_count * (record_count - 1) / 2)
from (select count(*) as record_count from linked group by {columns}) as sized
"""


def make_lab(folder: Path, data: Path) -> Lab:
    """The project's identity models over FEBRL's records."""
    lab = Lab(folder)
    place = folder / "models" / "intermediate" / "customers"
    place.mkdir(parents=True)
    for name in MODELS:
        shutil.copy(ROOT / "models" / "intermediate" / "customers" / f"{name}.sql", place)
    (place / "int_persons_unioned.sql").write_text(UNIONED, encoding="utf-8")
    (folder / "seeds").mkdir()
    for name in ("given_name_nicknames", "person_match_weights"):
        for suffix in ("csv", "yml"):
            shutil.copy(ROOT / "seeds" / f"{name}.{suffix}", folder / "seeds")
    lab.execute(
        "create schema raw_febrl; create table raw_febrl.persons as select * from read_csv("
        f"['{data}/dataset4a.csv', '{data}/dataset4b.csv'], all_varchar = true, "
        "normalize_names = true)"
    )
    return lab


def use_own_weights(lab: Lab) -> None:
    """Replaces weights and limit."""
    path = lab.folder / "seeds" / "person_match_weights.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        own = OWN_WEIGHTS.get(row["field"], {})
        row["weight"] = str(own.get(row["level"], row["weight"]))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    project = lab.folder / "dbt_project.yml"
    text = project.read_text(encoding="utf-8")
    line = next(row for row in text.splitlines() if "person_match_min_score:" in row)
    project.write_text(
        text.replace(line, f"  person_match_min_score: {OWN_MIN_SCORE}"), encoding="utf-8"
    )


def pairs(lab: Lab, columns: str, relation: str, cluster: str) -> int:
    """Number of pairs of records that agree in the columns."""
    query = PAIRS.format(columns=columns, relation=relation, cluster=cluster)
    return int(lab.query(query)[0][0] or 0)


def show(lab: Lab, name: str, relation: str, cluster: str, seconds: float | None) -> None:
    """Prints one line of the table."""
    right = pairs(lab, "cluster, person", relation, cluster)
    told = pairs(lab, "cluster", relation, cluster)
    true = pairs(lab, "person", relation, cluster)
    took = f"{seconds:>9.1f}" if seconds is not None else ""
    print(f"{name:<34}{true:>8}{told:>8}{right / told:>11.4f}{right / true:>9.4f}{took}")


def main() -> None:
    """Prints precision and recall."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    data = parser.parse_args().folder.resolve()
    head = f"{'':<34}{'pairs':>8}{'told':>8}{'precision':>11}{'recall':>9}{'seconds':>9}"
    with tempfile.TemporaryDirectory() as scratch:
        lab = make_lab(Path(scratch) / "lab", data)
        for name in ("weights of the example company", "weights for such data"):
            if name == "weights for such data":
                use_own_weights(lab)
            began = time.monotonic()
            results = lab.dbt("build", "--exclude-resource-type", "test", "unit_test")
            if {status for status, _ in results.values()} != {"success"}:
                raise SystemExit(str(results))
            seconds = time.monotonic() - began
            if name.startswith("weights of"):
                print(head)
                exact = "coalesce(name_key || birth_key, customer_record_key)"
                show(lab, "baseline: same name and birth", "int_persons_normalised", exact, None)
            show(lab, name, "int_persons_matched", "customer_key", seconds)


if __name__ == "__main__":
    main()
