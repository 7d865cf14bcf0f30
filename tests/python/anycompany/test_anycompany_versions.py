"""A record of the help desk changes only together with its `updated_at`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anycompany.world import World


@pytest.mark.parametrize("table", ["tickets", "users", "comments", "satisfaction_ratings"])
def test_a_version_stays_as_it_is(made: Callable[..., World], table: str) -> None:
    before, after = (
        {
            (int(ident), int(stamp)): text
            for ident, stamp, text in zip(
                export.id, export.stamp, export.text.to_pylist(), strict=True
            )
        }
        for export in (made(day).helpdesk.exports[table] for day in (545, 552))
    )

    both = before.keys() & after.keys()
    changed = {key: (before[key], after[key]) for key in both if before[key] != after[key]}

    assert len(both) > 0.9 * len(before)
    assert not changed
