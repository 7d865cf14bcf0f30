"""Which version readers get: published, taken back or approved, each noted with who did it.

history: about to -> `current` swapped -> history: done

The note comes before the swap and is settled after it, so that a kill between the two loses neither
the swap nor who made it; whoever holds the lock next settles what is open. Left out: making a
version (`publish`), and the files of one (`versions`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.history import History
from runner.versions import (
    CURRENT,
    WAITING,
    Version,
    all_versions,
    current_version,
    find_version,
    leftovers,
    make_current,
    make_waiting,
    remove,
    require_current,
    require_whole,
    surplus,
    waiting_version,
)


@dataclass(frozen=True)
class Switch:
    """What a rollback or an approval came to.

    Attributes:
        version: The version that is current now.
        former: The one that was current before; None if nothing was done.
        text: What there is to say.
    """

    version: Version
    former: Version | None
    text: str


def switch(
    settings: Settings,
    history: History,
    version: Version,
    action: str,
    run_id: str | None = None,
) -> None:
    """Makes a version the current one, and notes it.

    Args:
        settings: The project's settings.
        history: Where it is noted.
        version: The version.
        action: publish, rollback or approve.
        run_id: The run that does it; None for a command.
    """
    former = current_version(settings)
    history.begin_publication(version.name, former.name if former else None, action, run_id)
    failpoint("switch.noted")
    make_current(settings, version)
    failpoint("switch.swapped")
    _settle(settings, history)


def tidy(settings: Settings, history: History) -> None:
    """Clears what a killed command left behind, and settles what it could not note itself."""
    for path in leftovers(settings):
        remove(path)
    _settle(settings, history)
    _drop_outdated(settings, history)
    waiting = waiting_version(settings)
    known = {version.name for version in all_versions(settings)}
    for row in history.rows(
        "select version, published_at from published_versions where removed_at is null"
    ):
        name = row["version"]
        is_waiting = waiting is not None and name == waiting.name
        if name in known and row["published_at"] is None and not is_waiting:
            remove(settings.published_dir / name)
            known.remove(name)
        if name not in known:
            history.mark_removed(name)


def _settle(settings: Settings, history: History) -> None:
    current = current_version(settings)
    history.settle_publications(current.name if current else None)
    if current is not None:
        history.mark_published(current.name)
        current.mark_rolled_back(False)


def _drop_outdated(settings: Settings, history: History) -> None:
    """Lets go of a version that waits no longer: it or a newer one is current, or it is gone."""
    link = settings.published_dir / WAITING
    waiting, current = waiting_version(settings), current_version(settings)
    if not link.is_symlink():
        return
    if waiting is None or waiting == current:
        make_waiting(settings, None)
    elif current is not None and _made_after(settings, current, waiting):
        drop_waiting(settings, history)


def drop_waiting(settings: Settings, history: History) -> None:
    """Removes the version that waits for approval, if there is one."""
    waiting = waiting_version(settings)
    if waiting is not None:
        make_waiting(settings, None)
        failpoint("publish.unlinked")
        remove(waiting.path)
        history.mark_removed(waiting.name)


def remove_surplus(settings: Settings, history: History) -> tuple[str, ...]:
    """Removes versions that may go by the settings, and says which."""
    removed = surplus(settings, turns(history))
    for version in removed:
        remove(version.path)
        failpoint("publish.removed")
        history.mark_removed(version.name)
    return tuple(version.name for version in removed)


def turns(history: History) -> dict[str, int]:
    """By version, the number of the last time that it was made current."""
    rows = history.rows("select version, max(number) as turn from publications group by version")
    return {row["version"]: row["turn"] for row in rows}


# -- commands ----------------------------------------------------------------------------------


def rollback(settings: Settings, history: History, name: str | None = None) -> Switch:
    """Gives readers an earlier version again. Called under the lock.

    Without a name it undoes the last publication; done again it does nothing, so that it may be
    repeated after a crash. The content that it takes away is not published again by itself.

    Args:
        settings: The project's settings.
        history: Where it is noted.
        name: The version that readers are to get; by default the one that was current before.

    Raises:
        BadInput: There is no such version, it is damaged, or it waits for approval.
    """
    tidy(settings, history)
    current = require_current(settings)
    if name is None:
        last = _last_publication(history, current)
        if last and last["action"] == "rollback":
            return Switch(
                current,
                None,
                f"{current.name} is current already, since the rollback of {last['at']}; "
                "to go elsewhere, name a version: `wellspring rollback VERSION`",
            )
        target = version_before(settings, history, current)
    else:
        target = find_version(settings, name)
    if target == current:
        return Switch(current, None, f"{current.name} is current already")
    if target == waiting_version(settings):
        raise BadInput(
            f"version {target.name} waits for approval and was never current",
            hint=f"`wellspring approve {target.name}` makes it current.",
        )
    require_whole(target)
    if _made_after(settings, current, target):
        current.mark_rolled_back(True)
    failpoint("rollback.marked")
    switch(settings, history, target, "rollback")
    return Switch(target, current, f"readers get {target.name} again, {current.name} no longer")


def approve(settings: Settings, history: History, name: str | None = None) -> Switch:
    """Makes the version current that was held back. Called under the lock.

    Args:
        settings: The project's settings.
        history: Where it is noted.
        name: The version, so that none is approved that came meanwhile; by default any that waits.

    Raises:
        BadInput: That version does not wait for approval, or it is damaged.
    """
    tidy(settings, history)
    waiting, current = waiting_version(settings), current_version(settings)
    if waiting is None or name not in (None, WAITING, waiting.name):
        last = _last_publication(history, current) if current else None
        is_done = last and last["action"] == "approve" and current is not None
        if is_done and current is not None and name in (None, current.name):
            remove_surplus(settings, history)
            return Switch(current, None, f"{current.name} is approved and current already")
        raise _not_waiting(settings, name, waiting)
    require_whole(waiting)
    switch(settings, history, waiting, "approve")
    make_waiting(settings, None)
    remove_surplus(settings, history)
    former = f", {current.name} no longer" if current else ""
    return Switch(waiting, current, f"readers get {waiting.name} now{former}")


def _not_waiting(settings: Settings, name: str | None, waiting: Version | None) -> BadInput:
    if name is None or name == WAITING:
        return BadInput(
            "no version waits for approval",
            file=settings.published_dir,
            hint="`wellspring versions` lists those that are kept, with their state.",
        )
    current = current_version(settings)
    why = f"version {name} does not wait for approval"
    if name in (CURRENT, current.name if current else ""):
        why = f"version {current.name if current else name} is current already"
    elif current is not None and name < current.name:
        why += f": a newer one is current, {current.name}"
    hint = "`wellspring versions` lists those that are kept, with their state."
    if waiting is not None:
        hint = f"{waiting.name} does: `wellspring approve {waiting.name}`."
    return BadInput(why, file=settings.published_dir, hint=hint)


def version_before(settings: Settings, history: History, current: Version) -> Version:
    """The version that was current before this one.

    Raises:
        BadInput: There was none, or it is not kept any more.
    """
    made = all_versions(settings)
    last = _last_publication(history, current)
    if last is not None and last["former"] is not None:
        known = {version.name: version for version in made}
        if last["former"] in known:
            return known[last["former"]]
        raise BadInput(
            f"the version before {current.name} was {last['former']}, which is not kept any more",
            file=settings.published_dir,
            hint="`wellspring versions` lists those that are kept; name one of them.",
        )
    older = [version for version in made if _made_after(settings, current, version)]
    if last is not None or not older:
        raise BadInput(
            f"there is no version before {current.name}",
            file=settings.published_dir,
            hint="It is the first one that was published.",
        )
    return older[-1]


def _last_publication(history: History, version: Version) -> dict[str, str | None] | None:
    found = history.rows(
        "select * from publications where version = ? and is_done order by number desc limit 1",
        (version.name,),
    )
    return found[0] if found else None


def _made_after(settings: Settings, version: Version, other: Version) -> bool:
    order = [v.name for v in all_versions(settings)]
    return order.index(version.name) > order.index(other.name)
