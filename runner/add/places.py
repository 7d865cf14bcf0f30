"""What a location is: a database, files, an API or a stream, and the name it could have.

address, file, folder or glob -> `Place`

Left out: whether anything answers there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit, urlunsplit

from ingestion.errors import BadInput
from runner.add.offers import Kind, Place

DATABASES = {
    "postgresql": "PostgreSQL", "postgres": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB",
    "sqlite": "SQLite",
}  # fmt: skip
STREAMS = {
    "nats": "NATS JetStream", "tls": "NATS JetStream", "mqtt": "MQTT", "mqtts": "MQTT",
    "redis": "Redis Streams", "rediss": "Redis Streams", "kafka": "Kafka", "kinesis": "Kinesis",
}  # fmt: skip
_SQLITE = b"SQLite format 3\x00"
_GLOB = re.compile(r"[*?\[]")
_NO_NAME = {"www", "api", "com", "org", "net", "io", "local", "localhost", "host"}
_VERSION = re.compile(r"/|v?\d+([._]\d+)*|api|rest")
_NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")


def locate(location: str, kind: str | None = None) -> tuple[Kind, str, str]:
    """What a location is.

    Args:
        location: An address, or a path of this machine.
        kind: What it is said to be.

    Returns:
        Its kind, its address for the connection, and a glob below that ("" for none).

    Raises:
        BadInput: It is nothing that can be added.
    """
    scheme = location.partition("://")[0].partition("+")[0].lower() if "://" in location else ""
    if not scheme:
        return _local(location)
    if scheme in DATABASES:
        return "database", location, ""
    if scheme in STREAMS or kind == "stream":
        return "stream", location, ""
    if scheme in ("http", "https"):
        if kind == "files" or (kind is None and _is_file(urlsplit(location).path)):
            return "files", *_parted(location)
        return "rest", location, ""
    return "files", *_parted(location)


def _local(location: str) -> tuple[Kind, str, str]:
    # Not `resolve`: a link may lead elsewhere tomorrow.
    path = Path(os.path.abspath(Path(location).expanduser()))  # noqa: PTH100
    if path.is_file():
        with path.open("rb") as handle:
            if handle.read(len(_SQLITE)) == _SQLITE:
                return "database", f"sqlite:///{quote(str(path))}", ""
    if path.is_dir():
        return "files", str(path), ""
    base, pattern = _parted(str(path))
    if Path(base).is_dir() and (path.is_file() or _GLOB.search(pattern)):
        return "files", base, pattern
    raise BadInput(
        f"{location}: there is no such file or folder, and it is no address",
        hint="Give a path, or an address such as postgresql://user@host/database, "
        "mysql://..., https://..., s3://bucket/folder or nats://host:4222.",
    )


def _is_file(path: str) -> bool:
    """Whether an address names a file of a kind that is no answer of an API."""
    from ingestion.formats.preparing import SUFFIXES

    suffixes = {*SUFFIXES, ".zip", ".gz", ".zst"} - {".json", ".xml"}
    return PurePosixPath(path).suffix.lower() in suffixes


def _parted(location: str) -> tuple[str, str]:
    """A folder and the glob below it; a folder alone has none."""
    scheme, mark, rest = location.partition("://")
    text = rest if mark else location
    found = _GLOB.search(text)
    is_file = (
        _is_file(text)
        or text.lower().endswith((".json", ".xml"))
        or (not mark and Path(text).is_file())
    )
    if not found and not is_file:
        return location, ""
    cut = text.rfind("/", 0, found.start() if found else len(text))
    base = f"{scheme}{mark}{text[:cut]}" if mark else text[:cut] or "/"
    return base, text[cut + 1 :]


def proposed_name(kind: Kind, url: str, pattern: str = "") -> str:
    """A name for the source that lies there; empty if nothing suggests one."""
    from ingestion.landing import normalise

    parts = urlsplit(url)
    last = PurePosixPath(parts.path.rstrip("/")).name
    if kind == "database":
        candidates = [PurePosixPath(last).stem, parts.hostname or ""]
    elif kind == "files":
        first = _GLOB.split(pattern, maxsplit=1)[0].partition(".")[0]
        candidates = [last, parts.netloc, first]
    else:
        words = [word for word in (parts.hostname or "").split(".") if word not in _NO_NAME]
        candidates = [] if re.fullmatch(r"[\d.]+", parts.hostname or "") else words[:1]
        folders = PurePosixPath(parts.path).parts[::-1]
        candidates += [name for name in folders if not _VERSION.fullmatch(name.lower())]
    for candidate in candidates:
        name = re.sub(r"[^a-z0-9]+", "_", normalise(candidate) if candidate else "").strip("_")
        name = re.sub(r"^\d+_?", "", name)
        if _NAME.match(name):
            return name
    return {"rest": "api", "stream": "events"}.get(kind, "")


def check_name(name: str) -> str:
    """The name, if a source can have it.

    Raises:
        BadInput: It cannot.
    """
    if not _NAME.match(name):
        raise BadInput(
            f"a source cannot be called {name!r}",
            hint="Use lower case letters, digits and single underscores, beginning with a letter.",
        )
    return name


def lacks_password(url: str) -> bool:
    """Whether an address has a user and no password."""
    parts = urlsplit(url)
    return bool(parts.username) and parts.password is None


def with_password(url: str, password: str) -> str:
    """The address with a password."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def told(place: Place, pattern: str = "") -> str:
    """What a place is, in words without secrets."""
    from ingestion.connections import Connection

    parts = urlsplit(place.url)
    scheme = parts.scheme.partition("+")[0]
    if place.kind == "database":
        base = PurePosixPath(parts.path.rstrip("/")).name
        at = f" at {parts.hostname}" if parts.hostname else ""
        return f"{DATABASES[scheme]} database `{base}`{at}"
    safe = Connection(place.connection, _without_login(place.url)).safe_url
    if place.kind == "files":
        return f"Files below `{safe}`" + (f", `{pattern}`" if pattern else "")
    if place.kind == "rest":
        return f"The API at `{safe}`"
    return f"{STREAMS.get(scheme, scheme.upper())} at `{safe}`"


def _without_login(url: str) -> str:
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def from_environment(variable: str) -> str:
    """What an environment variable holds.

    Raises:
        BadInput: It is not set.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise BadInput(
            f"the environment variable {variable} is not set", hint=f"export {variable}='...'"
        )
    return value
