"""`wellspring init` and `wellspring example remove`: what is the example, and what is left."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from dying import killed_at

from ingestion.errors import BadInput
from ingestion.settings import load_settings
from runner.scaffold.new_project import check_name, make_project, project_files
from runner.scaffold.parts import read_parts, renamed, without_example
from runner.scaffold.removal import check_committed, plan_removal, remove

ROOT = Path(__file__).parents[3]
# Names of the example's systems, and of models that are made of them.
EXAMPLE = ("anycompany", "pixelco", "helpdesk", "card_payments", "fct_order", "dim_customers")
needs_example = pytest.mark.skipif(
    not (ROOT / "anycompany").is_dir(), reason="this project has no example to take out"
)


def git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project."""
    return make_project("harbour", tmp_path_factory.mktemp("made") / "harbour")


@needs_example
def test_every_file_is_of_the_example_or_of_the_product() -> None:
    parts = read_parts()
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    files = [file for file in listed if (ROOT / file).is_file()]
    assert [file for file in files if parts.of(file) == "neither"] == []
    here = set(project_files(ROOT))
    assert {file for file in files if parts.of(file) == "example"} <= here
    unused = [
        glob for glob in (*parts.product, *parts.example)
        if not any(file.startswith(glob.split("*")[0]) for file in files)
    ]  # fmt: skip
    assert unused == []


def test_no_code_model_or_setting_of_a_new_project_speaks_of_the_example(made: Path) -> None:
    folders = ("models", "seeds", "tests/dbt", "ingestion")
    files = [made / "dbt_project.yml", made / "wellspring.toml", made / "README.md"]
    files += [path for folder in folders for path in (made / folder).rglob("*") if path.is_file()]
    speaking = {
        str(path.relative_to(made)): name
        for path in files
        for name in EXAMPLE
        if name in path.read_text(encoding="utf-8").lower()
    }
    assert speaking == {}
    assert not (made / "anycompany").exists()


def test_pages_of_a_new_project_lead_nowhere_that_is_not_there(made: Path) -> None:
    dead = [
        f"{page.relative_to(made)}: {aim}"
        for page in made.rglob("*.md")
        if page.parent.name != "templates"
        for aim in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in aim and not (page.parent / aim).exists()
    ]
    assert dead == []


def test_a_new_project_has_its_name_and_settings_that_hold(made: Path) -> None:
    project = yaml.safe_load((made / "dbt_project.yml").read_text())
    assert project["name"] == "harbour"
    assert [list(project[key]) for key in ("models", "seeds", "data_tests")] == [["harbour"]] * 3
    assert load_settings(made).companion.command == ()
    assert "# harbour" in (made / "README.md").read_text()
    packages = tomllib.loads((made / "pyproject.toml").read_text())
    assert packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "ingestion",
        "runner",
    ]
    assert list(packages["project"]["scripts"]) == ["wellspring"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    # So uv.lock, which is copied as it is, still holds.
    for key in ("name", "dependencies", "optional-dependencies", "requires-python"):
        assert packages["project"][key] == ours["project"][key]
    assert packages["dependency-groups"] == ours["dependency-groups"]
    assert git("check-ignore", ".dlt/secrets.toml", cwd=made).strip() == ".dlt/secrets.toml"


def test_a_new_project_is_linted_and_asks_only_for_its_own_tests(made: Path) -> None:
    for command in (["check", "."], ["format", "--check", "."]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache"],
            cwd=made, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    asked = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--assume-old", ".venv/.synced", "test"],
        cwd=made, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tests,) = [line.split()[-1] for line in asked.splitlines() if "bin/pytest" in line]
    assert tests == "tests/python/own"
    # What they need is all there: nothing of the example is imported.
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", tests],
        cwd=made, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stdout
    for name in ("test_manifest", "test_portability", "test_dbt_unit_tests"):
        assert f"{tests}/{name}.py::" in listed.stdout


def test_a_new_project_can_make_another_one_without_its_models(made: Path, tmp_path: Path) -> None:
    own = made / "models/staging/crm/stg_crm__accounts.sql"
    own.parent.mkdir()
    own.write_text("select 1 as account_id\n")
    listed = made / "macros/ledger/staging_models.sql"
    before = listed.read_text()
    listed.write_text(
        before.replace("set names = [", 'set names = [\n        "stg_crm__accounts",')
    )
    try:
        second = make_project("second", tmp_path / "second", origin=made)
        assert not (second / "models/staging/crm").exists()
        assert "stg_crm" not in (second / "macros/ledger/staging_models.sql").read_text()
    finally:
        own.unlink()
        own.parent.rmdir()
        listed.write_text(before)


@pytest.mark.parametrize("name", ["", "My Shop", "2nd", "shop-eu", "class", "models", "a__b"])
def test_a_name_that_dbt_cannot_take_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be called"):
        check_name(name)


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is there already"):
        make_project("shop", tmp_path / "shop")
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
    with pytest.raises(BadInput, match="not its project"):
        make_project("other", tmp_path / "other", origin=tmp_path)


def test_a_project_that_was_not_made_to_its_end_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "harbour"
    killed_at("init.before_rename", lambda: make_project("harbour", target))
    assert not target.exists()
    assert make_project("harbour", target) == target
    assert (target / "dbt_project.yml").is_file()


def test_marks_that_have_no_other_half_are_told() -> None:
    text = "a\n# example: begin\nb\n# example: end\nc\n"
    assert without_example(text, "x") == "a\nc\n"
    for wrong in ("# example: begin\n", "# example: end\n", text + "# example: end\n"):
        with pytest.raises(BadInput, match="no other half"):
            without_example(wrong, "x")
    assert renamed("name: old\nmodels:\n  old:\n    a: 1\n", "new") == (
        "name: new\nmodels:\n  new:\n    a: 1\n"
    )


@needs_example
def test_the_example_leaves_a_clone_and_nothing_else_does(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for file in project_files(ROOT):
        place = clone / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / file).read_bytes())
    own = clone / "models/staging/crm/_crm__sources.yml"
    own.parent.mkdir()
    own.write_text("sources: []\n")
    git("init", "--quiet", cwd=clone)
    git("add", "--all", cwd=clone)
    with pytest.raises(BadInput, match="not committed"):
        check_committed(clone)
    removal = plan_removal(clone)
    assert {"anycompany", "models/staging/shop", "seeds"} <= dict(removal.by_folder()).keys()
    killed_at("example.between_rewriting_and_removing", lambda: remove(removal))
    removal = plan_removal(clone)
    assert {"anycompany", "models/staging/shop", "seeds"} <= dict(removal.by_folder()).keys()
    remove(removal)
    assert own.read_text() == "sources: []\n"
    assert not (clone / "anycompany").exists()
    assert not (clone / "models/staging/shop").exists()
    assert "stg_shop" not in (clone / "macros/ledger/staging_models.sql").read_text()
    fresh = make_project("clone", tmp_path / "fresh" / "clone")
    assert set(project_files(clone)) - {str(own.relative_to(clone))} == set(project_files(fresh))
    with pytest.raises(BadInput, match="no example"):
        plan_removal(clone)
