"""Mutation scores of a small project, known by construction: a rule taken away lowers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab

from ingestion.errors import BadInput, LockHeld
from ingestion.lock import RunLock
from ingestion.settings import Settings
from runner.cli import main
from runner.errors import AuditFailed
from runner.mutate.report import require_score, score_fields
from runner.mutate.trials import ModelScore, MutationResult, mutate
from runner.transform import Dbt, Selection

ROWS = 2
WATCHED = {
    "amount": [{"required": True}, {"typed_from": "amount"}, {"between": [0, 1000]}],
    "status": [{"required": True}, {"one_of": ["open", "closed"]}],
}
# Defects of `orders`: four of the amount, two of the status, a key missing, a row doubled or lost.
KINDS = 9
LONG = "the parcel arrived with a broken seal, number {}"


def stage_orders(lab: Lab, rules: dict[str, list[Any]]) -> None:
    lab.stage(
        "stg_lab__orders",
        "orders",
        "order_id, try_cast(amount as decimal(12, 2)) as amount, status",
        staging={"key": ["order_id"]},
        rules=rules,
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Orders with rules for everything, notes with none, a table made from the notes."""
    lab = Lab(tmp_path_factory.mktemp("mutated"))
    lab.declare("orders", "notes")
    numbers = range(1, 61)
    lab.raw(
        "orders",
        {"order_id": "integer", "amount": "varchar", "status": "varchar"},
        [
            {"order_id": n, "amount": f"{n + 5}.50", "status": ["open", "closed"][n % 2]}
            for n in numbers
        ],
    )
    lab.raw(
        "notes",
        {"note_id": "integer", "body": "varchar"},
        [{"note_id": n, "body": LONG.format(n)} for n in numbers],
    )
    stage_orders(lab, WATCHED)
    lab.stage("stg_lab__notes", "notes", "note_id, body", staging={"key": ["note_id"]})
    lab.write(
        "models/intermediate/int_notes.sql",
        "select note_id, body from {{ ref('stg_lab__notes') }}",
    )
    assert {result.status for result in Dbt(settings(lab)).build(Selection())} == {"ok"}
    return lab


def settings(lab: Lab) -> Settings:
    return Settings(project_dir=lab.folder, data_dir=lab.data)


def scores(lab: Lab, *select: str, seed: int = 1) -> dict[str, ModelScore]:
    found = mutate(settings(lab), Selection(select), "wellspring mutate", rows=ROWS, seed=seed)
    return {score.model: score for score in found}


@pytest.fixture(scope="module")
def first(lab: Lab) -> dict[str, ModelScore]:
    """The scores of the project as it is, at the first seed."""
    before = lab.query("select count(*), sum(amount) from staging.stg_lab__orders")
    found = scores(lab)
    assert lab.query("select count(*), sum(amount) from staging.stg_lab__orders") == before
    assert not list((lab.data / "state").glob("mutate-*"))
    return found


def result(score: ModelScore, kind: str, *columns: str) -> MutationResult:
    [found] = [r for r in score.results if r.kind == kind and r.columns in (columns, ())]
    return found


def test_scores_are_what_the_rules_make_them(first: dict[str, ModelScore]) -> None:
    orders, notes = first["stg_lab__orders"], first["stg_lab__notes"]

    assert (orders.caught, orders.decidable) == (ROWS * (KINDS - 1), ROWS * KINDS)
    assert [r.kind for r in orders.results if r.survivors] == ["lost row"]
    assert orders.blind == orders.unruled == ()
    outlying = result(orders, "outlying", "amount")
    assert outlying.caught_by == {"amount is outside 0 to 1000": ROWS}
    assert result(orders, "duplicated row").caught == ROWS

    # Of the notes, what the key shows is noticed: none at all, the same twice, another text.
    assert [r.kind for r in notes.results if r.caught] == [
        "missing",
        "duplicated row",
        "repeated key",
    ]
    assert notes.blind == notes.unruled == ("body",)
    missed = result(notes, "missing", "body")
    assert len(missed.survivors) == ROWS
    assert all(file == "notes.parquet" for file, _ in missed.survivors)


def test_the_same_seed_takes_the_same_rows(lab: Lab, first: dict[str, ModelScore]) -> None:
    once = score_fields([first["stg_lab__notes"]])
    again, other = (
        score_fields([scores(lab, "stg_lab__notes", seed=seed)["stg_lab__notes"]])
        for seed in (1, 2)
    )
    assert once == again
    assert once != other
    assert once["score"] == other["score"]


def test_a_rule_taken_away_lowers_the_score(lab: Lab, first: dict[str, ModelScore]) -> None:
    stage_orders(lab, {**WATCHED, "amount": [{"required": True}, {"typed_from": "amount"}]})
    without_range = scores(lab, "stg_lab__orders")["stg_lab__orders"]
    stage_orders(lab, {"status": WATCHED["status"]})
    without_amount = scores(lab, "stg_lab__orders")["stg_lab__orders"]
    stage_orders(lab, WATCHED)

    assert first["stg_lab__orders"].score == (KINDS - 1) / KINDS
    assert without_range.score == (KINDS - 3) / KINDS
    assert without_range.blind == ()
    assert without_amount.score == (KINDS - 5) / KINDS
    assert without_amount.blind == without_amount.unruled == ("amount",)


def test_data_tests_notice_too_also_those_of_what_is_made_from_it(lab: Lab) -> None:
    tested = {
        "models": [{"name": "int_notes", "columns": [{"name": "body", "data_tests": ["not_null"]}]}]
    }
    path = Path("models/intermediate/int_notes.yml")
    lab.write(str(path), yaml.safe_dump(tested))
    notes = scores(lab, "stg_lab__notes")["stg_lab__notes"]
    (lab.folder / path).unlink()
    missing = result(notes, "missing", "body")
    assert missing.caught_by == {"test not_null_int_notes_body": ROWS}
    assert missing.survivors == []
    assert len(result(notes, "truncated", "body").survivors) == ROWS
    assert notes.blind == ()


def test_a_low_score_fails_as_an_audit_does(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("WELLSPRING_DATA", str(lab.data))
    code = main(["mutate", "--select", "stg_lab__notes", "--rows", "1", "--min-score", "0.6"])
    said = capfd.readouterr()
    assert code == 2
    assert "stg_lab__notes 0.38" in said.err
    assert "blind to: body" in said.out
    assert "wrong encoding" in said.out


def test_the_least_score_is_asked_of_each_model(first: dict[str, ModelScore]) -> None:
    require_score(list(first.values()), 0.3)
    with pytest.raises(AuditFailed, match="1 of 2 models notice less than"):
        require_score(list(first.values()), 0.8)


def test_a_selection_without_staging_and_a_run_under_way_are_told(lab: Lab) -> None:
    with pytest.raises(BadInput, match="holds no staging model"):
        scores(lab, "int_notes")
    lock = RunLock(lab.data / "state" / "run.lock", "another", "wellspring run")
    with lock, pytest.raises(LockHeld):
        scores(lab)
