"""Sources side by side, interrupted, failing, and again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest
import warm
from sources_kit import declared, landed, rows_of, run, settings_in

from ingestion import landing
from ingestion.declarations import FilesTable, SourceDeclaration, TableDeclaration
from ingestion.errors import DiskFull, IngestionError, SourceUnreachable
from ingestion.extract import extract
from ingestion.progress import ProgressEvent
from ingestion.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def make_database(path: Path, rows: int, table: str = "things") -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"create table {table} (id integer primary key, name text)")
        connection.executemany(
            f"insert into {table} values (?, ?)", [(n, f"thing {n}") for n in range(rows)]
        )
    return f"sqlite:///{path}"


def test_sources_extract_side_by_side_and_one_may_fail(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"source{n}" for n in range(6)]
    for number, name in enumerate(names):
        url = make_database(tmp_path / f"{name}.db", 100 + number)
        monkeypatch.setenv(f"CONNECTIONS__{name.upper()}__URL", url)
    monkeypatch.setenv("CONNECTIONS__SOURCE3__URL", "sqlite:///nowhere.db")
    sources = [declared("database", {"things": {}}, name=name) for name in names]
    results = extract(sources, settings)
    assert [result.source for result in results] == names
    assert [result.status for result in results] == ["ok"] * 3 + ["failed"] + ["ok"] * 2
    assert isinstance(results[3].error, SourceUnreachable)
    assert [len(landed(settings, "things", name)) for name in names] == [100, 101, 102, 0, 104, 105]
    again = extract(sources, settings)
    assert [r.status for r in again] == ["nothing_new"] * 3 + ["failed"] + ["nothing_new"] * 2


def test_every_table_is_told(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", make_database(tmp_path / "a.db", 3))
    events: list[ProgressEvent] = []
    result = run(
        declared("database", {"things": {}, "lost": {}}), settings, on_progress=events.append
    )
    told = {(event.table, event.state) for event in events}
    assert told == {
        (None, "started"),
        ("things", "started"),
        ("things", "finished"),
        ("lost", "started"),
        ("lost", "failed"),
        (None, "failed"),
    }
    assert result.tables[0].message == "read 3 rows of things"
    assert result.tables[0].seconds > 0
    assert all(event.step == "extract" and event.source == "src" for event in events)


def test_a_listener_that_fails_stops_nothing(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(event: ProgressEvent) -> None:
        raise RuntimeError("no terminal")

    monkeypatch.setenv("CONNECTIONS__SRC__URL", make_database(tmp_path / "a.db", 3))
    assert rows_of(run(declared("database", {"things": {}}), settings, on_progress=fail)) == {
        "things": 3
    }


def test_working_folders_can_be_wiped_at_any_time(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setenv("CONNECTIONS__SRC__URL", make_database(tmp_path / "a.db", 3))
    source = declared("database", {"things": {}})
    run(source, settings)
    shutil.rmtree(settings.state_dir)
    assert run(source, settings).status == "nothing_new"
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("insert into things values (50, 'new')")
    assert rows_of(run(source, settings)) == {"things": 1}


def test_nothing_is_written_outside_of_the_data_folder(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = dedent(
        f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from pathlib import Path
        from sources_kit import *
        result = run(declared("database", {{"things": {{}}}}), settings_in(Path({str(tmp_path)!r})))
        print(rows_of(result))
        """
    )
    url = make_database(tmp_path / "a.db", 3)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "CONNECTIONS__SRC__URL": url}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "{'things': 3}\n", done.stderr
    assert done.stderr == ""
    assert list(home.iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {"a.db", "data", "home"}


_KILLED = """
import os, sys
sys.path[:0] = {path!r}
from pathlib import Path
from sources_kit import *
import importlib
target = importlib.import_module({module!r})
target = getattr(target, {owner!r}) if {owner!r} else target
original = target.{name}
count = 0
def cut(*arguments, **keywords):
    global count
    count += 1
    if {before}:
        os.kill(os.getpid(), 9)
    result = original(*arguments, **keywords)
    os.kill(os.getpid(), 9)
    return result
target.{name} = cut
source = declared("database", {{"things": {{}}, "more": {{}}}})
run(source, settings_in(Path({folder!r})))
"""


@pytest.mark.parametrize(
    ("module", "name", "before"),
    [
        ("ingestion.database", "typed", False),
        ("ingestion.landing", "run", True),
        ("dlt.pipeline.pipeline.Pipeline", "extract", False),
        ("dlt.pipeline.pipeline.Pipeline", "normalize", False),
        ("dlt.destinations.impl.filesystem.filesystem.FilesystemLoadJob", "run", False),
        ("dlt.destinations.impl.filesystem.filesystem.FilesystemClient", "complete_load", True),
        ("dlt.destinations.impl.filesystem.filesystem.FilesystemClient", "complete_load", False),
    ],
)
def test_killed_at_any_moment_and_run_again(
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    name: str,
    before: bool,
) -> None:
    url = make_database(tmp_path / "a.db", 5000)
    make_database(tmp_path / "a.db", 30, "more")
    monkeypatch.setenv("CONNECTIONS__SRC__URL", url)
    package, _, attribute = module.rpartition(".")
    owner = attribute if attribute[0].isupper() else ""
    code = _KILLED.format(
        path=[str(Path(__file__).parent), *sys.path],
        module=package if owner else module,
        owner=owner,
        name=name,
        before=before,
        folder=str(tmp_path),
    )
    killed = warm.run(["-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    source = declared("database", {"things": {}, "more": {}})
    assert run(source, settings).error is None
    for table, count in {"things": 5000, "more": 30}.items():
        ids = [row["id"] for row in landed(settings, table)]
        assert (len(ids), len(set(ids))) == (count, count)
    assert run(source, settings).status == "nothing_new"
    assert not any(settings.spool_dir.rglob("*.parquet"))


def test_a_full_disk_is_told_and_lands_nothing(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", make_database(tmp_path / "a.db", 3))
    source = declared("database", {"things": {}})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        from fsspec.implementations.local import LocalFileSystem

        patch.setattr(LocalFileSystem, "put_file", full)
        error = run(source, settings).error
    assert isinstance(error, DiskFull)
    assert error.exit_code == 7
    assert landed(settings, "things") == []
    assert run(source, settings).error is None
    assert len(landed(settings, "things")) == 3
    assert run(source, settings).status == "nothing_new"


def files_source(**tables: str) -> SourceDeclaration:
    return SourceDeclaration(
        name="src",
        schema="raw_src",
        kind="files",
        connection="src",
        file="x.yml",
        tables=tuple(
            TableDeclaration(name, name, FilesTable.model_validate({"path": path}))
            for name, path in tables.items()
        ),
    )


def test_files_land_once_and_a_broken_one_is_counted(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.json").write_text(json.dumps([{"id": 1}, {"id": 2}]))
    (inbox / "b.json").write_text('[{"id": 3')
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(inbox))
    result = run(files_source(things="*.json"), settings)
    assert (result.status, result.error) == ("ok", None)
    assert result.tables[0].refused == 1
    assert result.tables[0].files >= 1
    again = run(files_source(things="*.json"), settings)
    assert (again.tables[0].rows, again.tables[0].files) == (0, 0)
    (inbox / "c.json").write_text(json.dumps([{"id": 4}]))
    assert run(files_source(things="*.json"), settings).tables[0].files == 1
    assert len(landing.completed_loads(settings, "src")) == 2


def test_an_error_of_ours_keeps_its_place(settings: Settings) -> None:
    error = run(declared("database", {"things": {}}, name="nowhere"), settings).error
    assert isinstance(error, IngestionError)
    assert "CONNECTIONS__NOWHERE__URL" in str(error)
    assert str(error).startswith("source nowhere")


def test_an_interruption_stops_reading_soon_and_lands_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.project_dir / "endless.py").write_text(
        dedent(
            """
            import time
            def source():
                while True:
                    time.sleep(0.01)
                    yield {"id": 1}
            """
        )
    )
    code = dedent(
        f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from pathlib import Path
        from sources_kit import *
        source = declared("python", {{"things": {{}}}}, callable="endless:source")
        tell = lambda event: print(event.state, flush=True)
        run(source, settings_in(Path({str(settings.project_dir)!r})), on_progress=tell)
        """
    )
    process = warm.Popen(["-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["started\n", "started\n"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert landed(settings, "things") == []
    assert not any(settings.spool_dir.rglob("*.parquet"))
