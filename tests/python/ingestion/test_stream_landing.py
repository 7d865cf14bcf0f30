"""Landing of streams: exactly once through every kind of restart, and JetStream as it really is."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from nats_kit import NatsServer, as_json

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, StreamTable, TableDeclaration
from ingestion.errors import BadInput, LockHeld, SourceFailed, SourceUnreachable
from ingestion.lander.consumer import Checkpoint, Consumer, Gap, Message
from ingestion.lander.decoding import decode_json
from ingestion.lander.jetstream import JetStreamConsumer
from ingestion.lander.landers import Work, land, works_of
from ingestion.lander.replaying import replay_stream
from ingestion.lander.states import lander_states
from ingestion.lander.stream import StreamLander, as_table
from ingestion.lander.written import StreamFolder, next_load_id, read_gaps
from ingestion.landing import landed_files
from ingestion.settings import LandSettings, LimitsSettings, Settings


def table_of(name: str = "bids", **stream: Any) -> TableDeclaration:
    ingest = StreamTable.model_validate({"stream": {"from": "BIDS", **stream}})
    return TableDeclaration(name, f"source.x.auction.{name}", ingest)


def source_of(*tables: TableDeclaration) -> SourceDeclaration:
    return SourceDeclaration("auction", "raw_auction", "stream", "auction", "a.yml", tables)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path / "data", limits=LimitsSettings(min_free="0"))


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


def landed_rows(settings: Settings, table: str = "bids") -> list[dict[str, Any]]:
    files = landed_files(settings, "auction", table)
    return [row for file in files for row in pq.read_table(file.path).to_pylist()]


def landed_ids(settings: Settings, table: str = "bids") -> list[int]:
    return [json.loads(row["payload"])["id"] for row in landed_rows(settings, table)]


# -- with a consumer of our own ----------------------------------------------------------------


class Ledge(Consumer):
    """A stream in memory, which may break off, repeat itself, or lose messages."""

    width = 5

    def __init__(self, messages: Sequence[Message], breaks_at: Sequence[int] = ()) -> None:
        self.messages = list(messages)
        self.breaks_at = list(breaks_at)
        self.opened: list[Checkpoint] = []
        self.confirmed: list[dict[str, int]] = []
        self.missing: list[Gap] = []
        self.given = 0
        self.repeats = 0

    def open(self, checkpoint: Checkpoint) -> None:
        self.opened.append(dict(checkpoint))
        behind = [m for m in self.messages if m.sequence > checkpoint.get(m.shard, 0)]
        first = len(self.messages) - len(behind)
        self.at = max(first - self.repeats, 0)

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        if self.breaks_at and self.given >= self.breaks_at[0]:
            self.breaks_at.pop(0)
            raise SourceUnreachable("the line broke", may_pass=True)
        found = self.messages[self.at : self.at + 3]
        self.at += len(found)
        self.given += len(found)
        if not found:
            time.sleep(min(seconds, 0.01))
        return found

    def landed(self, checkpoint: Checkpoint) -> None:
        self.confirmed.append(dict(checkpoint))

    def end(self) -> Checkpoint | None:
        ends: dict[str, int] = {}
        for message in self.messages:
            ends[message.shard] = message.sequence
        return ends

    def gaps(self) -> Sequence[Gap]:
        found, self.missing = self.missing, []
        return found

    def close(self) -> None:
        return


def bids(number: int, shard: str = "", first: int = 1) -> list[Message]:
    return [Message(n, as_json(id=n), "bids.a", shard=shard) for n in range(first, first + number)]


def lander(settings: Settings, consumer: Consumer, **stream: Any) -> StreamLander:
    endpoint = table_of(**stream).stream
    return StreamLander(settings, "auction", "bids", endpoint, consumer, decode_json)


def test_files_are_named_by_their_places_and_hold_the_checkpoint(settings: Settings) -> None:
    done = lander(settings, Ledge(bids(7)), flush={"rows": 3}).catch_up()
    assert (done.rows, done.files, done.checkpoint) == (7, 3, {"": 7})
    files = landed_files(settings, "auction", "bids")
    names = [file.path.name.split(".")[2] for file in files]
    assert names == ["00001-00003", "00004-00006", "00007-00007"]
    assert [file.load_id for file in files] == sorted({file.load_id for file in files})
    assert StreamFolder(settings, "auction", "bids").newest().checkpoint == {"": 7}
    row = landed_rows(settings)[0]
    assert (row["_sequence"], row["_topic"], row["payload"]) == ("00001", "bids.a", '{"id": 1}')


def test_a_second_catch_up_lands_what_is_new(settings: Settings) -> None:
    ledge = Ledge(bids(4))
    lander(settings, ledge).catch_up()
    assert lander(settings, ledge).catch_up().rows == 0
    ledge.messages += bids(2, first=5)
    assert lander(settings, ledge).catch_up().rows == 2
    assert landed_ids(settings) == [1, 2, 3, 4, 5, 6]


def test_what_comes_again_is_passed_over_and_confirmed(settings: Settings) -> None:
    ledge = Ledge(bids(6))
    lander(settings, ledge).catch_up()
    ledge.confirmed.clear()
    ledge.repeats = 5
    ledge.messages += bids(1, first=7)
    done = lander(settings, ledge).catch_up()
    assert landed_ids(settings) == [1, 2, 3, 4, 5, 6, 7]
    assert done.repeated == 5
    assert ledge.confirmed[0] == {"": 6}


def test_shards_go_on_each_by_itself(settings: Settings) -> None:
    both = [m for pair in zip(bids(4, "a"), bids(4, "b"), strict=True) for m in pair]
    lander(settings, Ledge(both[:5])).catch_up()
    ledge = Ledge(both)
    ledge.repeats = 9
    lander(settings, ledge).catch_up()
    assert ledge.opened == [{"a": 3, "b": 2}]
    places = [(row["_shard"], int(row["_sequence"])) for row in landed_rows(settings)]
    assert sorted(places) == [(s, n) for s in "ab" for n in range(1, 5)]


def test_a_line_that_breaks_is_made_anew_behind_what_is_landed(settings: Settings) -> None:
    ledge = Ledge(bids(30), breaks_at=[7, 16])
    one = lander(settings, ledge, flush={"seconds": 0.05})
    worker = threading.Thread(target=one.run)
    worker.start()
    deadline = time.monotonic() + 20
    while one.progress.rows < 30 and time.monotonic() < deadline:
        time.sleep(0.02)
    one.stop()
    worker.join(10)
    assert landed_ids(settings) == list(range(1, 31))
    assert one.progress.reconnects == 2
    assert len(ledge.opened) == 3
    assert one.progress.state == "ended"


def test_a_refused_login_is_not_tried_again(settings: Settings) -> None:
    class Closed(Ledge):
        def open(self, checkpoint: Checkpoint) -> None:
            raise SourceUnreachable("it refuses the login")

    with pytest.raises(SourceUnreachable, match="refuses"):
        lander(settings, Closed([])).run()


def test_a_gap_is_told_and_noted_beside_what_follows(settings: Settings) -> None:
    ledge = Ledge(bids(2, first=9))
    ledge.missing = [Gap("", 1, 8, "they have expired")]
    done = lander(settings, ledge).catch_up()
    assert done.gaps == [Gap("", 1, 8, "they have expired")]
    [file] = landed_files(settings, "auction", "bids")
    assert read_gaps(file.path) == done.gaps


def test_what_a_killed_lander_was_writing_is_removed(settings: Settings) -> None:
    lander(settings, Ledge(bids(2))).catch_up()
    [file] = landed_files(settings, "auction", "bids")
    half = file.path.with_name(".1.000000.landing.tmp")
    half.write_bytes(b"PAR1")
    lander(settings, Ledge(bids(3))).catch_up()
    assert not half.exists()
    assert landed_ids(settings) == [1, 2, 3]


@pytest.mark.parametrize("what", ["restored", "removed"])
def test_a_lander_ends_when_landing_is_changed_under_it(settings: Settings, what: str) -> None:
    ledge = Ledge(bids(2))
    one = lander(settings, ledge, flush={"seconds": 0.01})
    failed: list[BadInput] = []

    def run() -> None:
        try:
            one.run()
        except BadInput as error:
            failed.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    _await(lambda: one.progress.rows == 2)
    if what == "restored":
        settings.restore_mark.write_text("{}")
    else:
        landed_files(settings, "auction", "bids")[0].path.unlink()
    ledge.messages += bids(1, first=3)
    worker.join(20)
    assert what in str(failed[0])
    settings.restore_mark.unlink(missing_ok=True)
    lander(settings, ledge).catch_up()
    assert landed_ids(settings) == [1, 2, 3]


def test_two_landers_of_one_stream_are_one_too_many(settings: Settings) -> None:
    with (
        StreamFolder(settings, "auction", "bids").lock(),
        pytest.raises(LockHeld, match="at work"),
    ):
        lander(settings, Ledge([])).catch_up()


def test_a_damaged_newest_file_is_told_and_nothing_is_landed(settings: Settings) -> None:
    lander(settings, Ledge(bids(2))).catch_up()
    [file] = landed_files(settings, "auction", "bids")
    file.path.write_bytes(file.path.read_bytes()[:40])
    with pytest.raises(BadInput, match="cannot be read"):
        lander(settings, Ledge(bids(3))).catch_up()


def test_load_ids_grow_though_the_clock_goes_back() -> None:
    assert next_load_id("") < next_load_id("9999999998.999999") == "9999999999.000000"
    assert next_load_id("9999999999.000001") == "9999999999.000002"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"closed", "no valid JSON"),
        (b"[1, 2]", "an array, not an object"),
        (b'"x"', "a string, not an object"),
        (b"", "no valid JSON"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b'{"a": 1} {"a": 2}', "more than one value"),
    ],
)
def test_what_cannot_be_decoded_is_landed_as_it_is(data: bytes, fault: str) -> None:
    content, faults = as_table([*bids(1), Message(2, data)], decode_json, 5)
    good, bad = content.to_pylist()
    assert faults == 1
    assert (good["fault"], good["original"]) == (None, None)
    assert (bad["payload"], bad["original"]) == (None, data)
    assert fault in bad["fault"]


def test_numbers_that_no_machine_counts_are_kept(settings: Settings) -> None:
    data = b'{"id": 1, "price": 1e400, "exact": 0.10}'
    content, faults = as_table([Message(1, data)], decode_json, 5)
    assert faults == 0
    assert content.to_pylist()[0]["payload"] == data.decode()


# -- JetStream ---------------------------------------------------------------------------------


class Auction:
    """A stream of its own on a server, and its landers."""

    def __init__(self, settings: Settings, server: NatsServer, stream: str, **config: Any) -> None:
        self.settings, self.server, self.stream = settings, server, stream
        self.subject = f"{stream.lower()}.lots"
        if config.pop("make", True):
            server.make_stream(stream, [f"{stream.lower()}.>"], **config)

    def send(self, first: int, number: int, subject: str = "") -> None:
        messages = [(subject or self.subject, as_json(id=first + n)) for n in range(number)]
        self.server.send(messages, self.stream)

    def lander(self, **stream: Any) -> StreamLander:
        declared = table_of(**{"from": self.stream, **stream})
        connection = Connection("auction", self.server.url)
        consumer = JetStreamConsumer(source_of(declared), declared, connection)
        return StreamLander(
            self.settings, "auction", "bids", declared.stream, consumer, decode_json
        )

    def do(self, work: Any) -> Any:
        return self.server.do(work)

    @property
    def shard(self) -> str:
        """When the stream was made."""

        async def created(js: Any) -> str:
            made = (await js.stream_info(self.stream)).created
            return str(made.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

        return str(self.do(created))


def test_jetstream_lands_by_sequence_and_goes_on(
    settings: Settings, shared_server: NatsServer
) -> None:
    auction = Auction(settings, shared_server, "ONE")
    auction.send(1, 1200)
    assert auction.lander(flush={"rows": 500}).catch_up().checkpoint == {auction.shard: 1200}
    auction.send(1201, 3)
    assert auction.lander().catch_up().rows == 3
    assert landed_ids(settings) == list(range(1, 1204))
    row = landed_rows(settings)[-1]
    assert row["_sequence"] == "00000000000000001203"
    assert abs(row["_published_at"].timestamp() - time.time()) < 60


def test_jetstream_keeps_headers_and_filters_subjects(
    settings: Settings, shared_server: NatsServer
) -> None:
    auction = Auction(settings, shared_server, "TWO")

    async def publish(js: Any) -> None:
        for n, subject in enumerate(("two.a", "two.b", "two.c", "two.a"), start=1):
            await js.publish(subject, as_json(id=n), headers={"Lot": str(n)})

    auction.do(publish)
    done = auction.lander(subjects=["two.a", "two.c"]).catch_up()
    assert landed_ids(settings) == [1, 3, 4]
    assert done.gaps == []
    assert [json.loads(row["_headers"])["Lot"] for row in landed_rows(settings)] == ["1", "3", "4"]
    assert auction.lander(subjects=["two.a", "two.c"]).catch_up().rows == 0


def test_jetstream_begins_at_the_end_and_keeps_that_place(
    settings: Settings, shared_server: NatsServer
) -> None:
    auction = Auction(settings, shared_server, "THREE")
    auction.send(1, 5)
    assert auction.lander(start="latest").catch_up().rows == 0
    auction.send(6, 2)
    assert auction.lander(start="latest").catch_up().rows == 2
    assert landed_ids(settings) == [6, 7]


def test_jetstream_begins_at_a_time(settings: Settings, shared_server: NatsServer) -> None:
    auction = Auction(settings, shared_server, "FOUR")
    auction.send(1, 2)
    time.sleep(1.1)
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    auction.send(3, 2)
    auction.lander(start=start).catch_up()
    assert landed_ids(settings) == [3, 4]


def test_messages_that_expired_before_they_were_landed_are_a_gap(
    settings: Settings, shared_server: NatsServer
) -> None:
    auction = Auction(settings, shared_server, "FIVE", max_msgs=10)
    auction.send(1, 5)
    auction.lander().catch_up()
    auction.server.send([(auction.subject, as_json(id=n)) for n in range(6, 31)])
    done = auction.lander().catch_up()
    assert [(gap.first, gap.last) for gap in done.gaps] == [(6, 20)]
    assert landed_ids(settings) == [1, 2, 3, 4, 5, *range(21, 31)]


def test_a_stream_that_was_made_anew_is_landed_from_its_first_message(
    settings: Settings, shared_server: NatsServer
) -> None:
    auction = Auction(settings, shared_server, "ANEW")
    auction.send(1, 5)
    auction.lander().catch_up()

    async def make_anew(js: Any) -> None:
        await js.delete_stream("ANEW")
        await js.add_stream(name="ANEW", subjects=["anew.>"])

    auction.do(make_anew)
    auction.send(101, 9)
    auction.lander().catch_up()
    assert landed_ids(settings) == [1, 2, 3, 4, 5, *range(101, 110)]
    newest = StreamFolder(settings, "auction", "bids").newest()
    assert sorted(newest.checkpoint.values()) == [5, 9]
    assert auction.lander().catch_up().rows == 0


def test_a_stream_that_lost_its_end_is_told(settings: Settings, shared_server: NatsServer) -> None:
    auction = Auction(settings, shared_server, "BACK")
    auction.send(1, 3)
    auction.lander().catch_up()
    content, _ = as_table(bids(1, auction.shard, first=8), decode_json, 20)
    folder = StreamFolder(settings, "auction", "bids")
    folder.write(content, (8, 8), {auction.shard: 8}, [], folder.newest().load_id)
    with pytest.raises(SourceFailed, match="ends at 3, but 8 was landed"):
        auction.lander().catch_up()


@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_a_stream_that_waits_for_confirmation_gets_it_once_a_message_is_landed(
    settings: Settings, shared_server: NatsServer, retention: str
) -> None:
    auction = Auction(settings, shared_server, retention.upper(), retention=retention)
    assert auction.lander().catch_up().rows == 0
    if retention == "interest":
        # Somebody has to be interested before the first message comes.
        one = auction.lander()
        one._consumer.open({})
        one._consumer.close()
    auction.send(1, 50)
    stuck = auction.lander(flush={"rows": 20})
    stuck._consumer.landed = lambda checkpoint: None  # type: ignore[method-assign]  # it is killed before
    stuck.catch_up()
    assert auction.server.messages(auction.stream) == 50
    auction.send(51, 10)
    done = auction.lander().catch_up()
    assert landed_ids(settings) == list(range(1, 61))
    assert done.rows == 10
    deadline = time.monotonic() + 5
    while auction.server.messages(auction.stream) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert auction.server.messages(auction.stream) == 0


def test_a_stream_that_is_not_there_is_told(settings: Settings, shared_server: NatsServer) -> None:
    auction = Auction(settings, shared_server, "NOWHERE", make=False)
    with pytest.raises(SourceFailed, match="no stream 'NOWHERE'"):
        auction.lander().catch_up()


def test_a_wrong_password_is_told_and_not_shown(settings: Settings, tmp_path: Path) -> None:
    config = 'authorization: {user: "reader", password: "s3cret"}'
    with NatsServer(tmp_path / "nats", config) as server:
        server.make_stream("S", ["s.>"], login={"user": "reader", "password": "s3cret"})
        declared = table_of(**{"from": "S"})
        url = server.url.replace("://", "://reader:{}@")
        for password, rows in (("wr0ng", None), ("s3cret", 0)):
            connection = Connection("auction", url.format(password))
            consumer = JetStreamConsumer(source_of(declared), declared, connection)
            one = StreamLander(settings, "auction", "bids", declared.stream, consumer, decode_json)
            if rows is None:
                with pytest.raises(SourceUnreachable, match="refuses the login") as caught:
                    one.catch_up()
                assert "wr0ng" not in str(caught.value)
                assert not caught.value.may_pass
            else:
                assert one.catch_up().rows == rows


def test_a_consumer_that_somebody_deletes_is_made_anew(
    settings: Settings, shared_server: NatsServer
) -> None:
    auction = Auction(settings, shared_server, "SIX")
    auction.send(1, 10)
    one = auction.lander(flush={"seconds": 0.1})
    worker = threading.Thread(target=one.run)
    worker.start()
    try:
        _await(lambda: one.progress.rows == 10)

        async def delete(js: Any) -> None:
            for info in await js.consumers_info("SIX"):
                await js.delete_consumer("SIX", info.name)

        auction.do(delete)
        auction.send(11, 10)
        _await(lambda: one.progress.rows == 20)
    finally:
        one.stop()
        worker.join(20)
    assert landed_ids(settings) == list(range(1, 21))


def test_replay_lands_only_what_landing_lacks(
    settings: Settings, shared_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__AUCTION__URL", shared_server.url)
    auction = Auction(settings, shared_server, "SEVEN")
    for first in (1, 4, 7):
        auction.send(first, 3)
        auction.lander().catch_up()
    landed_files(settings, "auction", "bids")[1].path.unlink()
    [work] = works_of([source_of(table_of(**{"from": "SEVEN"}))])
    assert replay_stream(work, settings, "6") == 1
    assert replay_stream(work, settings, "2020-01-01T00:00:00Z") == 2
    assert replay_stream(work, settings, "1") == 0
    assert sorted(landed_ids(settings)) == list(range(1, 10))
    assert StreamFolder(settings, "auction", "bids").newest().checkpoint == {auction.shard: 9}
    with pytest.raises(BadInput, match="neither a sequence number nor a time"):
        replay_stream(work, settings, "yesterday")


# -- landers side by side ----------------------------------------------------------------------


def test_landers_in_two_processes_survive_the_death_of_one_and_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        tmp_path,
        tmp_path / "data",
        limits=LimitsSettings(min_free="0"),
        land=LandSettings(processes=2),
    )
    with NatsServer(tmp_path / "nats") as server:
        monkeypatch.setenv("CONNECTIONS__AUCTION__URL", server.url)
        server.make_stream("A", ["a.>"])
        server.make_stream("B", ["b.>"])
        tables = [
            table_of(name, **{"from": name[-1].upper(), "flush": {"seconds": 0.1}})
            for name in ("lots_a", "lots_b")
        ]
        works = works_of([source_of(*tables)])
        stop = threading.Event()
        ended: list[Any] = []
        worker = threading.Thread(target=lambda: ended.extend(land(works, settings, stop)))
        worker.start()
        try:
            send_both(server, 1)
            _await(lambda: both_landed(settings) == [100, 100])
            os.kill(lander_states(settings)[0].told["pid"], signal.SIGKILL)
            server.kill()
            server.start()
            send_both(server, 101)
            _await(lambda: both_landed(settings) == [200, 200])
        finally:
            stop.set()
            worker.join(60)
    assert [(one.name, one.error) for one in ended] == [
        ("auction.lots_a", None),
        ("auction.lots_b", None),
    ] or sorted(one.name for one in ended) == ["auction.lots_a", "auction.lots_b"]
    assert landed_ids(settings, "lots_a") == list(range(1, 201))
    assert landed_ids(settings, "lots_b") == list(range(1, 201))
    assert {state.state for state in lander_states(settings)} == {"ended"}


def send_both(server: NatsServer, first: int) -> None:
    for stream in "AB":
        messages = [(f"{stream.lower()}.x", as_json(id=first + n)) for n in range(100)]
        server.send(messages, stream)


def both_landed(settings: Settings) -> list[int]:
    return [len(landed_rows(settings, name)) for name in ("lots_a", "lots_b")]


def test_a_lander_that_cannot_go_on_leaves_the_others_alone(
    settings: Settings, shared_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__AUCTION__URL", shared_server.url)
    auction = Auction(settings, shared_server, "EIGHT")
    auction.send(1, 4)
    good = source_of(table_of(**{"from": "EIGHT", "flush": {"seconds": 0.1}}))
    lost = SourceDeclaration("radio", "raw_radio", "stream", "radio", "r.yml", (table_of("waves"),))
    stop = threading.Event()
    works: list[Work] = works_of([good, lost])
    settings = Settings(
        settings.project_dir,
        settings.data_dir,
        limits=settings.limits,
        land=LandSettings(processes=1),
    )
    ended: list[Any] = []
    worker = threading.Thread(target=lambda: ended.extend(land(works, settings, stop)))
    worker.start()
    try:
        _await(lambda: len(landed_files(settings, "auction", "bids")) > 0)
    finally:
        stop.set()
        worker.join(20)
    errors = {one.name: one.error for one in ended}
    assert errors["auction.bids"] is None
    assert "has no 'url'" in str(errors["radio.waves"])
    assert landed_ids(settings) == [1, 2, 3, 4]


def _await(reached: Any, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)
