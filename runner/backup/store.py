"""The place of backups: a local folder or anything that fsspec reaches.

file -> sent under another name -> durable -> bears its name -> read back -> counts

An object store shows a file only once all of it has arrived; elsewhere a file is renamed when it is
whole. What was sent is compared with what was to be sent: by the store's own MD5 where it tells
one, else by reading all of it again. Left out: what the files are; `manifest` knows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.durable import sync
from ingestion.errors import BadInput, IngestionError, disk_full, disk_full_error, first_line
from ingestion.redaction import redact
from ingestion.settings import Settings
from runner.errors import StoreFailed

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BLOCK = 4 * 2**20
_PART = ".part"
# They show an object only once it is whole, so that it needs no other name meanwhile.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})


class Store:
    """Files below one address.

    Args:
        filesystem: fsspec's access to it.
        root: The address as that takes it, without an end slash.
        shown: The address for people, without secrets.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str, shown: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self.shown = shown
        protocol = filesystem.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "file" in self._protocols

    @property
    def folder(self) -> Path:
        """The folder of a local store."""
        return Path(self._root)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file below a folder, by name; nothing where there is no such folder."""
        with self._explained(f"the files of {folder} cannot be listed"):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._root.lstrip("/")) + 1
        return {
            path.lstrip("/")[start:]: int(info["size"] or 0)
            for path, info in found.items()
            if not path.endswith(_PART)
        }

    def ages(self, folder: str) -> dict[str, float]:
        """When each file below a folder was written (seconds since 1970), where that is told."""
        with self._explained(f"the files of {folder} cannot be listed"):
            self._filesystem.invalidate_cache()
            found = self._filesystem.find(self._at(folder), detail=True)
        start = len(self._root.lstrip("/")) + 1
        ages = {}
        for path, info in found.items():
            moment = info.get("LastModified") or info.get("mtime") or info.get("last_modified")
            moment = moment.timestamp() if hasattr(moment, "timestamp") else moment
            if isinstance(moment, int | float):
                ages[path.lstrip("/")[start:]] = float(moment)
        return ages

    def read(self, name: str) -> bytes:
        """All of a small file.

        Raises:
            BadInput: There is none of that name.
        """
        with self._explained(f"{name} cannot be read"):
            try:
                content: bytes = self._filesystem.cat_file(self._at(name))
            except FileNotFoundError:
                raise BadInput(f"{name} is missing", file=self.shown) from None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file and reads it back."""
        with self._explained(f"{name} cannot be written"):
            with self._fresh(name) as place, self._filesystem.open(place, "wb") as target:
                target.write(content)
                self._flush(target)
            if self.read(name) != content:
                raise StoreFailed(f"{name} does not read as it was written", file=self.shown)

    def send(self, path: Path, name: str, sha256: str) -> None:
        """Sends a file and makes sure that it has arrived as it is.

        Args:
            path: The file here.
            name: Its name there.
            sha256: The checksum that it must have there.

        Raises:
            StoreFailed: It has not arrived as it was sent.
            BadInput: It is not what it was when its checksum was taken.
        """
        with self._explained(f"{path} cannot be sent"):
            with self._fresh(name) as place:
                sent, md5 = self._copy(path, place)
            if sent != sha256:
                self.remove([name])
                raise BadInput(
                    "the file has changed while it was backed up",
                    file=path,
                    hint="Landing is never written twice: see which program does, then run again.",
                )
            if not self._has_arrived(name, path.stat().st_size, md5, sha256):
                self.remove([name])
                raise StoreFailed(
                    f"{path} has not arrived as it was sent",
                    file=self.shown,
                    hint="Run again; if it happens again, the disk or the network is at fault.",
                )

    def fetch(self, name: str, target: Path) -> str:
        """Copies a file from there to here, durably, and returns the SHA-256 of what came."""
        digest = hashlib.sha256()
        with self._explained(f"{name} cannot be fetched", full=target.parent):
            try:
                source = self._filesystem.open(self._at(name), "rb")
            except FileNotFoundError:
                raise BadInput(
                    f"{name} is missing from the backups",
                    file=self.shown,
                    hint="`wellspring backup --verify` tells what else is; take another backup.",
                ) from None
            with source, target.open("wb") as here:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    here.write(block)
                here.flush()
                os.fsync(here.fileno())
        return digest.hexdigest()

    def checksum(self, name: str) -> str:
        """The SHA-256 of a file, all of which is read."""
        digest = hashlib.sha256()
        with (
            self._explained(f"{name} cannot be read"),
            self._filesystem.open(self._at(name), "rb") as source,
        ):
            while block := source.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def remove(self, names: Sequence[str]) -> None:
        """Removes files; one that is not there is no fault."""
        with self._explained("a file cannot be removed"):
            for name in names:
                try:
                    self._filesystem.rm_file(self._at(name))
                except FileNotFoundError:
                    continue

    def sync(self, folder: str) -> None:
        """Makes the names within a folder and the folders below it durable."""
        if not self.is_local:
            return
        for place, _, _ in os.walk(self._at(folder)):
            sync(Path(place))
        if self.folder.is_dir():
            sync(self.folder)

    # -- inside --------------------------------------------------------------------------------

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _fresh(self, name: str) -> Iterator[str]:
        """Where to write a file that bears its name only once it is whole."""
        place = self._at(name)
        if self._protocols & _OBJECT_STORES:
            yield place
            return
        self._filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
        yield place + _PART
        if self.is_local:
            Path(place + _PART).replace(place)
        else:
            # Not all servers rename onto a file that is there.
            if self._filesystem.exists(place):
                self._filesystem.rm_file(place)
            self._filesystem.mv(place + _PART, place)

    def _flush(self, target: Any) -> None:
        if self.is_local:
            target.flush()
            os.fsync(target.fileno())

    def _copy(self, path: Path, place: str) -> tuple[str, str]:
        """Sends the bytes; returns the SHA-256 and the MD5 of what was sent."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with path.open("rb") as source, self._filesystem.open(place, "wb") as target:
            while block := source.read(_BLOCK):
                sha256.update(block)
                md5.update(block)
                target.write(block)
            self._flush(target)
        return sha256.hexdigest(), md5.hexdigest()

    def _has_arrived(self, name: str, size: int, md5: str, sha256: str) -> bool:
        self._filesystem.invalidate_cache()
        info = self._filesystem.info(self._at(name))
        if info["size"] != size:
            return False
        told = str(info.get("ETag") or "").strip('"')
        # A file sent in parts, or encrypted by the store, has another mark than its MD5.
        return told == md5 or self.checksum(name) == sha256

    @contextmanager
    def _explained(self, what: str, *, full: Path | None = None) -> Iterator[None]:
        try:
            yield
        except IngestionError:
            raise
        except Exception as error:
            # Each file system of fsspec raises errors of its own library.
            if disk_full(error):
                raise disk_full_error(full or Path(self.shown), error) from error
            raise StoreFailed(
                f"{what}: {first_line(error) or type(error).__name__}",
                file=self.shown,
                hint="See whether the place is there, and whether the login may read and write.",
            ) from error


def open_store(settings: Settings, url: str | None) -> Store:
    """The place of the backups.

    Args:
        settings: The project's settings.
        url: As given on the command line; None for what the settings say.

    Raises:
        BadInput: No place is given, or it lies in the data folder.
        ConnectionMissing: The connection of `[backup]` is not configured.
        StoreFailed: fsspec cannot open it.
    """
    address, options = _address(settings, url)
    shown = redact(address)
    try:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        scheme = address.partition("://")[0]
        extra = "`uv sync --extra s3` installs it." if scheme in ("s3", "s3a") else ""
        raise StoreFailed(
            f"{scheme}:// needs a package that is not installed: {first_line(error)}",
            file=shown,
            hint=extra or "Add the package that fsspec names to the environment.",
        ) from error
    except (ValueError, OSError) as error:
        raise StoreFailed(
            f"the place of the backups cannot be opened: {first_line(error)}",
            file=shown,
            hint="Give a folder or an address such as s3://bucket/warehouse.",
        ) from error
    store = Store(filesystem, root, shown)
    if store.is_local and store.folder.is_relative_to(settings.data_dir):
        raise BadInput(
            "the backups would lie in the data folder and be lost with it",
            file=shown,
            hint="Choose another disk or another machine.",
        )
    return store


def _address(settings: Settings, url: str | None) -> tuple[str, dict[str, Any]]:
    """The address and what fsspec needs to log in there."""
    options: dict[str, Any] = {}
    base = Path.cwd() if url else settings.project_dir
    address = url or settings.backup.url
    if settings.backup.connection:
        from ingestion.connections import resolve
        from ingestion.landing import configure

        configure(settings)
        connection = resolve(settings.backup.connection)
        options = dict(connection.options)
        address = address or connection.url
    if not address:
        raise BadInput(
            "it is not said where backups go",
            key="backup.url",
            hint="`wellspring backup s3://bucket/warehouse`, or set [backup] url.",
        )
    if "://" not in address:
        return str((base / Path(address).expanduser()).resolve()), options if url is None else {}
    _remember_password(address)
    return address, options


def _remember_password(address: str) -> None:
    from urllib.parse import unquote, urlsplit

    from ingestion.redaction import register_secret

    password = urlsplit(address).password
    if password:
        register_secret(password)
        register_secret(unquote(password))
