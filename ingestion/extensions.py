"""Makes the DuckDB extensions that come as wheels findable by DuckDB, without any download.

wheel `duckdb-extension-<name>` -> link in <state>/duckdb_extensions/v<version>/<platform>/ -> LOAD

The folder only holds links and may be wiped. Extensions of another DuckDB version are not linked.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

EXTENSIONS = ("excel", "httpfs", "postgres_scanner", "sqlite_scanner")


def prepare_extensions(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[str]:
    """Links the installed extensions into `folder` and points the connection at it.

    Args:
        connection: An open DuckDB connection.
        folder: The extension directory; made if absent.

    Returns:
        Names of the extensions that can be loaded.
    """
    version, platform = connection.execute(
        "select library_version, (select platform from pragma_platform()) from pragma_version()"
    ).fetchall()[0]
    place = folder / version / platform
    place.mkdir(parents=True, exist_ok=True)
    found = [name for name in EXTENSIONS if _link(name, version, place)]
    connection.execute("set extension_directory = ?", [str(folder)])
    connection.execute("set autoinstall_known_extensions = false")
    return found


def _link(name: str, version: str, place: Path) -> bool:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        return False
    binary = Path(spec.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
    if not binary.is_file():
        return False
    link = place / binary.name
    if link.is_symlink() and link.readlink() == binary:
        return True
    # Several processes and threads may link at once: rename is atomic, the last one wins with the
    # same target.
    temporary = place / f".{binary.name}.{os.getpid()}.{threading.get_ident()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(binary)
    temporary.rename(link)
    return True
