"""Settings come from wellspring.toml and the environment, and faults say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.errors import SettingsError
from ingestion.settings import find_project, load_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("WELLSPRING_DATA", raising=False)
    (tmp_path / "dbt_project.yml").touch()
    return tmp_path


def test_without_a_file_the_defaults_hold(project: Path) -> None:
    settings = load_settings(project)
    assert settings.data_dir == project / "data"
    assert settings.warehouse_path == project / "data" / "warehouse" / "wellspring.duckdb"
    assert (settings.extract.parallel_sources, settings.limits.memory) == (4, "25%")
    assert settings.companion.command == ()


def test_the_environment_overrides_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (project / "wellspring.toml").write_text(
        '[extract]\nparallel_sources = 2\n[companion]\ncommand = ["a", "b"]\n[load]\nmemory = "1GB"'
    )
    monkeypatch.setenv("WELLSPRING__EXTRACT__PARALLEL_SOURCES", "7")
    monkeypatch.setenv("WELLSPRING__COMPANION__COMMAND", "tunnel --to 'a host'")
    monkeypatch.setenv("WELLSPRING_DATA", str(tmp_path / "elsewhere"))
    settings = load_settings(project)
    assert settings.extract.parallel_sources == 7
    assert settings.companion.command == ("tunnel", "--to", "a host")
    assert settings.limits.memory == "1GB"
    assert settings.data_dir == tmp_path / "elsewhere"


def test_a_folder_that_dlt_could_not_write_to_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WELLSPRING_DATA", str(tmp_path / "100%"))
    with pytest.raises(SettingsError, match="has a % in its name") as caught:
        load_settings(project)
    assert caught.value.key == "WELLSPRING_DATA"


def test_the_project_is_found_from_a_folder_below(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = project / "models" / "staging"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_project() == project
    with pytest.raises(SettingsError, match=r"no dbt_project\.yml"):
        find_project(Path("/proc"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[extrct]\n", "Did you mean extract?"),
        ("[extract]\nparalel_sources = 2", "Did you mean parallel_sources?"),
        ('[extract]\nparallel_sources = "two"', "expected a whole number of at least 1"),
        ("[extract]\nparallel_sources = true", "expected a whole number"),
        ("[extract]\nparallel_sources = 0", "at least 1"),
        ('[load]\nmemory = "lots"', "a share or a size"),
        ('[limits]\ndisk = "120%"', "a share or a size"),
        ('[run]\nwait_for_lock = "10"', "a time"),
        ('[companion]\ncommand = "run this"', "expected a list of texts"),
        ("extract = 4", "expected a section"),
        ("[extract\n", "not valid TOML"),
    ],
)
def test_a_fault_names_file_and_expectation(project: Path, text: str, told: str) -> None:
    (project / "wellspring.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(project)
    assert told in str(caught.value)
    assert "wellspring.toml" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_variable_that_overrides_nothing_is_a_fault(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__LOAD__MEMRY", "1GB")
    with pytest.raises(SettingsError, match="WELLSPRING__LOAD__MEMRY"):
        load_settings(project)
