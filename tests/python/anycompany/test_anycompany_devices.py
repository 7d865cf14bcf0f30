"""Devices and card payments: the truth equals a recount of the messages, each is sent once."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import warm

from anycompany import broker, field_truth, streaming
from anycompany.gateway import Gateway, Note
from anycompany.state import Home, State
from anycompany.systems import field_live
from anycompany.systems.messages import Messages
from anycompany.world import Settings, World

DAY, LATER = 545, 560
SERVE = """
import sys, time
from pathlib import Path
from anycompany import broker, gateway
from anycompany.state import Home
gateway.CHUNK = 150
home = Home(Path(sys.argv[1]))
with broker.running(home.broker, home.token()) as addresses:
    gateway.Gateway(home, addresses).start()
    time.sleep(600)
"""
RECOUNT = """
create macro told(payload, field) as
    case when json_valid(payload) then json_extract_string(payload, '$.' || field) end;
create macro moment(text) as try_cast(text as timestamptz) at time zone 'UTC';

create table measured as
select distinct on (device_id, sequence) *
from (
    select
        told(payload, 'device_id') as device_id,
        cast(told(payload, 'sequence') as bigint) as sequence,
        moment(told(payload, 'device_time'))
        - to_seconds(cast(told(payload, 'clock_offset_s') as bigint)) as measured_at,
        told(payload, 'firmware') as firmware,
        try_cast(told(payload, 'temperature_c') as decimal(6, 1)) as degrees,
        cast(told(payload, 'battery_pct') as integer) as battery,
        told(payload, 'error_code') is not null as failed
    from telemetry
    where json_valid(payload)
)
where measured_at < '2028-01-01' and firmware != '' and degrees between -40 and 150;

create table told_status as
select distinct
    told(payload, 'device_id') as device_id,
    told(payload, 'status') as status,
    moment(told(payload, 'changed_at')) as changed_at
from status
where json_valid(payload) and told(payload, 'status') in ('online', 'offline');

create table paid as
select distinct on (id) *
from (
    select
        told(payload, 'transaction_id') as id,
        told(payload, 'card_token') as card,
        moment(told(payload, 'occurred_at')) as paid_at,
        cast(told(payload, 'amount_usd') as decimal(14, 2)) as usd,
        radians(cast(told(payload, 'latitude') as double)) as north,
        radians(cast(told(payload, 'longitude') as double)) as east,
        told(payload, 'device_fingerprint') as device,
        told(payload, 'entry_mode') as entry
    from transactions
    where
        json_valid(payload)
        and told(payload, 'currency') != ''
        and try_cast(told(payload, 'amount') as decimal(14, 2)) is not null
        and moment(told(payload, 'occurred_at')) < '2028-01-01'
);

create view alerts as
with earlier as (
    select this.*, other.paid_at as other_at, other.usd as other_usd, other.device as other_device,
        other.id as other_id
    from paid as this
    left join paid as other
        on this.card = other.card and (other.paid_at, other.id) < (this.paid_at, this.id)
),
known as (
    select id, any_value(usd) as usd, any_value(entry) as entry, count(other_id) as number,
        coalesce(sum(other_usd), 0) as spent,
        count(*) filter (other_at >= paid_at - interval 10 minute) as lately,
        count(*) filter (other_device = device) as same_device
    from earlier
    group by id
),
journeys as (
    select this.id, 12742 * asin(sqrt(
        sin((this.north - former.north) / 2) ** 2
        + cos(this.north) * cos(former.north) * sin((this.east - former.east) / 2) ** 2
    )) as km, epoch(this.paid_at - former.paid_at) as seconds
    from (select * from paid where entry in ('chip', 'contactless')) as this
    inner join lateral (
        select * from paid as candidate
        where candidate.card = this.card and candidate.entry in ('chip', 'contactless')
            and (candidate.paid_at, candidate.id) < (this.paid_at, this.id)
        order by candidate.paid_at desc, candidate.id desc
        limit 1
    ) as former on true
)
select id as transaction_id, 'velocity' as rule from known where lately >= 4
union all
select id, 'amount' from known where number >= 5 and usd * number >= 8 * spent
union all
select id, 'new_device' from known
where number >= 5 and entry = 'ecommerce' and usd >= 200 and same_device = 0
union all
select id, 'distance' from journeys where km >= 500 and km / 900 >= seconds / 3600;
"""
RECOUNTED = {
    "device_hours": """
        select device_id, date_trunc('hour', measured_at) as hour_start, count(*) as message_count,
            count(*) filter (failed) as error_count,
            cast(sum(degrees) * 10 as bigint) as temperature_sum_tenths,
            cast(max(degrees) * 10 as bigint) as temperature_max_tenths,
            min(battery) as battery_min_pct
        from measured group by all
    """,
    "device_spells": """
        select device_id, status as device_status, changed_at as started_at,
            lead(changed_at) over (partition by device_id order by changed_at) as ended_at
        from (
            select * from told_status
            qualify status is distinct from lag(status) over (
                partition by device_id order by changed_at
            )
        )
    """,
    "card_alerts": "select * from alerts",
}


def streams(world: World) -> dict[str, Messages]:
    """All messages of a world, by table."""
    return {**world.devices.messages, **world.card_payments.messages}


@pytest.mark.parametrize("table", ["telemetry", "status", "transactions", "chargebacks"])
def test_a_later_day_only_adds_messages(made: Callable[..., World], table: str) -> None:
    first, later = streams(made())[table], streams(made(day=LATER))[table]
    assert len(first) <= len(later)
    assert later.payload.to_pylist()[: len(first)] == first.payload.to_pylist()
    assert later.topic.to_pylist()[: len(first)] == first.topic.to_pylist()


def test_the_feed_of_card_payments_only_grows(made: Callable[..., World]) -> None:
    first, later = made().card_payments.feed, made(day=LATER).card_payments.feed
    assert len(later.payloads) > len(first.payloads)
    assert later.payloads[: len(first.payloads)] == first.payloads
    assert set(first.topics) == {"cards.transactions", "cards.chargebacks"}


def test_the_registry_of_a_day_stays(made: Callable[..., World]) -> None:
    first, later = made().devices.outbox.files, made(day=LATER).devices.outbox.files
    assert len(later) == len(first) + LATER - DAY
    for path, (_, make) in first.items():
        assert later[path][1]() == make()


def test_messages_come_out_of_order_and_again(made: Callable[..., World]) -> None:
    telemetry = made(day=LATER).devices.messages["telemetry"]
    assert (telemetry.delivered[1:] >= telemetry.delivered[:-1]).all()
    first = telemetry.row[~telemetry.repeats]
    assert len(set(first.tolist())) == len(first)
    assert telemetry.repeats.sum() > 10


@pytest.mark.parametrize("seed", [1, 7])
def test_the_truth_equals_a_recount_of_the_messages(made: Callable[..., World], seed: int) -> None:
    world = made(day=LATER, seed=seed)
    truth = field_truth.tables(world)
    with duckdb.connect() as db:
        for name, messages in streams(world).items():
            db.register("incoming", pa.table({"payload": messages.payload}))
            db.execute(f"create table {name} as select * from incoming")
        db.execute(RECOUNT)
        for name, query in RECOUNTED.items():
            db.register("truth", truth[name])
            columns = ", ".join(truth[name].column_names)
            assert truth[name].num_rows > 5
            assert (
                db.execute(
                    f"""
                (select 'recount', * from (
                    select {columns} from ({query}) except all select {columns} from truth
                )) union all (select 'truth', * from (
                    select {columns} from truth except all select {columns} from ({query})
                )) limit 5
                """
                ).fetchall()
                == []
            ), name


def test_every_kind_of_defect_is_there(made: Callable[..., World]) -> None:
    world = made(day=LATER)
    kinds = set(world.devices.log.table()["defect"].to_pylist())
    assert kinds == {
        "missing", "outlying", "mistyped", "skewed_clock", "unregistered", "malformed",
        "duplicated",
    }  # fmt: skip
    clean = made(day=LATER, defects=0.0)
    assert clean.devices.log.table().num_rows == 0
    assert clean.card_payments.log.table().num_rows == 0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A company of two days of devices' messages; nothing else of it exists."""
    home = Home(tmp_path)
    home.folder.mkdir()
    home._write(State(Settings(scale=0.01), DAY, None, {}))
    return home


@contextmanager
def subscribed(addresses: broker.Addresses, received: list[bytes]) -> Iterator[None]:
    """Takes the messages of both tables in sessions that the broker keeps."""
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    clients = []
    for table in ("telemetry", "status"):
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"test-{table}", clean_session=False
        )
        client.username_pw_set("anyone", addresses.token)
        client.reconnect_delay_set(1, 1)
        client.on_message = lambda _c, _u, message: received.append(message.payload)
        client.on_connect = lambda c, *_, table=table: c.subscribe(f"devices/+/{table}", 1)
        client.connect("127.0.0.1", addresses.mqtt)
        client.loop_start()
        clients.append(client)
    try:
        yield
    finally:
        for client in clients:
            client.disconnect()
            client.loop_stop()


async def counted(addresses: broker.Addresses) -> int:
    """How many messages the broker has ever taken over MQTT."""
    import nats

    nc = await nats.connect(addresses.nats_url)
    try:
        return int((await nc.jetstream().stream_info("$MQTT_msgs")).state.last_seq)
    finally:
        await nc.close()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def all_messages(home: Home) -> tuple[dict[str, int], list[bytes]]:
    """How many messages each table has, and all of them, sorted."""
    state = home.read()
    assert state is not None
    tables = World(state.settings, state.day).devices.messages
    texts = itertools.chain.from_iterable(told.payload.to_pylist() for told in tables.values())
    counts = {name: len(told) for name, told in tables.items()}
    return counts, sorted(text.encode() for text in texts)


def test_the_gateway_holds_messages_back_until_there_is_a_session(home: Home) -> None:
    counts, messages = all_messages(home)
    note = home.broker / "gateway.json"
    received: list[bytes] = []
    with broker.running(home.broker, home.token()) as addresses:
        gateway = Gateway(home, addresses)
        gateway.start()
        time.sleep(1.0)
        assert not note.exists()
        with subscribed(addresses, received):
            wait_for(lambda: len(received) >= len(messages))
        gateway.stop()
        assert asyncio.run(counted(addresses)) == len(messages)
    assert sorted(received) == messages
    assert Note.read(note).sent == counts


def test_a_killed_gateway_neither_loses_nor_invents(home: Home) -> None:
    counts, messages = all_messages(home)
    note = home.broker / "gateway.json"
    received: list[bytes] = []

    def serve() -> subprocess.Popen[bytes]:
        return warm.Popen(["-c", SERVE, str(home.folder.parent)])

    def sent() -> int:
        return sum(Note.read(note).sent.values())

    process = serve()
    try:
        wait_for(lambda: home.broker.with_name("broker.json").exists())
        with (
            broker.running(home.broker, home.token()) as addresses,
            subscribed(addresses, received),
        ):
            for share in (0.1, 0.4, 0.7):
                wait_for(lambda share=share: sent() >= share * len(messages))
                wait_for(lambda: Note.read(note).sending is not None)
                process.kill()
                process.wait()
                process = serve()
            wait_for(lambda: Note.read(note).sent == counts and not Note.read(note).sending)
            wait_for(lambda: set(received) >= set(messages))
            assert asyncio.run(counted(addresses)) == len(messages)
    finally:
        process.kill()
        process.wait()
    assert set(received) == set(messages)


def test_events_of_now_wait_for_a_session_and_do_not_disturb_the_past(home: Home) -> None:
    counts, messages = all_messages(home)
    home.truth.mkdir()
    received: list[bytes] = []
    with broker.running(home.broker, home.token()) as addresses:
        with pytest.raises(RuntimeError, match="Nobody has subscribed"):
            streaming.stream(home, 50, 1.0, ["devices"], threading.Event())
        gateway = Gateway(home, addresses)
        gateway.start()
        with subscribed(addresses, received):
            wait_for(lambda: (home.broker / "gateway.json").exists())
            sent = streaming.stream(home, 50, 1.0, ["devices"], threading.Event())
            wait_for(lambda: len(received) >= len(messages) + sent.messages)
        gateway.stop()
        assert asyncio.run(counted(addresses)) == len(messages) + sent.messages
    assert Note.read(home.broker / "gateway.json").sent == counts
    live = [json.loads(line) for line in (home.truth / "live_devices.ndjson").open()]
    # one number was taken by each try, so that none is used twice
    assert len({event["event_id"] for event in live}) == sent.events["devices"] > 10


@pytest.mark.parametrize("make", [field_live.measurements, field_live.payments])
def test_events_of_now_are_like_those_of_the_past(
    made: Callable[..., World], make: Callable[..., streaming.Batch]
) -> None:
    batch = make(made(), np.arange(500), 1_795_000_000_000)
    kinds = batch.defect.to_pylist()
    assert {"late", "duplicated", "out_of_order", None} <= set(kinds)
    assert len(set(batch.key.to_pylist())) == 500
    table = "telemetry" if make is field_live.measurements else "transactions"
    fields = list(json.loads(streams(made())[table].payload[0].as_py()))
    for payload, kind in zip(batch.payload.to_pylist(), kinds, strict=True):
        if kind == "malformed":
            with pytest.raises(json.JSONDecodeError):
                json.loads(payload)
        else:
            assert list(json.loads(payload)) == fields


@pytest.mark.parametrize(
    ("counted_before", "counted_now", "sent"), [(10, 10, 5), (10, 13, 8), (10, 0, 5)]
)
def test_a_chunk_that_was_on_its_way_is_settled_by_the_brokers_count(
    counted_before: int, counted_now: int, sent: int
) -> None:
    note = Note({"status": 5}, "status", counted_before)
    note.settle(counted_now)
    assert note == Note({"status": sent}, None, counted_before)
