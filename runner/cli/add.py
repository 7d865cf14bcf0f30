"""Adding a source: a system is asked what it has, and its declaration is written."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import console

commands = typer.Typer()


class SourceKind(StrEnum):
    """What a location is, where it does not say so itself."""

    database = "database"
    files = "files"
    rest = "rest"
    stream = "stream"


class Auth(StrEnum):
    """How an API wants its token."""

    none = "none"
    bearer = "bearer"
    api_key = "api_key"


@commands.command()
def add(
    location: Annotated[
        str | None,
        typer.Argument(
            help="Address (postgresql://, mysql://, https://, s3://, nats:// ...), SQLite file, "
            "folder, file or glob."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the source.")] = None,
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection",
            help="Name of its connection, by default that of the source; without a location, one "
            "that is configured.",
        ),
    ] = None,
    from_env: Annotated[
        str | None,
        typer.Option(
            "--connection-from-env",
            metavar="VARIABLE",
            help="Environment variable that holds the address; its value is written nowhere.",
        ),
    ] = None,
    kind: Annotated[SourceKind | None, typer.Option("--kind", help="What the location is.")] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="Only this schema of a database.")
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", help="What to add: a name, or a pattern such as 'order*'."),
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Add everything that is there.")] = False,
    path: Annotated[
        list[str] | None,
        typer.Option("--path", help="Glob of files below the location, or path of an API."),
    ] = None,
    openapi: Annotated[
        str | None,
        typer.Option("--openapi", metavar="URL", help="Description of an API: address or file."),
    ] = None,
    auth: Annotated[Auth | None, typer.Option("--auth", help="How an API wants a token.")] = None,
    auth_name: Annotated[
        str | None, typer.Option("--auth-name", help="Header of an API key, such as X-Api-Key.")
    ] = None,
    token_from_env: Annotated[
        str | None,
        typer.Option(
            "--token-from-env",
            metavar="VARIABLE",
            help="Environment variable that holds an API's token; its value is written nowhere.",
        ),
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What the source is.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Who owns it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")
    ] = False,
) -> None:
    """Declare a source: ask a system what it has, and write that down.

    Tests the connection, shows what is there, and writes the declaration of what is chosen, with
    keys and cursors and the evidence for them. The address goes to .dlt/secrets.toml, which git
    ignores. What is declared already stays as it is. What no option says is asked on a terminal.
    """
    from runner.add.adding import add as add_source
    from runner.add.report import Shown
    from runner.add.request import Asker, Request

    settings = load_settings()
    request = Request(
        location=location,
        name=name,
        connection=connection,
        kind=kind.value if kind else None,
        from_env=from_env,
        token_from_env=token_from_env,
        auth=auth.value if auth else None,
        auth_name=auth_name,
        openapi=openapi,
        schema=schema,
        tables=tuple(tables or ()),
        is_all=is_all,
        path=tuple(path or ()),
        description=description,
        owner=owner,
        is_agreed=yes,
        is_dry=dry_run,
    )
    shown = Shown(console(), settings.project_dir)
    ask = Asker(sys.stdin.isatty() and sys.stdout.isatty() and not yes)
    added = add_source(settings, request, ask, shown)
    shown.added(added, is_dry=dry_run)
