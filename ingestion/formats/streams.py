"""Bytes of a file as they are meant: decompressed, taken out of an archive, decoded.

path or archive member -> `opened` -> decompressed bytes -> `find_encoding` -> text

Writes through `written`: temporary name, then rename, so that a killed process leaves no half file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from ingestion.errors import BadInput

CHUNK = 1 << 20
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Content:
    """Where the bytes of one readable unit are.

    Attributes:
        path: A local file.
        name: The name that tells format and compression.
        member: Name of the archive's member; empty for the file itself.
        encoding: How it is encoded, if that was seen while it was copied.
    """

    path: Path
    name: str
    member: str = ""
    encoding: Encoding | None = None

    @property
    def compression(self) -> str:
        """`gzip`, `zstd` or `none`, by suffix."""
        return COMPRESSIONS.get(Path(self.member or self.name).suffix.lower(), "none")

    @property
    def stem(self) -> str:
        """The name without a suffix of compression."""
        name = self.member or self.name
        return name if self.compression == "none" else name.rpartition(".")[0]


@contextmanager
def opened(content: Content) -> Iterator[BinaryIO]:
    """The decompressed bytes of a unit.

    Raises:
        BadInput: The archive or the compressed data is broken or encrypted; raised where reading
            comes upon it.
    """
    with _raw(content) as raw:
        if content.compression == "none":
            yield cast(BinaryIO, _Guarded(raw, raw))
        elif content.compression == "gzip":
            # A third of the time of the standard library's.
            from isal.igzip import IGzipFile

            with IGzipFile(fileobj=raw) as stream:  # type: ignore[no-untyped-call]  # it has no types
                yield cast(BinaryIO, _Guarded(cast("IO[bytes]", stream), raw))
        else:
            yield cast(BinaryIO, _Guarded(cast("IO[bytes]", _ZstdReader(raw)), raw))


@contextmanager
def _raw(content: Content) -> Iterator[IO[bytes]]:
    if not content.member:
        with content.path.open("rb") as handle:
            yield handle
        return
    with open_archive(content.path) as archive:
        try:
            stream = archive.open(content.member)
        except RuntimeError as error:
            raise BadInput(f"the member {content.member} is encrypted") from error
        except (NotImplementedError, zipfile.BadZipFile) as error:
            raise BadInput(f"the member {content.member} cannot be read: {error}") from error
        with stream:
            yield stream


class _ZstdReader:
    """Decompresses zstd frames; unlike the library's own reader it notices a missing end."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame: Any = None
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Some decompressed bytes, about as many as asked for; none at the end."""
        import zstandard

        parts: list[bytes] = []
        got = 0
        while got < size:
            compressed = self._rest or self._raw.read(min(CHUNK, max(size, 1 << 16)))
            self._rest = b""
            if not compressed:
                if self._frame is not None:
                    raise EOFError
                break
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            parts.append(self._frame.decompress(compressed))
            got += len(parts[-1])
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        return b"".join(parts)


class _Guarded(io.RawIOBase):
    """A byte stream that tells broken compression as `BadInput` with its position."""

    def __init__(self, stream: IO[bytes], raw: IO[bytes]) -> None:
        self._stream = stream
        self._raw = raw
        self._given = 0
        self._kept = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        import zstandard
        from isal import isal_zlib

        # Its types say that this is an exception, not a class of them.
        isal_error = cast("type[Exception]", isal_zlib.error)
        wanted = -1 if size is None else size
        try:
            data = self._read_all() if wanted < 0 else self._read_some(wanted)
        except EOFError as error:
            raise self._broken("it is truncated: the compressed data ends early") from error
        except (isal_error, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
            raise self._broken(f"the compressed data is broken: {error}") from error
        except zstandard.ZstdError as error:
            raise self._broken(f"the compressed data is broken or truncated: {error}") from error
        self._given += len(data)
        return data

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read_some(self, size: int) -> bytes:
        """At most `size` bytes; decompressors may give more, which is kept for the next time."""
        data = self._kept or self._stream.read(size)
        self._kept = data[size:]
        return data[:size]

    def _read_all(self) -> bytes:
        parts = [self._kept]
        self._kept = b""
        while part := self._stream.read(CHUNK):
            parts.append(part)
        return b"".join(parts)

    def _broken(self, what: str) -> BadInput:
        try:
            place = f" (compressed byte {self._raw.tell()})"
        except (OSError, ValueError):
            place = ""
        return BadInput(f"{what}, after {self._given} bytes of content{place}")


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open zip archive.

    Raises:
        BadInput: It is no zip archive, or a broken one.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        size = path.stat().st_size
        raise BadInput(f"it is no readable zip archive: {error} ({size} bytes)") from error
    with archive:
        yield archive


def archive_members(path: Path) -> list[str]:
    """Names of the files in a zip archive, in its order, without what systems add of their own."""
    with open_archive(path) as archive:
        return [
            info.filename
            for info in archive.infolist()
            if not info.is_dir()
            and not info.filename.startswith("__MACOSX/")
            and Path(info.filename).name not in {".DS_Store", "Thumbs.db"}
        ]


@dataclass(frozen=True)
class Encoding:
    """How a text is encoded.

    Attributes:
        name: Name of the codec.
        bom: Whether the text begins with a byte order mark.
        strict: Whether it decodes the whole text; otherwise faulty bytes become lone surrogates.
        mixed_line_ends: Whether the text has line ends of several kinds, be it inside fields.
    """

    name: str
    bom: bool
    strict: bool = True
    mixed_line_ends: bool = False

    @property
    def is_utf8(self) -> bool:
        """Whether DuckDB reads the bytes as they are."""
        return codecs.lookup(self.name).name in {"utf-8", "ascii"}

    @property
    def codec(self) -> str:
        """The codec that leaves the byte order mark out."""
        return "utf-8-sig" if self.is_utf8 and self.bom else self.name


def find_encoding(content: Content, encodings: Sequence[str], *, lenient: bool = False) -> Encoding:
    """The first encoding that decodes the whole unit strictly; a byte order mark decides by itself.

    Args:
        content: The unit.
        encodings: Names of encodings, by preference.
        lenient: If none decodes it, take the first all the same and say so by `strict`.

    Raises:
        BadInput: None does; the message names the first faulty byte and its line for each.
    """
    if content.encoding is not None:
        return content.encoding
    with opened(content) as stream:
        head = stream.read(4)
    marked = next((name for mark, name in _BOMS if head.startswith(mark)), None)
    faults = []
    for name in [marked] if marked else encodings:
        try:
            ends = _decoded(content, name)
        except _Undecodable as fault:
            faults.append(str(fault))
            continue
        return Encoding(name, marked is not None, mixed_line_ends=ends.mixed)
    if lenient:
        return Encoding(marked or encodings[0], marked is not None, strict=False)
    raise BadInput(
        "; ".join(faults),
        hint="Declare the encoding that it really has under `encodings`.",
    )


class _Undecodable(Exception):
    """Says where a text is not of an encoding."""


@dataclass
class _LineEnds:
    """Counts the line ends of a text, as far as that tells whether they are of several kinds."""

    feeds: int = 0
    returns: int = 0
    pairs: int = 0
    _last: str = ""

    def count(self, text: str) -> None:
        """Takes the next part of the text."""
        if self.returns or "\r" in text:
            self.feeds += text.count("\n")
            self.returns += text.count("\r")
            self.pairs += text.count("\r\n") + (self._last == "\r" and text[:1] == "\n")
        elif not self.feeds and "\n" in text:
            # Before the first return, one says as much as all, and counting takes long.
            self.feeds = 1
        self._last = text[-1:] or self._last

    def count_ascii(self, data: bytes | bytearray) -> None:
        """Takes the next part of the text, which has no other characters and is not empty."""
        if self.returns or b"\r" in data:
            self.count(data.decode("ascii"))
            return
        if not self.feeds and b"\n" in data:
            self.feeds = 1
        self._last = chr(data[-1])

    @property
    def mixed(self) -> bool:
        """Whether LF, CRLF and CR stand side by side."""
        return self.returns > 0 and self.feeds > 0 and not self.feeds == self.returns == self.pairs


class _Decoding:
    """A text that is decoded strictly, part by part, while its line ends are counted."""

    def __init__(self, encoding: str) -> None:
        self.decoder = codecs.getincrementaldecoder(encoding)("strict")
        self.ends = _LineEnds()
        self._is_utf8 = Encoding(encoding, bom=False).is_utf8

    def take(self, part: bytes | bytearray) -> None:
        """Takes the next part; an empty one ends the text.

        Raises:
            UnicodeDecodeError: It is of another encoding.
        """
        if part and self._is_utf8 and not self.decoder.getstate()[0] and part.isascii():
            # Nothing to decode; as a text it would only be copied.
            self.ends.count_ascii(part)
            return
        self.ends.count(self.decoder.decode(part, final=not part))


class TextLook:
    """Looks whether a text is of an encoding while it passes; a byte order mark is left to others.

    Args:
        encoding: The encoding to be expected.
    """

    def __init__(self, encoding: str) -> None:
        self._name = encoding
        self._decoding = _Decoding(encoding)
        self._is_begun = self._is_odd = False

    def take(self, part: bytes | bytearray) -> None:
        """Takes the next part; an empty one ends the text."""
        if not self._is_begun:
            self._is_begun = True
            self._is_odd = len(part) < 4 or part.startswith(tuple(mark for mark, _ in _BOMS))
        if self._is_odd:
            return
        try:
            self._decoding.take(part)
        except UnicodeDecodeError:
            self._is_odd = True

    def found(self) -> Encoding | None:
        """What the whole text is in, once it has ended; None if a closer look is needed."""
        if self._is_odd or not self._is_begun:
            return None
        return Encoding(self._name, bom=False, mixed_line_ends=self._decoding.ends.mixed)


def _decoded(content: Content, encoding: str) -> _LineEnds:
    """Decodes a whole unit strictly and counts its line ends."""
    decoding = _Decoding(encoding)
    done = 0
    with opened(content) as stream:
        while True:
            chunk = stream.read(CHUNK)
            pending = len(decoding.decoder.getstate()[0])
            try:
                decoding.take(chunk)
            except UnicodeDecodeError as error:
                # The decoder still held `pending` bytes of the chunk before.
                position = done - pending + error.start
                good = error.object[: error.start].decode(encoding, errors="replace")
                line = _feeds(content, encoding, done) + good.count("\n") + 1
                byte = error.object[error.start]
                raise _Undecodable(
                    f"it is not {encoding}: byte 0x{byte:02x} at position {position}, line {line}"
                ) from error
            if not chunk:
                return decoding.ends
            done += len(chunk)


def _feeds(content: Content, encoding: str, size: int) -> int:
    """The line feeds in the first bytes of a unit, of which it is known that they decode."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    feeds = 0
    with opened(content) as stream:
        while size and (chunk := stream.read(min(CHUNK, size))):
            feeds += decoder.decode(chunk).count("\n")
            size -= len(chunk)
    return feeds


@contextmanager
def text_lines(content: Content, encoding: Encoding) -> Iterator[Iterator[str]]:
    """Physical lines of a text with their line ends: LF or CRLF, or CR where there is no LF."""
    with opened(content) as stream:
        head = stream.read(CHUNK)
    has_line_feed = "\n" in head.decode(encoding.codec, errors="ignore")
    has_return = "\r" in head.decode(encoding.codec, errors="ignore")
    newline = "\r" if has_return and not has_line_feed else "\n"
    with opened(content) as stream:
        reader = io.TextIOWrapper(
            io.BufferedReader(cast(io.RawIOBase, stream), CHUNK),
            encoding.codec,
            errors="strict" if encoding.strict else "surrogateescape",
            newline=newline,
        )
        yield _without_mark(reader)


def has_faulty_bytes(text: str) -> bool:
    """Whether a text that was decoded leniently holds bytes that are none of its encoding."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def _without_mark(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line.removeprefix("\ufeff") if number == 0 else line


def transcode(content: Content, encoding: Encoding, target: Path) -> None:
    """Writes a unit's text as UTF-8 without a byte order mark; line ends stay as they are."""
    decoder = codecs.getincrementaldecoder(encoding.codec)("strict")
    with opened(content) as stream, written(target) as out:
        first = True
        while True:
            chunk = stream.read(CHUNK)
            text = decoder.decode(chunk, final=not chunk)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            out.write(text.encode("utf-8"))
            if not chunk:
                return


@contextmanager
def written(target: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is whole.

    It is not forced to the disk: what is prepared can be made again, and the loader notices a
    file that a power cut has cut.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        with temporary.open("wb") as handle:
            yield handle
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """As `written`, for writers that want a path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
