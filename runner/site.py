"""The documentation: dbt's page and those beside it, with the version they describe.

dbt docs, lineage of columns, veracity scores, run history -> HTML pages without outside parts ->
`published/<version>/docs/`, or `docs/` in the data folder before anything is published -> a small
web server

What code and columns decide, dbt's page and the lineage, is kept below the state folder and taken
from there while these are the same: other rows change neither. Left out: guides, which are Markdown
in the repository, and a server for others: any web server can serve the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ingestion.durable import write_whole
from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from ingestion.redaction import redact
from ingestion.settings import Settings
from runner.compiled.key import own_code
from runner.compiled.store import short_hash
from runner.history import History
from runner.lineage.page import FILE as LINEAGE_PAGE
from runner.lineage.page import lineage_page
from runner.lineage.project import project_graph
from runner.runs_page import FILE as RUNS_PAGE
from runner.runs_page import runs_page, runs_page_fields
from runner.transform import Dbt
from runner.veracity.page import FILE as SCORES_PAGE
from runner.veracity.page import veracity_page
from runner.veracity.scores import has_scores, veracity_fields
from runner.versions import UNFINISHED, Version

PAGE = "index.html"


def docs_folder(settings: Settings, version: Version | None = None) -> Path:
    """Where the documentation of a version lies; without one, that of the project as it is now."""
    return (version.path if version else settings.data_dir) / "docs"


def build_docs(
    dbt: Dbt, folder: Path, version: Version | None = None, history: History | None = None
) -> Path:
    """Writes the documentation to a folder, which is replaced as a whole.

    Args:
        dbt: The project.
        folder: Where to; its parent exists or is made.
        version: The version that it describes; with scores, these get a page of their own.
        history: The run history, which gets a page too; None for none.

    Returns:
        Path of the page.

    Raises:
        BuildFailed: dbt could not write it.
    """
    texts = _code_pages(dbt)
    fresh = folder.with_name(f"{folder.name}{UNFINISHED}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, text in texts.items():
        (fresh / name).write_text(text, encoding="utf-8")
    pages: dict[str, str] = {LINEAGE_PAGE: "Lineage"}
    if version is not None and has_scores(dbt.settings, version):
        text = veracity_page(veracity_fields(dbt.settings, version))
        (fresh / SCORES_PAGE).write_text(text, encoding="utf-8")
        pages[SCORES_PAGE] = "Veracity scores"
    if history is not None:
        text = redact(runs_page(runs_page_fields(history)))
        (fresh / RUNS_PAGE).write_text(text, encoding="utf-8")
        pages[RUNS_PAGE] = "Runs"
    _link(fresh / PAGE, pages)
    failpoint("docs.written")
    if folder.exists():
        shutil.rmtree(folder)
    failpoint("docs.former_removed")
    os.rename(fresh, folder)  # noqa: PTH104  # a rename of a folder, not of a file
    return folder / PAGE


def _code_pages(dbt: Dbt) -> dict[str, str]:
    """Dbt's page and the lineage, by file; those of the last time if they would be the same."""
    settings = dbt.settings
    key = dbt.code_key
    maker = [own_code(Path(__file__).parent), own_code(Path(__file__).parent / "lineage")]
    name = short_hash([key, *maker, _shape(settings)])
    kept = settings.state_dir / "compiled" / "pages" / name
    names = (PAGE, LINEAGE_PAGE)
    if key and all((kept / name).is_file() for name in names):
        return {name: (kept / name).read_text(encoding="utf-8") for name in names}
    made = {
        PAGE: dbt.docs().read_text(encoding="utf-8"),
        LINEAGE_PAGE: redact(lineage_page(project_graph(settings, dbt))),
    }
    if key:
        for name, text in made.items():
            write_whole(kept / name, text)
        for other in kept.parent.iterdir():
            if other != kept:
                shutil.rmtree(other)
    return made


def _shape(settings: Settings) -> list[tuple[Any, ...]]:
    """All that these pages tell of the warehouse."""
    from ingestion.warehouse import connect

    if not settings.warehouse_path.is_file():
        return []
    with closing(connect(settings, read_only=True)) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(
            "select schema_name, table_name, column_name, column_index, data_type, comment "
            "from duckdb_columns() where not internal and database_name = current_database() "
            "union all select schema_name, table_name, null, null, 'table', null "
            "from duckdb_tables() where database_name = current_database() "
            "union all select schema_name, view_name, null, null, 'view', null "
            "from duckdb_views() where not internal and database_name = current_database() "
            "order by all"
        ).fetchall()
    return rows


def _link(page: Path, others: Mapping[str, str]) -> None:
    """Puts links to other pages onto dbt's page, which has no place for them."""
    if not others:
        return
    place = (
        "position:fixed;right:16px;top:12px;z-index:9999;display:flex;gap:8px;"
        "font:14px system-ui,sans-serif"
    )
    look = "padding:4px 12px;border-radius:4px;background:#23785a;color:#fff"
    links = "".join(f'<a href="{file}" style="{look}">{name}</a>' for file, name in others.items())
    head, end, tail = page.read_text(encoding="utf-8").rpartition("</body>")
    # dbt's search field would reach below them.
    room = "<style>#search{max-width:calc(100% - 400px)}</style>"
    text = f'{head}{room}<div style="{place}">{links}</div>{end}{tail}'
    page.write_text(text, encoding="utf-8")


def serve(folder: Path, port: int, on_ready: Callable[[str], Any]) -> None:
    """Serves a folder on loopback until interrupted.

    Args:
        folder: What to serve.
        port: The port; 0 takes a free one.
        on_ready: Called with the address when it can be opened.

    Raises:
        BadInput: The port is taken.
    """
    handler = partial(_QuietHandler, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"port {port} cannot be used: {error}",
            key="--port",
            hint="Choose another one, or 0 for a free one: wellspring docs --port 0",
        ) from error
    with server:
        on_ready(f"http://127.0.0.1:{server.server_address[1]}/{PAGE}")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
