"""What landers do at present, as values and in words.

state/lander/*.json -> `lander_fields` -> `status`, metrics, the lines of `wellspring land`
"""

from __future__ import annotations

from typing import Any

from ingestion.lander.states import lander_states
from ingestion.progress import counted
from ingestion.settings import Settings


def lander_fields(settings: Settings) -> dict[str, dict[str, Any]]:
    """What each lander told last, by name, with `state`, `lag` and `is_alive`."""
    return {
        state.name: {
            **state.told,
            "state": state.state,
            "lag": state.lag,
            "is_alive": state.is_alive,
        }
        for state in lander_states(settings)
    }


def tell_fields(fields: dict[str, Any]) -> str:
    """What a lander does, for people."""
    parts = [str(fields["state"])]
    if fields.get("kind") == "cdc":
        return ", ".join([*parts, *_tell_log(fields)])
    if isinstance(fields.get("rows"), int) and isinstance(fields.get("files"), int):
        parts.append(f"{counted(fields['rows'], 'message')} in {counted(fields['files'], 'file')}")
    if fields.get("rate"):
        parts.append(f"{fields['rate']:,.0f}/s")
    if fields["lag"] is not None:
        parts.append(f"{fields['lag']:,} waiting")
    if fields.get("faults"):
        parts.append(f"{fields['faults']:,} undecodable")
    if fields.get("gaps"):
        parts.append(counted(len(fields["gaps"]), "gap"))
    if fields.get("error"):
        parts.append(str(fields["error"]).splitlines()[0])
    return ", ".join(parts)


def _tell_log(fields: dict[str, Any]) -> list[str]:
    """What the lander of a change log does, beside its state."""
    parts = []
    if isinstance(fields.get("rows"), int) and isinstance(fields.get("files"), int):
        parts.append(f"{counted(fields['rows'], 'change')} in {counted(fields['files'], 'file')}")
    for key, words in (("lag_bytes", "of log to read"), ("kept_bytes", "kept by the server")):
        if isinstance(fields.get(key), int):
            parts.append(f"{fields[key] / 1e6:,.1f} MB {words}")
    if fields.get("error"):
        parts.append(str(fields["error"]).splitlines()[0])
    return parts
