"""The budget of memory and disk holds for every DuckDB, and too little space ends a run in time."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import psutil
import pytest
from toyshop import Call, ToyShop, surroundings

from ingestion.budget import (
    abandoned_temporary,
    require_free,
    sweep_temporary,
    temporary_dir,
    temporary_limit,
)
from ingestion.errors import DiskFull, disk_full, disk_full_error
from ingestion.settings import LimitsSettings, Settings
from ingestion.units import bytes_of
from ingestion.warehouse import connect, in_memory
from runner.query import open_version
from runner.versions import current_version

FULL = 7
SORT = "create table sorted as select md5(range::varchar) as m from range({}) order by m"
ROWS = 4_000_000
PLUGIN = """
    toyshop:
      target: duckdb
      outputs:
        duckdb:
          type: duckdb
          path: "{{ env_var('WELLSPRING_DATA', 'data') }}/warehouse/wellspring.duckdb"
          threads: 2
          plugins: [{module: ingestion.dbt_plugin}]
    """


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    limits = LimitsSettings(memory="256MB", disk="2GB", min_free="0")
    return Settings(project_dir=tmp_path, data_dir=tmp_path / "data", limits=limits)


def asked(connection: duckdb.DuckDBPyConnection, setting: str) -> str:
    return str(connection.execute("select current_setting(?)", [setting]).fetchone()[0])


def test_sort_larger_than_memory_spills_within_the_budget(settings: Settings) -> None:
    with closing(connect(settings)) as connection:
        connection.execute("set threads = 2")
        connection.execute(SORT.format(ROWS))
        assert connection.execute("select count(*) from sorted").fetchone() == (ROWS,)
    small = replace(settings, limits=replace(settings.limits, disk="20MB"))
    with closing(in_memory(small)) as connection:
        connection.execute("set threads = 2")
        with pytest.raises(duckdb.Error) as caught:
            connection.execute(SORT.format(ROWS))
    assert disk_full(caught.value)
    told = disk_full_error(small.data_dir, caught.value)
    assert "room for temporary files is used up" in told.message
    assert "[limits] disk" in told.hint


def test_every_connection_has_the_same_budget(shop: ToyShop, call: Call) -> None:
    shop.write("wellspring.toml", '[limits]\nmemory = "300MB"\ndisk = "1GB"\n')
    shop.write("profiles.yml", PLUGIN)
    columns = ", ".join(
        f"current_setting('{name}') as {name}"
        for name in ("memory_limit", "max_temp_directory_size", "temp_directory")
    )
    shop.write("models/marts/core/dim_toys.sql", f"select 1 as toy_id, 'x' as toy_name, {columns}")
    assert call(shop, "build", "--select", "dim_toys").code == 0
    limits = LimitsSettings(memory="300MB", disk="1GB")
    settings = Settings(project_dir=shop.root, data_dir=shop.data, limits=limits)
    with closing(connect(settings, read_only=True)) as connection:
        of_dbt = connection.execute(
            "select memory_limit, max_temp_directory_size, temp_directory from core.dim_toys"
        ).fetchone()
        assert of_dbt == ("286.1 MiB", "953.6 MiB", str(temporary_dir(settings)))
        assert asked(connection, "memory_limit") == "286.1 MiB"
        assert asked(connection, "max_temp_directory_size") == "953.6 MiB"
    version = current_version(settings)
    assert version is not None
    with closing(open_version(settings, version)) as connection:
        assert asked(connection, "memory_limit") == "286.1 MiB"
        assert asked(connection, "temp_directory") == str(temporary_dir(settings))
        with pytest.raises(duckdb.Error, match="disabled"):
            connection.execute("select * from read_text('/etc/hostname')")


def test_duckdb_gets_what_the_process_leaves_of_the_budget(settings: Settings) -> None:
    resident = psutil.Process().memory_info().rss
    for memory, least in (("40GB", 20e9), ("1GB", 511e6), ("300MB", 299e6)):
        limits = LimitsSettings(memory=memory)
        with closing(in_memory(replace(settings, limits=limits))) as connection:
            given = bytes_of(asked(connection, "memory_limit").replace(" ", ""))
        budget = bytes_of(memory)
        assert least <= given <= budget
        if budget >= 40e9:
            assert given <= budget - resident - budget / 8 + 50e6


def test_model_without_room_to_sort_ends_the_run_with_words_that_help(
    shop: ToyShop, call: Call
) -> None:
    before = shop.current
    shop.write("wellspring.toml", '[limits]\nmemory = "100MB"\ndisk = "5MB"\n')
    shop.write("profiles.yml", PLUGIN)
    shop.write(
        "models/marts/core/dim_toys.sql",
        "select range as toy_id, md5(range::varchar) as toy_name from range(6000000) order by 2",
    )
    done = call(shop, "build", "audit", "publish")
    assert done.code == FULL
    assert "DuckDB's room for temporary files is used up: dim_toys: Out of Memory" in done.out
    assert "[limits] disk or [limits] memory" in done.out
    assert shop.current == before
    assert call(shop, "sql", "select count(*) from core.dim_toys", "--format", "csv").code == 0


def test_run_does_not_start_with_less_free_space_than_asked_for(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(shop.data.glob("landing/**/*")), shop.current
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    monkeypatch.setenv("WELLSPRING__LIMITS__MIN_FREE", "100%")
    done = call(shop, "run")
    assert done.code == FULL
    assert "the run does not start" in done.err
    assert "less than [limits] min_free = 100% asks for" in done.err
    assert "`wellspring clean`" in done.out
    assert (sorted(shop.data.glob("landing/**/*")), shop.current) == before
    monkeypatch.setenv("WELLSPRING__LIMITS__MIN_FREE", "1KB")
    assert call(shop, "run").code == 0


def test_run_ends_between_two_steps_when_space_falls_below(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")

    def nearly_full(settings: Settings, what: str) -> None:
        if what == "no build":
            require_free(replace(settings, limits=LimitsSettings(min_free="100%")), what)

    monkeypatch.setattr("runner.pipeline.require_free", nearly_full)
    done = call(shop, "run")
    assert done.code == FULL
    assert "not done: audit, publish, docs" in done.out + done.err
    monkeypatch.undo()
    assert call(shop, "run").code == 0
    answer = call(shop, "sql", "select count(*) from sales.fct_sales", "--format", "csv")
    assert answer.out.split() == ["count_star()", "4"]


def test_temporary_files_of_killed_processes_are_removed(settings: Settings) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    mine = temporary_dir(settings)
    theirs = mine.with_name(mine.name.rpartition("-")[0] + f"-{ended.pid}")
    elsewhere = mine.with_name(f"another-machine-{ended.pid}")
    for folder in (mine, theirs, elsewhere):
        folder.mkdir(parents=True)
        (folder / "duckdb_temp_storage-0.tmp").write_bytes(b"x")
    assert abandoned_temporary(settings) == [theirs]
    assert sweep_temporary(settings) == [theirs]
    assert mine.is_dir()
    assert elsewhere.is_dir()
    assert not theirs.exists()


def test_shares_are_taken_of_the_disk(settings: Settings) -> None:
    whole = temporary_limit(replace(settings, limits=LimitsSettings(disk="100%")))
    half = temporary_limit(replace(settings, limits=LimitsSettings(disk="50%")))
    assert 0.4 < half / whole < 0.6
    with pytest.raises(DiskFull, match="is not read"):
        require_free(replace(settings, limits=LimitsSettings(min_free="100%")), "x is not read")


def test_former_name_of_the_memory_limit_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingestion.settings import load_settings

    (tmp_path / "dbt_project.yml").touch()
    (tmp_path / "wellspring.toml").write_text('[load]\nmemory = "3GB"\n')
    assert load_settings(tmp_path).limits.memory == "3GB"
    monkeypatch.setenv("WELLSPRING__LOAD__MEMORY", "2GB")
    assert load_settings(tmp_path).limits.memory == "2GB"
    monkeypatch.setenv("WELLSPRING__LIMITS__MEMORY", "1GB")
    assert load_settings(tmp_path).limits.memory == "1GB"


def test_wait_that_is_no_time_is_refused(shop: ToyShop, call: Call) -> None:
    done = call(shop, "run", "--wait", "soon")
    assert done.code == 3
    assert "90s, 10m or 1h" in done.err


def test_dbt_by_itself_keeps_to_the_budget_from_any_folder(shop: ToyShop, tmp_path: Path) -> None:
    shop.write("wellspring.toml", '[limits]\nmemory = "300MB"\n')
    shop.write("profiles.yml", PLUGIN)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("dbt")), "--quiet", "show", "--output", "json"),
            *("--project-dir", str(shop.root), "--profiles-dir", str(shop.root)),
            *("--inline", "select current_setting('memory_limit') as told"),
        ],
        cwd=tmp_path,
        env=surroundings(shop),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "286.1 MiB" in done.stdout
