"""Questions about what is published: `sql`, `status`, `docs`; and the lock between runs."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import warm
from toyshop import Call, ToyShop, surroundings

from ingestion.lock import Owner, RunLock

HELD = """
import sys, time
from pathlib import Path
import duckdb
from ingestion.lock import RunLock
data = Path(sys.argv[1])
with RunLock(data / "state" / "run.lock", "20260101T000000Z-abcd", "wellspring run --nightly"):
    connection = duckdb.connect(str(data / "warehouse" / "wellspring.duckdb"))
    connection.execute("begin; create table being_written as select 1 as n")
    print("ready", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def busy(shop: ToyShop):
    """The shop while another process writes its warehouse."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(shop.data)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield shop
    process.kill()
    process.wait(30)
    process.stdout.close()


# -- sql ---------------------------------------------------------------------------------------

QUERY = "select 1 as n, 1.50::decimal(9, 2) as price, null as nothing, 'a, \"b\"' as text"


def test_sql_as_table_is_for_people(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "sql", "select * from core.dim_toys order by toy_id")

    assert answer.code == 0
    lines = [line.split() for line in answer.out.splitlines() if line.strip()]
    assert lines[0] == ["toy_id", "toy_name", "is_bright"]
    assert lines[2:] == [["1", "bear", "false"], ["2", "robot", "true"]]
    assert "(2 rows)" in answer.err


def test_sql_table_is_cut_and_says_so(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "sql", "--limit", "5", "select range as n from range(1000)")

    assert len([line for line in answer.out.splitlines() if line.strip().isdigit()]) == 5
    assert "first 5 rows; --limit 0 shows all" in answer.err


def test_sql_as_csv_is_complete(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "sql", "--format", "csv", f"{QUERY} from range(300)")

    records = list(csv.reader(io.StringIO(answer.out)))
    assert records[0] == ["n", "price", "nothing", "text"]
    assert records[1:] == [["1", "1.50", "", 'a, "b"']] * 300


def test_sql_as_json_keeps_types_and_exact_decimals(shop: ToyShop, call: Call) -> None:
    answer = call(
        shop,
        "sql",
        "--format",
        "json",
        "select 12345678901234567.89::decimal(38, 2) as exact, null as nothing, "
        "{'a': [1, 2]} as nested, date '2026-06-30' as day, true as yes",
    )
    assert '"exact":12345678901234567.89,' in answer.out
    record = json.loads(answer.out)[0]
    assert record["nothing"] is None
    assert record["nested"] == {"a": [1, 2]}
    assert record["day"] == "2026-06-30"
    assert record["yes"] is True


def test_sql_without_rows_is_still_valid(shop: ToyShop, call: Call) -> None:
    query = "select toy_id from core.dim_toys where false"
    assert json.loads(call(shop, "sql", "--format", "json", query).out) == []
    assert call(shop, "sql", "--format", "csv", query).out == "toy_id\n"


def test_sql_from_a_file(shop: ToyShop, call: Call) -> None:
    shop.write("report.sql", "-- how many\nselect count(*) as n from sales.fct_sales;\n")
    answer = call(shop, "sql", "--format", "csv", "--file", "report.sql")
    assert answer.out == "n\n3\n"


def test_sql_from_stdin(shop: ToyShop) -> None:
    done = warm.run(
        ["-m", "runner", "sql", "--format", "csv"],
        input="select count(*) as n from sales.fct_sales",
        cwd=shop.root,
        env=surroundings(shop),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "n\n3\n"


def test_sql_into_a_pipe_that_closes_is_quiet(shop: ToyShop) -> None:
    line = f"{sys.executable} -m runner sql --format csv 'from range(300000)' | head -n 2"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=shop.root,
        env=surroundings(shop),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "range\n0\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select * from core.dim_toy", "core.dim_toys"),
        ("select * from fct_sale", "sales.fct_sales"),
        ("select nothing from core.dim_toys", "nothing"),
        ("selec 1", 'near "selec"'),
        ("create table core.mine as select 1", "published versions are read-only"),
        ("delete from core.dim_toys", "published versions are read-only"),
        ("select * from read_csv('/etc/passwd')", "sees the published version and nothing else"),
        ("copy core.dim_toys to 'out.csv'", "sees the published version and nothing else"),
        ("attach 'other.duckdb'", "sees the published version and nothing else"),
        ("set enable_external_access = true", "sees the published version and nothing else"),
        ("", "there is no SQL to run"),
    ],
)
def test_sql_that_cannot_be_answered_says_why(
    shop: ToyShop, call: Call, query: str, said: str
) -> None:
    answer = call(shop, "sql", query)

    assert answer.code == 6
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_sql_before_anything_is_published(fresh: ToyShop, call: Call) -> None:
    answer = call(fresh, "sql", "select 1")

    assert answer.code == 6
    assert "nothing is published yet" in answer.err
    assert "wellspring run" in answer.err


# -- while another run goes on -----------------------------------------------------------------


def test_second_run_is_refused_and_told_who_is_first(busy: ToyShop, call: Call) -> None:
    before = busy.current

    answer = call(busy, "run")

    assert answer.code == 5
    for said in ("another run is under way", "wellspring run --nightly", "process", "since"):
        assert said in answer.err
    assert busy.current == before


def test_status_and_sql_work_while_the_warehouse_is_written(busy: ToyShop, call: Call) -> None:
    status = json.loads(call(busy, "status", "--json").out)
    shown = call(busy, "status")
    answer = call(busy, "sql", "--format", "csv", "select count(*) as n from sales.fct_sales")

    assert status["running"]["run_id"] == "20260101T000000Z-abcd"
    assert status["published"]["version"] == busy.current
    assert status["published"]["tables"] == {"core.dim_toys": 2, "sales.fct_sales": 3}
    assert status["sources"]["till"]["rows"] == 3
    assert status["sources"]["till"]["quarantined"] == 2
    assert status["sources"]["stock"]["last_success"]
    assert shown.code == 0
    assert "20260101T000000Z-abcd" in shown.out
    assert answer.out == "n\n3\n"


def test_lock_of_a_killed_run_is_free_again(shop: ToyShop, call: Call) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(shop.data)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait(30)
    process.stdout.close()

    assert json.loads(call(shop, "status", "--json").out)["running"] is None
    assert call(shop, "clean").code == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)]
)
def test_run_that_was_ended_is_shown_as_interrupted(
    shop: ToyShop, call: Call, number: int, code: int
) -> None:
    before = shop.current
    shop.write(
        "models/marts/core/dim_toys.sql", "select count(*) as toy_id from range(10000000000)"
    )
    process = warm.Popen(
        ["-m", "runner", "build", "--log-format", "plain"],
        cwd=shop.root,
        env=surroundings(shop),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "build    started" in line:
            break
    time.sleep(1.5)
    process.send_signal(number)
    assert process.wait(60) == code
    process.stderr.close()

    status = json.loads(call(shop, "status", "--json").out)
    assert status["last_run"]["status"] == "interrupted"
    assert [step["status"] for step in status["last_run"]["steps"]] == ["ok", "interrupted"]
    assert status["running"] is None
    assert shop.current == before


# -- docs and start-up -------------------------------------------------------------------------


def test_docs_are_served_on_loopback(shop: ToyShop) -> None:
    process = warm.Popen(
        ["-m", "runner", "docs", "--no-build", "--port", "0"],
        cwd=shop.root,
        env={**surroundings(shop), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[0]
    try:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=30) as response:
            page = response.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        process.stdout.close()
    assert "dim_toys" in page


def test_taken_port_is_told(shop: ToyShop, call: Call) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = call(shop, "docs", "--no-build", "--port", str(taken.getsockname()[1]))
    assert answer.code == 6
    assert "--port 0" in answer.err


def test_docs_can_be_written_before_anything_is_published(fresh: ToyShop, call: Call) -> None:
    assert call(fresh, "extract", "load", "build").code == 0
    answer = call(fresh, "docs", "--build-only")
    assert answer.code == 0
    assert (fresh.data / "docs" / "index.html").is_file()


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import contextlib, io, sys; from runner.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as said: code = main(['--help'])\n"
        "heavy = {'dlt', 'dbt', 'duckdb', 'pyarrow', 'pandas', 'numpy', 'sqlalchemy', 'rich'}\n"
        "print(code, sorted(heavy & set(sys.modules)), 'Exit codes' in said.getvalue())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "0 [] True", done.stderr


def test_exit_codes_are_those_of_the_errors() -> None:
    import ingestion.errors as theirs
    import runner.errors as ours

    classes = [
        kind
        for module in (theirs, ours)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, theirs.IngestionError)
    ]
    assert len(classes) > 8
    assert {kind.exit_code for kind in classes} <= set(ours.EXIT_CODES)


def test_folder_that_is_no_project_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "run"],
        cwd=tmp_path,
        env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "no dbt_project.yml" in done.stderr


def test_damaged_history_is_told_and_can_be_moved_away(shop: ToyShop, call: Call) -> None:
    for path in (shop.data / "state").glob("history.sqlite*"):
        path.write_bytes(b"this is no database " * 500)

    refused = call(shop, "status")
    assert refused.code == 1
    assert "history.sqlite" in refused.err
    assert "move it away" in refused.err
    assert "Traceback" not in refused.err

    for path in (shop.data / "state").glob("history.sqlite*"):
        path.unlink()
    assert call(shop, "audit", "publish").code == 0


def test_second_run_waits_and_says_for_whom(shop: ToyShop, call: Call) -> None:
    held, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with RunLock(shop.data / "state" / "run.lock", "the-first-run", "wellspring run"):
            held.set()
            ended.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    refused = call(shop, "load", "--wait", "1s")
    assert refused.code == 5
    assert "after 1 s of waiting: `wellspring run`" in refused.err
    threading.Timer(2, ended.set).start()
    done = call(shop, "load", "--wait", "1m")
    holder.join()
    assert done.code == 0
    assert "waiting for `wellspring run`" in done.err
    assert "run the-first-run); " in done.err


def test_next_run_says_whose_run_was_cut_off(shop: ToyShop, call: Call) -> None:
    killed = Owner(1, socket.gethostname(), "ann", "wellspring run", "2026-01-01T00:00:00Z", "lost")
    (shop.data / "state" / "run.lock").write_text(json.dumps(vars(killed)))
    done = call(shop, "load")
    assert done.code == 0
    assert "ended without letting go, killed or cut off: `wellspring run`" in done.err
    assert "run lost" in done.err
