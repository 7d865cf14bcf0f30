"""Rows of a MySQL or MariaDB server by columns: what comes over the wire becomes Arrow as it is.

statement -> a megabyte of packets -> where each value begins and ends, a column at a time -> Arrow

A row is a packet, and a value in it is a length and the server's own text. Packets are told apart
one by one; the values of a block are found by numpy and copied by Arrow, and none of them becomes
an object of Python. PyMySQL connects, logs in, speaks TLS and sends the statement.

Left out: what a text means; whoever reads it gives it a type and proves that it fits. Reading side
by side: a snapshot belongs to one connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ingestion.errors import SourceFailed
from ingestion.progress import interruption

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    import pymysql

    Places = npt.NDArray[np.int64]

_BLOCK = 2**20
_AT_ONCE = 2**18
# Three bytes of length and one that counts packets.
_HEADER = 4
_SIZE = struct.Struct("<I")
# A packet of this length goes on in the next one.
_MOST = 0xFFFFFF
_NULL, _END, _ERROR = 0xFB, 0xFE, 0xFF
# The first byte of a longer value's length, and how many bytes hold it.
_LONGER = {0xFC: 2, 0xFD: 3, 0xFE: 8}
_LONGEST_END = 8
_LOST, _MALFORMED = 2013, 2027


@contextmanager
def asked(
    connection: pymysql.Connection[Any], statement: str, arguments: Any = None
) -> Iterator[Rows]:
    """Sends a statement; afterwards the connection is free for the next one.

    Args:
        connection: A connection that leaves values as the server's texts.
        statement: A select.
        arguments: Its parameters; None if a per cent sign stands for none.

    Raises:
        pymysql.Error: The server refuses the statement, or the connection breaks.
    """
    rows = Rows(connection, statement, arguments)
    try:
        yield rows
    except BaseException:
        # What failed first is what is told.
        with suppress(Exception):
            rows.drop()
        raise
    rows.drop()


class Rows:
    """What a statement gives, by columns, while the server sends it; made by `asked`.

    Attributes:
        is_bytes: For each column, whether its values are bytes instead of text.
        count: Rows read so far.
        failure: What ended the reading before its end.
    """

    def __init__(self, connection: pymysql.Connection[Any], statement: str, arguments: Any) -> None:
        from pymysql.cursors import SSCursor

        # Its unbuffered result ends with the columns' descriptions: the rows have not been read.
        cursor: Any = SSCursor(connection)
        cursor.execute(statement, arguments)
        self._cursor = cursor
        self._packets = _Packets(connection)
        # PyMySQL notes no encoding for a column of bytes.
        self.is_bytes = [encoding is None for encoding, _ in cursor._result.converters]
        self.count = 0
        self.failure: Exception | None = None

    def schema(self, names: Sequence[str]) -> pa.Schema:
        """The schema of the batches: texts, or bytes, under these names."""
        import pyarrow as pa

        kinds = [pa.large_binary() if is_bytes else pa.large_string() for is_bytes in self.is_bytes]
        return pa.schema(list(zip(names, kinds, strict=True)))

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows as the server sends them, a block at a time.

        Raises:
            pymysql.Error: The server sent an error, nothing more, or what is no row.
            SourceFailed: A text is no UTF-8.
            Interrupted: The run has been interrupted.
        """
        import pyarrow as pa

        schema = self.schema(names)
        try:
            for block, bounds in self._blocks():
                self.count += len(bounds) - 1
                yield pa.record_batch(columns_of(block, bounds, schema), schema=schema)
        except Exception as error:
            self.failure = error
            raise

    def drop(self) -> None:
        """Reads what is left and forgets it: the server sends all of it in any case.

        Raises:
            pymysql.Error: The connection broke meanwhile.
            Interrupted: The run has been interrupted.
        """
        for _ in self._blocks():
            pass

    def _blocks(self) -> Iterator[tuple[bytearray, list[int]]]:
        from pymysql import MySQLError

        result = self._cursor._result
        while result.unbuffered_active:
            try:
                interruption.check()
                block, bounds, is_end = self._packets.block()
            except BaseException as error:
                self._leave(result)
                if not isinstance(error, MySQLError):
                    # Rows are left to read, so nothing else can be asked.
                    self._cursor.connection._force_close()
                raise
            if is_end:
                self._leave(result)
            if len(bounds) > 1:
                yield block, bounds

    def _leave(self, result: Any) -> None:
        """Tells PyMySQL that nothing of its result is left for it to read."""
        result.unbuffered_active = False
        result.connection = None


class _Packets:
    """Cuts what a connection receives into blocks of whole rows.

    Args:
        connection: A connection whose next packet is a row.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._block = bytearray()
        self._have = 0

    def block(self) -> tuple[bytearray, list[int], bool]:
        """Waits for the next rows; for one at least, however long it is.

        Returns:
            Bytes; the places in them where a row's packet begins, and where the last one ends; and
            whether these are the last rows.

        Raises:
            pymysql.Error: The server sent an error, or nothing more.
        """
        rest = memoryview(self._block)[: self._have]
        self._block = bytearray(len(rest) + 2 * _BLOCK)
        self._block[: len(rest)] = rest
        bounds, is_end = [0], False
        while True:
            self._walk(bounds)
            is_end = self._is_end(bounds)
            if is_end or bounds[-1] >= _BLOCK:
                break
            self._receive()
        block = self._block
        # What is left over begins the next block.
        self._block = block[bounds[-1] : self._have] if not is_end else bytearray()
        self._have = len(self._block)
        return block, bounds, is_end

    def _walk(self, bounds: list[int]) -> None:
        """Adds the ends of packets that have come in."""
        size_at, block = _SIZE.unpack_from, self._block
        place, last = bounds[-1], self._have - _HEADER
        while place <= last:
            size = size_at(block, place)[0] & _MOST
            if size == _MOST:
                size = self._joined(place)
                last = self._have - _HEADER
            place += _HEADER + size
            if place - _HEADER > last:
                return
            bounds.append(place)

    def _joined(self, place: int) -> int:
        """Size of a row that took several packets, after the headers between them are gone.

        If it has not come in whole, nothing is changed, and the size says so by being too large.
        """
        heads, end = [], place + _HEADER + _MOST
        while True:
            if end + _HEADER > self._have:
                return self._have
            size = int(_SIZE.unpack_from(self._block, end)[0]) & _MOST
            heads.append(end)
            end += _HEADER + size
            if size < _MOST:
                break
        if end > self._have:
            return self._have
        for head in reversed(heads):
            del self._block[head : head + _HEADER]
        self._have -= _HEADER * len(heads)
        return end - place - _HEADER * (len(heads) + 1)

    def _is_end(self, bounds: list[int]) -> bool:
        """Whether the last packet says that there are no more rows; takes it away then.

        The server says nothing after it, so it is the last of what has come in.
        """
        from pymysql.err import raise_mysql_exception

        if len(bounds) < 2 or bounds[-1] != self._have:
            return False
        begin = bounds[-2] + _HEADER
        mark, size = self._block[begin], bounds[-1] - begin
        if mark == _ERROR:
            raise_mysql_exception(bytes(self._block[begin : bounds[-1]]))
        if mark == _END and size <= _LONGEST_END:
            bounds.pop()
            return True
        return False

    def _receive(self) -> None:
        """Waits for more bytes; how long is the connection's read timeout."""
        from pymysql.err import OperationalError

        if len(self._block) == self._have:
            self._block.extend(bytes(len(self._block)))
        told = "Lost connection to MySQL server during query"
        room = min(_AT_ONCE, len(self._block) - self._have)
        try:
            # What PyMySQL has read ahead comes first, and alone.
            data = self._connection._rfile.read1(room)
        except OSError as error:
            self._connection._force_close()
            raise OperationalError(_LOST, f"{told} ({error})") from error
        if not data:
            self._connection._force_close()
            raise OperationalError(_LOST, told)
        self._block[self._have : self._have + len(data)] = data
        self._have += len(data)


def columns_of(block: bytearray, bounds: Sequence[int], schema: pa.Schema) -> list[pa.Array]:
    """Takes rows apart into columns.

    Args:
        block: Rows of the text protocol, each with its header.
        bounds: Where in it each row begins, and where the last one ends.
        schema: The columns: large strings or large binaries.

    Raises:
        pymysql.InternalError: A row does not end where its last value does.
        SourceFailed: A text is no UTF-8.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    data = np.frombuffer(block, np.uint8)
    edges = np.array(bounds, np.int64)
    count, width = len(bounds) - 1, len(schema)
    places = np.empty((count, width, 2), np.int64)
    nulls = _find(data, edges, places)
    # Each second element of this array is a value; between them is what holds the next length.
    values = pa.Array.from_buffers(
        pa.large_binary(),
        2 * count * width - 1,
        [None, pa.py_buffer(places), pa.py_buffer(block)],
    )
    first = np.arange(count, dtype=np.int64) * (2 * width)
    arrays = []
    for number, field in enumerate(schema):
        wanted = pa.array(first + 2 * number, mask=nulls[number])
        array = pc.take(values, wanted, boundscheck=False)
        try:
            arrays.append(array.cast(field.type))
        except pa.ArrowInvalid:
            raise SourceFailed(
                f"a value of the column {field.name} is no UTF-8, though its type is text",
                hint="Nothing of this table was landed. Mend the value in the database, or leave "
                "the column out by exclude_columns.",
            ) from None
    return arrays


def _find(data: npt.NDArray[np.uint8], edges: Places, places: Places) -> list[Any]:
    """Notes where each value begins and ends.

    Args:
        data: The block.
        edges: Where each row's header begins, and where the last row ends.
        places: Is filled: row, column, begin and end.

    Returns:
        For each column which of its values are NULL; None if none is.
    """
    import numpy as np
    from pymysql.err import InternalError

    place, nulls = edges[:-1] + _HEADER, []
    try:
        for number in range(places.shape[1]):
            begin, end, null = _values_at(data, place)
            places[:, number, 0], places[:, number, 1] = begin, end
            nulls.append(null)
            place = end
        is_whole = np.array_equal(place, edges[1:])
    except IndexError:
        is_whole = False
    if not is_whole:
        raise InternalError(_MALFORMED, "the server sent what is no row of this table")
    return nulls


def _values_at(data: npt.NDArray[np.uint8], place: Places) -> tuple[Places, Places, Any]:
    """Where the values whose lengths stand at some places begin and end, and which are NULL."""
    import numpy as np

    length = data[place].astype(np.int64)
    begin = place + 1
    if length.max() < _NULL:
        return begin, begin + length, None
    mark, null = length.copy(), length == _NULL
    length[null] = 0
    for longer, size in _LONGER.items():
        which = np.flatnonzero(mark == longer)
        if not which.size:
            continue
        at = begin[which]
        length[which] = sum(data[at + byte].astype(np.int64) << 8 * byte for byte in range(size))
        begin[which] += size
    return begin, begin + length, null if null.any() else None
