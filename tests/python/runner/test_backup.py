"""Backup, everything wiped, restore: the same files to the last byte, or nothing that looks so."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from keeping_kit import good, killed, sums
from toyshop import Call, ToyShop, command

from ingestion.errors import BadInput
from runner.backup.store import Store

SECRET = "moss-and-heather"


def history_rows(shop: ToyShop) -> list[tuple[str, ...]]:
    """Runs and steps as the history has them."""
    connection = sqlite3.connect(shop.data / "state" / "history.sqlite")
    try:
        runs = connection.execute("select run_id, command, status from runs order by 1").fetchall()
        steps = connection.execute("select run_id, step, status from steps order by 1, 2")
        return [*runs, *steps.fetchall()]
    finally:
        connection.close()


def manifests(place: Path) -> list[dict]:
    """The backups at a local place, oldest first."""
    return [json.loads(path.read_text()) for path in sorted((place / "backups").glob("*.json"))]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def test_what_is_restored_is_what_was_backed_up(shop: ToyShop, call: Call, place: Path) -> None:
    (original,) = (shop.data / "landing").rglob("originals/*")
    (original.parent / "00-late.part").write_text("a file may be called so at its origin")
    landing, runs = sums(shop.data / "landing"), history_rows(shop)
    (original.parent / ".00-copy.csv.part").write_text("left by a killed run")
    good(call(shop, "backup", str(place)))
    shutil.rmtree(shop.data)
    answer = good(call(shop, "restore", str(place)))
    assert "wellspring rebuild" in answer.out
    assert sums(shop.data / "landing") == landing
    assert history_rows(shop) == runs
    (manifest,) = manifests(place)
    by_path = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    assert {path: name for path, name in sums(shop.data).items() if path in by_path} == by_path
    assert call(shop, "backup", str(place), "--verify").code == 0


def test_the_same_on_an_s3_endpoint(
    shop: ToyShop, call: Call, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__BACKUP__CONNECTION", "vault")
    monkeypatch.setenv("CONNECTIONS__VAULT__URL", "s3://vault/toyshop")
    monkeypatch.setenv("CONNECTIONS__VAULT__ENDPOINT_URL", s3)
    monkeypatch.setenv("CONNECTIONS__VAULT__KEY", "keeper")
    monkeypatch.setenv("CONNECTIONS__VAULT__SECRET", SECRET)
    landing, runs = sums(shop.data / "landing"), history_rows(shop)
    said = [good(call(shop, "backup")), good(call(shop, "backup"))]
    assert "; 1 file sent" in said[1].out, "only the history has changed"
    shutil.rmtree(shop.data)
    said += [good(call(shop, "restore")), good(call(shop, "backup", "--verify"))]
    assert sums(shop.data / "landing") == landing
    assert set(runs) <= set(history_rows(shop))
    listed = json.loads(good(call(shop, "backup", "--list", "--json")).out)
    assert len(listed) == 2
    assert not any(SECRET in answer.out + answer.err for answer in said)


@pytest.fixture
def s3() -> Iterator[str]:
    """A local server that speaks the protocol of S3, with an empty bucket `vault`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="keeper",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="vault")
    yield url
    server.stop()


def test_versions_come_back_with_the_current_one(shop: ToyShop, call: Call, place: Path) -> None:
    published, current = sums(shop.published), shop.current
    good(call(shop, "backup", str(place), "--versions"))
    shutil.rmtree(shop.data)
    good(call(shop, "restore", str(place)))
    assert (sums(shop.published), shop.current) == (published, current)
    assert "3" in good(call(shop, "sql", "select count(*) from sales.fct_sales")).out


def test_only_what_is_new_is_sent_and_nothing_that_is_needed_goes(
    shop: ToyShop, call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__BACKUP__KEEP", "2")
    good(call(shop, "backup", str(place)))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    good(call(shop, "extract"))
    second = json.loads(good(call(shop, "backup", str(place), "--json")).out)
    assert 0 < second["sent_files"] < second["files"] / 2
    gone = sums(place / "files")
    third = json.loads(good(call(shop, "backup", str(place), "--json")).out)
    assert len(third["removed_backups"]) == 1
    assert [m["id"] for m in manifests(place)] == [second["backup"], third["backup"]]
    assert len(set(gone) - set(sums(place / "files"))) == 1, "the first history alone goes"
    good(call(shop, "backup", str(place), "--verify"))


def test_what_is_there_is_not_replaced_unasked(shop: ToyShop, call: Call, place: Path) -> None:
    good(call(shop, "backup", str(place)))
    landing = sums(shop.data / "landing")
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    good(call(shop, "extract"))
    later = sums(shop.data / "landing")
    answer = call(shop, "restore", str(place))
    assert answer.code == 6
    assert "--yes" in answer.err
    assert sums(shop.data / "landing") == later
    good(call(shop, "restore", str(place), "--yes"))
    assert sums(shop.data / "landing") == landing
    assert not (shop.data / "warehouse" / "wellspring.duckdb").exists()


def test_a_damaged_backup_is_told_and_closes_landing_until_a_whole_one_is_restored(
    shop: ToyShop, call: Call, place: Path
) -> None:
    good(call(shop, "backup", str(place)))
    landing = sums(shop.data / "landing")
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    good(call(shop, "extract"))
    good(call(shop, "backup", str(place)))
    first, second = manifests(place)
    older = {entry["sha256"] for entry in first["files"]}
    damaged = next(e for e in second["files"] if e["sha256"] not in older and e["bytes"])
    lying = place / "files" / damaged["sha256"][:2] / damaged["sha256"]
    lying.write_bytes(b"x" * damaged["bytes"])
    told = call(shop, "backup", str(place), "--verify")
    assert (told.code, damaged["path"] in told.err) == (6, True)
    shutil.rmtree(shop.data)
    answer = call(shop, "restore", str(place))
    assert (answer.code, damaged["path"] in answer.err) == (6, True)
    refused = call(shop, "load")
    assert refused.code == 6
    assert "wellspring restore" in refused.out + refused.err
    good(call(shop, "restore", str(place), "--backup", first["id"], "--yes"))
    assert sums(shop.data / "landing") == landing
    good(call(shop, "load"))


def test_a_manifest_that_was_tampered_with_restores_nothing(
    shop: ToyShop, call: Call, place: Path
) -> None:
    good(call(shop, "backup", str(place)))
    (path,) = (place / "backups").glob("*.json")
    path.write_text(path.read_text().replace("landing/", "../outside/"))
    shutil.rmtree(shop.data)
    answer = call(shop, "restore", str(place))
    assert (answer.code, "damaged" in answer.err) == (6, True)
    assert not (shop.data / "landing").exists()


@pytest.mark.parametrize("point", ["backup.file_sent", "backup.before_manifest",
                                   "backup.after_manifest"])  # fmt: skip
def test_a_killed_backup_leaves_the_others_whole(
    shop: ToyShop, call: Call, place: Path, point: str
) -> None:
    good(call(shop, "backup", str(place)))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    good(call(shop, "extract"))
    landing = sums(shop.data / "landing")
    killed(shop, point, "backup", str(place))
    good(call(shop, "backup", str(place), "--verify"))
    assert len(manifests(place)) == (2 if point == "backup.after_manifest" else 1)
    good(call(shop, "backup", str(place)))
    shutil.rmtree(shop.data)
    good(call(shop, "restore", str(place)))
    assert sums(shop.data / "landing") == landing


def test_a_kill_while_backups_are_removed_harms_none(
    shop: ToyShop, call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(call(shop, "backup", str(place)))
    monkeypatch.setenv("WELLSPRING__BACKUP__KEEP", "1")
    answer = command(
        shop,
        "backup",
        str(place),
        WELLSPRING__BACKUP__KEEP="1",
        WELLSPRING_FAILPOINT="backup.manifests_removed",
    )
    assert answer.code == -9, answer
    assert len(manifests(place)) == 1
    good(call(shop, "backup", str(place), "--verify"))


@pytest.mark.parametrize("point", ["restore.marked", "restore.file_removed",
                                   "restore.file_fetched", "restore.before_unmarked"])  # fmt: skip
def test_a_killed_restore_goes_on_and_is_not_taken_for_whole(
    shop: ToyShop, call: Call, place: Path, point: str
) -> None:
    landing, runs = sums(shop.data / "landing"), history_rows(shop)
    good(call(shop, "backup", str(place)))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    good(call(shop, "extract"))
    killed(shop, point, "restore", str(place), "--yes")
    assert call(shop, "load").code == 6
    assert call(shop, "backup", str(place)).code == 6
    good(call(shop, "restore", str(place)))
    assert sums(shop.data / "landing") == landing
    assert history_rows(shop) == runs


def test_where_no_backup_is_whole_one_can_begin_anew(
    shop: ToyShop, call: Call, place: Path
) -> None:
    good(call(shop, "backup", str(place)))
    killed(shop, "restore.marked", "restore", str(place), "--yes")
    assert call(shop, "extract").code != 0
    good(call(shop, "clean", "--landing", "--yes"))
    good(call(shop, "extract", "load"))


def test_faults_of_the_command_line_say_what_to_do(
    shop: ToyShop, call: Call, tmp_path: Path
) -> None:
    answers = {
        "[backup] url": call(shop, "backup"),
        "another disk": call(shop, "backup", str(shop.data / "vault")),
        "wellspring backup": call(shop, "restore", str(tmp_path / "nothing"), "--yes"),
        "There are": None,
    }
    good(call(shop, "backup", str(tmp_path / "vault")))
    answers["There are"] = call(shop, "restore", str(tmp_path / "vault"), "--backup", "x", "--yes")
    for hint, answer in answers.items():
        assert answer is not None
        assert (answer.code, hint in answer.err) == (6, True), answer
    unknown = call(shop, "backup", "nonsense://x/y")
    assert unknown.code == 1
    assert "s3://" in unknown.err


def test_a_store_without_atomic_writes_shows_only_whole_files(tmp_path: Path) -> None:
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    # As a file server is: neither this machine's disk nor an object store.
    server = DirFileSystem(path=str(tmp_path / "server"), fs=LocalFileSystem())
    store = Store(server, "vault", "sftp://example.com/vault")
    path = tmp_path / "file"
    path.write_bytes(b"content")
    checksum = sha256(b"content").hexdigest()
    for _ in range(2):
        store.send(path, "files/ab/one", checksum)
    store.write("backups/1.json", b"{}")
    (tmp_path / "server" / "vault" / "files" / "ab" / "two.part").write_bytes(b"half")
    assert store.sizes("files") == {"files/ab/one": 7}
    assert store.sizes("nothing") == {}
    assert store.read("backups/1.json") == b"{}"
    assert store.fetch("files/ab/one", tmp_path / "back") == checksum
    with pytest.raises(BadInput, match="has changed"):
        store.send(path, "files/ab/three", sha256(b"other").hexdigest())
    store.remove(["files/ab/one", "files/ab/never"])
    assert store.sizes("files") == {}
