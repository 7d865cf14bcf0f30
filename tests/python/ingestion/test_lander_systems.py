"""Systems without places of their own through the whole lander: landed once, come what may."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow.parquet as pq
import pytest
import requests
from brokers_kit import free_port, nats_mqtt

from ingestion.declarations import SourceDeclaration, StreamTable, TableDeclaration
from ingestion.extract import extract_source
from ingestion.lander.landers import Ended, land, works_of
from ingestion.lander.mqtt import MqttConsumer
from ingestion.landing import landed_files
from ingestion.load import load
from ingestion.settings import LandSettings, LimitsSettings, Settings

KWH = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}
SCHEMA = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "meter", "type": "string"},
        {"name": "n", "type": "long"},
        {"name": "kwh", "type": KWH},
    ],
}


def source_of(**tables: dict[str, Any]) -> SourceDeclaration:
    declared = tuple(
        TableDeclaration(
            name,
            f"source.x.plant.{name}",
            StreamTable.model_validate({"stream": {"flush": {"seconds": 0.2}, **stream}}),
        )
        for name, stream in tables.items()
    )
    return SourceDeclaration("plant", "raw_plant", "stream", "plant", "plant.yml", declared)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "reading.avsc").write_text(json.dumps(SCHEMA))
    limits, processes = LimitsSettings(min_free="0"), LandSettings(processes=1)
    return Settings(tmp_path, tmp_path / "data", limits=limits, land=processes)


@contextmanager
def landing(source: SourceDeclaration, settings: Settings) -> Iterator[None]:
    stop, ended = threading.Event(), list[Ended]()
    works = works_of([source])
    thread = threading.Thread(target=lambda: ended.extend(land(works, settings, stop)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert [one.error for one in ended] == [None] * len(works)


def landed(settings: Settings, table: str) -> list[dict[str, Any]]:
    files = landed_files(settings, "plant", table)
    rows = [row for file in files for row in pq.read_table(file.path).to_pylist()]
    return [json.loads(row["payload"]) for row in rows if row["payload"] is not None]


def soon(is_so: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.05)


def avro(first: int, last: int) -> list[bytes]:
    from decimal import Decimal

    messages = []
    for n in range(first, last + 1):
        out = io.BytesIO()
        record = {"meter": "m7", "n": n, "kwh": Decimal(n) / 1000}
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), record)
        messages.append(out.getvalue())
    return messages


def publish(port: int, messages: list[bytes]) -> None:
    from paho.mqtt import publish as mqtt

    mqtt.multiple(
        [{"topic": "plant/7", "payload": m, "qos": 1} for m in messages], "127.0.0.1", port
    )


def test_avro_over_mqtt_is_landed_once_though_it_comes_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(
        readings={
            "from": "plant/#",
            "format": "avro",
            "avro_schema": "reading.avsc",
            "identity": ["meter", "n"],
        }
    )
    (tmp_path / "broker").mkdir()
    broker = nats_mqtt(tmp_path / "broker")
    broker.start()
    monkeypatch.setenv("CONNECTIONS__PLANT__URL", f"mqtt://127.0.0.1:{broker.port}")
    try:
        with monkeypatch.context() as context:
            # Durable, but never confirmed: as if it died in between each time.
            context.setattr(MqttConsumer, "landed", lambda *_: None)
            with landing(source, settings):
                soon(lambda: (settings.state_dir / "lander" / "plant.readings.json").exists())
                time.sleep(0.3)
                publish(broker.port, avro(1, 30))
                soon(lambda: len(landed(settings, "readings")) == 30)
        # What a meter sends twice is the same reading; what is no Avro is kept.
        publish(broker.port, [*avro(25, 40), b"no Avro"])
        result = extract_source(source, settings)
        assert result.error is None
        rows = landed(settings, "readings")
        assert sorted(row["n"] for row in rows) == list(range(1, 41))
        load([source], settings)
        with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
            total = connection.execute(
                "select count(*), sum(kwh::decimal(9, 3))::varchar from raw_plant.readings"
            ).fetchone()
            rejected = connection.execute("select reason from ledger.rejected_records").fetchall()
        assert total == (40, "0.820")
        assert len(rejected) == 1
    finally:
        broker.kill()


def test_posts_to_two_tables_of_one_address_and_the_same_post_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Settings(
        settings.project_dir,
        settings.data_dir,
        limits=settings.limits,
        land=LandSettings(processes=2),
    )
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("CONNECTIONS__PLANT__URL", url)
    monkeypatch.setenv("CONNECTIONS__PLANT__TOKEN", "let-me-in")
    source = source_of(readings={"from": "readings"}, alarms={"from": "alarms"})

    def post(path: str, body: str, key: str) -> bool:
        headers = {
            "Authorization": "Bearer let-me-in",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        try:
            answer = requests.post(f"{url}/{path}", body, headers=headers, timeout=20)
        except requests.ConnectionError:
            return False
        return answer.status_code == 202

    with landing(source, two):
        soon(lambda: post("readings", '[{"n": 1}, {"n": 2}]', "one"))
        assert post("alarms", '{"n": 1}', "one")
        assert post("readings", '[{"n": 1}, {"n": 2}]', "one")
    with landing(source, two):
        soon(lambda: post("readings", '[{"n": 1}, {"n": 2}]', "one"))
        assert post("readings", '{"n": 1}', "two")
    assert landed(settings, "readings") == [{"n": 1}, {"n": 2}, {"n": 1}]
    assert landed(settings, "alarms") == [{"n": 1}]
    # A run lands nothing of it, and waits for nobody.
    assert extract_source(source, settings).error is None
