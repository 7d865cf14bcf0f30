"""A plugin of dbt-duckdb: dbt's connection keeps to the same memory and disk as all others.

profiles.yml `plugins: [{module: ingestion.dbt_plugin}]` -> dbt opens DuckDB -> `apply_budget`

Not by variables in profiles.yml: dbt parses the whole project anew when one of them changes, and
the room that is left on a disk changes all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.flags import get_flags

from ingestion.budget import apply_budget
from ingestion.settings import find_project, load_settings

if TYPE_CHECKING:
    import duckdb


_is_sealed = False


@contextmanager
def sealed() -> Iterator[None]:
    """Within it, what dbt opens reads and writes nothing but its own file."""
    global _is_sealed
    _is_sealed = True
    try:
        yield
    finally:
        _is_sealed = False


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """Applies `[limits]` to the database that dbt opens."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Called once, when dbt has opened the database."""
        # `--project-dir`, or the folder in which dbt was called.
        named = getattr(get_flags(), "PROJECT_DIR", None)
        apply_budget(conn, load_settings(find_project(Path(named or Path.cwd()))))
        if _is_sealed:
            conn.execute("set enable_external_access = false")
