"""HTTP: events that senders POST to a path of ours, answered only once they are durable.

sender -> `http_server` -> mailbox -> `poll` -> file durable -> `landed` -> 202

HTTP has no places: messages are numbered as they come. A sender that got no answer sends again; it
says so by an `Idempotency-Key` that is the same each time, or the declared identity tells. Left
out: fetching from somebody else's server, which is `kind: rest`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import ConnectionMissing, IngestionError
from ingestion.failpoints import failpoint
from ingestion.lander.addresses import address, whole
from ingestion.lander.consumer import Checkpoint, Consumer, Message
from ingestion.lander.http_server import Limits, Login, Mailbox, dismiss, serve

PORTS = {"http": 80, "https": 443}
_CONNECTIONS = 1000


class HttpConsumer(Consumer):
    """Takes the POSTs of one table.

    Args:
        declaration: The source.
        table: Its table: `from` is the path.
        connection: The address to listen on; `token`, `hmac_key`, `hmac_header`, `anonymous`,
            `max_bytes`, `max_waiting`, `max_connections`, `landing_seconds`, `cert_file` and
            `key_file` are its options.
    """

    redelivers = True
    keys_identify = True

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, connection: Connection
    ) -> None:
        self._source, self._table = declaration.name, table.name
        self._endpoint = table.stream
        self._address = address(connection, PORTS)
        self._path = "/" + "/".join(
            part for part in f"{self._address.path}/{table.stream.origin}".split("/") if part
        )
        self._connection = connection
        self._login = self._told_login()
        self._limits = Limits(
            body=whole(connection, "max_bytes", Limits.body),
            waiting=whole(connection, "max_waiting", Limits.waiting),
            landing_seconds=whole(connection, "landing_seconds", Limits.landing_seconds),
        )
        self._connections = whole(connection, "max_connections", _CONNECTIONS)
        self._box: Mailbox | None = None

    def _told_login(self) -> Login:
        options = self._connection.options
        token, key = str(options.get("token") or ""), str(options.get("hmac_key") or "")
        anonymous = str(options.get("anonymous", "")).lower() == "true"
        if not (token or key or anonymous):
            raise ConnectionMissing(
                f"the connection {self._connection.name!r} says not who may send: it has neither "
                "'token' nor 'hmac_key'",
                source=self._source,
                table=self._table,
                key=f"connections.{self._connection.name}",
                hint="Set one of them in .dlt/secrets.toml, or `anonymous = true` if everybody "
                "who reaches the address may send.",
            )
        return Login(token, key, str(options.get("hmac_header") or Login.hmac_header))

    def open(self, checkpoint: Checkpoint) -> None:
        """Listens, or lets the server that listens there take this path as well."""
        box = Mailbox(self._path, self._endpoint, self._login, self._limits, checkpoint.get("", 0))
        options, place = self._connection.options, self._address
        certificate = None
        if place.scheme == "https":
            key_file = options.get("key_file")
            certificate = (str(self._connection.option("cert_file")), key_file or None)
        try:
            serve(box, place.host, place.port, certificate, self._connections)
        except IngestionError as error:
            error.source, error.table = self._source, self._table
            raise
        self._box = box

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """What has been sent; waits for the first."""
        assert self._box is not None
        return self._box.take(limit, seconds)

    def full(self) -> bool:
        """Whether senders will be sent away soon."""
        return self._box is not None and self._box.unconfirmed >= self._limits.waiting // 2

    def landed(self, checkpoint: Checkpoint) -> None:
        """Answers the senders of everything up to there."""
        failpoint("http.before_answering")
        if self._box is not None:
            self._box.durable(checkpoint.get("", 0))

    def end(self) -> Checkpoint | None:
        """Nothing waits to be read: a sender that finds nobody keeps what it has."""
        return None

    def close(self) -> None:
        """Takes no more requests; those that wait are told to come again."""
        box, self._box = self._box, None
        if box is not None:
            dismiss(box, self._address.host, self._address.port)
