"""What `wellspring add` shows: what is there, what is proposed and why, what comes next.

Left out: questions, which `request` asks.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.add.adding import Added
    from runner.add.offers import Found, Listing, Offer, Place
    from runner.add.writing import Draft

_MOST = 200


@dataclass
class Shown:
    """Tells a person what is found.

    Attributes:
        console: Where to.
        project: The project's root; paths are shown below it.
    """

    console: Any
    project: Path

    def path(self, path: Path) -> str:
        """A path as a person at the project's root would write it."""
        return (
            str(path.relative_to(self.project)) if path.is_relative_to(self.project) else str(path)
        )

    def found(self, place: Place, found: Found) -> None:
        """What is there."""
        from rich.table import Table
        from rich.text import Text

        self._line(f"{place.told}: {found.told}")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("", "name", "what", "holds"):
            table.add_column(name, style="dim" if not name else None)
        for number, one in enumerate(found.listings[:_MOST], start=1):
            table.add_row(str(number), Text(one.label), one.what, one.size)
        self.console.print(table)
        if len(found.listings) > _MOST:
            self._line(f"... and {len(found.listings) - _MOST:,} more")

    def looking(self, listing: Listing) -> Offer:
        """Looks closer at something that is wanted, saying so on a terminal."""
        if not self.console.is_terminal:
            return listing.offer()
        with self.console.status(f"looking at {listing.label}"):
            return listing.offer()

    def offers(self, offers: Sequence[Offer]) -> None:
        """What is proposed, and why."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("table", "columns", "key", "cursor", "because"):
            table.add_column(name)
        for offer in offers:
            key = ", ".join(offer.key.columns) if offer.key else "none"
            cursor = offer.cursor.columns[0] if offer.cursor else "none: read whole"
            why = [f"key: {offer.key.why}"] if offer.key else []
            why += [f"cursor: {offer.cursor.why}"] if offer.cursor else []
            told = "\n".join([*why, *offer.notes])
            if "path" in offer.ingest or "stream" in offer.ingest:
                cursor = "not needed"
            row = (offer.name, str(len(offer.columns)), key, cursor, told)
            table.add_row(*(Text(cell) for cell in row))
        self.console.print()
        self.console.print(table)

    def draft(self, draft: Draft) -> None:
        """What would be written."""
        self._line(f"\n{self.path(draft.path)} would be:\n")
        self.console.print(draft.text, markup=False, soft_wrap=True)

    def added(self, added: Added, *, is_dry: bool) -> None:
        """What was done, and what comes next."""
        draft = added.draft
        if draft.present:
            self._line(f"declared already, and left as they are: {', '.join(draft.present)}")
        if is_dry:
            return
        if not added.is_written:
            self._line("nothing was written")
            return
        count = f"{len(draft.added)} table{'' if len(draft.added) == 1 else 's'}"
        self._line(f"\nwrote {self.path(draft.path)}: {count}")
        if added.is_connection_written:
            self._line(
                f"wrote .dlt/secrets.toml: the connection {added.connection} (git ignores it)"
            )
        source = shlex.quote(f"source:{added.source}")
        self._line("next:")
        self._line(f"  wellspring extract load --select {source}")
        self._line(
            f"  wellspring discover {added.source}   # what it holds, and how it belongs together"
        )
        self._line(f"  wellspring draft {added.source}      # staging models, tests and row rules")

    def _line(self, text: str) -> None:
        from ingestion.redaction import redact

        self.console.print(redact(text), markup=False, soft_wrap=True)
