"""What `wellspring status` says of a lander of changes."""

from __future__ import annotations

from pathlib import Path

from ingestion.cdc.session import note_status
from ingestion.settings import Settings
from runner.landers import lander_fields, tell_fields


def told(settings: Settings) -> str:
    return tell_fields(lander_fields(settings)["shop"])


def test_a_lander_of_changes_tells_how_much_log_waits_and_is_kept(tmp_path: Path) -> None:
    settings = Settings(project_dir=tmp_path, data_dir=tmp_path)
    note_status(
        settings,
        "shop",
        state="landing",
        rows=1200,
        files=3,
        lag_bytes=2_500_000,
        kept_bytes=18_000_000,
        error="",
    )
    assert told(settings) == (
        "landing, 1,200 changes in 3 files, 2.5 MB of log to read, 18.0 MB kept by the server"
    )
    note_status(settings, "shop", state="waiting", error="the server does not answer\nmore")
    assert told(settings).startswith("waiting, 1,200 changes")
    assert told(settings).endswith(", the server does not answer")
