"""What a person asked for, and how what is missing is asked: flags first, then prompts.

flags of `wellspring add` -> `Request`; a missing answer -> a prompt on a terminal, else its default

The same questions are asked either way; a script gets an error that names the flag.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingestion.errors import BadInput
from runner.add.offers import Listing
from runner.query import nearest


@dataclass(frozen=True)
class Request:
    """The command line of `wellspring add`.

    Attributes:
        location: Address, file, folder or glob; None if the connection is configured already.
        name: Name of the source.
        connection: Name of the connection, where it is not the source's.
        kind: What the location is, where that cannot be told from it.
        from_env: Environment variable that holds the address.
        token_from_env: Environment variable that holds the token of an API.
        auth: How an API wants the token: bearer or api_key.
        auth_name: Name of the header or parameter of an API key.
        openapi: Where the description of an API is.
        schema: Schema of a database.
        tables: Names or patterns of what is wanted.
        is_all: Whether everything is wanted.
        path: Glob of files below the location, or path of an API.
        description: What the source is.
        owner: Who owns it.
        is_agreed: Whether to write without being asked.
        is_dry: Whether only to show what would be written.
    """

    location: str | None = None
    name: str | None = None
    connection: str | None = None
    kind: str | None = None
    from_env: str | None = None
    token_from_env: str | None = None
    auth: str | None = None
    auth_name: str | None = None
    openapi: str | None = None
    schema: str | None = None
    tables: Sequence[str] = ()
    is_all: bool = False
    path: Sequence[str] = field(default_factory=tuple)
    description: str | None = None
    owner: str | None = None
    is_agreed: bool = False
    is_dry: bool = False


@dataclass(frozen=True)
class Asker:
    """Asks a person, or takes what the flags say.

    Attributes:
        is_interactive: Whether there is a person at a terminal.
    """

    is_interactive: bool

    def text(self, question: str, flag: str, given: str | None, default: str | None) -> str:
        """An answer in words.

        Args:
            question: What is asked, without a question mark.
            flag: The flag that says it.
            given: What the flag said.
            default: What holds if nothing is said; None if something must be.

        Raises:
            BadInput: Nothing was said, nobody can be asked, and there is no default.
        """
        if given is not None:
            return given
        if self.is_interactive:
            import typer

            return str(typer.prompt(question, default=default)).strip()
        if default is None:
            raise BadInput(f"{question}: nothing was said", hint=f"Say it by {flag}.")
        return default

    def secret(self, question: str) -> str:
        """A secret, typed unseen; empty if nobody can be asked or there is none."""
        if not self.is_interactive:
            return ""
        import typer

        return str(typer.prompt(f"{question} (unseen; empty for none)", default="",
                                hide_input=True, show_default=False))  # fmt: skip

    def is_agreed(self, question: str, given: bool) -> bool:
        """Whether a person agrees; a script has agreed by being run."""
        if given or not self.is_interactive:
            return True
        import typer

        return typer.confirm(question, default=True)


def chosen(request: Request, ask: Asker, listings: Sequence[Listing]) -> list[Listing]:
    """Which of the listed things are wanted.

    Raises:
        BadInput: Nothing was said, or a name fits nothing.
    """
    if request.is_all or (len(listings) == 1 and not request.tables):
        return list(listings)
    if request.tables:
        wanted = [part for given in request.tables for part in _parts(given)]
    elif ask.is_interactive:
        wanted = _parts(ask.text("Which of them (numbers, names, order*; or all)", "", None, "all"))
    else:
        named = ", ".join(one.label for one in listings[:20])
        raise BadInput(
            f"{len(listings)} tables are there, and none is chosen: {named}",
            hint="Say --table NAME (several, or patterns such as 'order*'), or --all.",
        )
    if wanted == ["all"]:
        return list(listings)
    taken: set[str] = set()
    for part in wanted:
        fitting = _fitting(part, listings)
        if not fitting:
            near = nearest(part, [one.label for one in listings])[:3]
            raise BadInput(
                f"nothing that is there is called {part}",
                hint=f"Perhaps: {', '.join(near)}." if near else "Look at the list above.",
            )
        taken |= fitting
    return [one for one in listings if one.label in taken]


def _parts(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _fitting(part: str, listings: Sequence[Listing]) -> set[str]:
    if re.fullmatch(r"\d+", part) and 1 <= int(part) <= len(listings):
        return {listings[int(part) - 1].label}
    return {
        one.label
        for one in listings
        if part in (one.label, one.name)
        or fnmatch.fnmatch(one.label.lower(), part.lower())
        or fnmatch.fnmatch(one.name, part.lower())
    }
