"""The company's state on disk: make it, move it on, read it, delete it.

settings ─> world of a day ─> folders, database, truth ─> state.json (last, so what it names is
whole)

    <data>/anycompany/  state.json  postgres/  erp/ marketplace/ distributor/ pixelco/ reference/
    helpdesk/  broker/  web/  documents/  truth/

A move that was cut off is noted in state.json as `target`; the next `advance` completes it instead
of beginning another.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anycompany import days
from anycompany.world import Settings, World

_FORMAT = 2
FOLDERS = (
    "erp",
    "marketplace",
    "distributor",
    "pixelco",
    "reference",
    "helpdesk",
    "web",
    "device_registry",
    "documents",
)


class StateError(Exception):
    """The state cannot be made or moved as asked; the text says what to do."""


@dataclass(frozen=True)
class State:
    """What `state.json` holds.

    Attributes:
        settings: Seed, scale and share of defects.
        day: Day number that everything on disk is of.
        target: Day that an unfinished move leads to, or None.
        rows: Rows per system and table, for `status`.
    """

    settings: Settings
    day: int
    target: int | None
    rows: dict[str, int]


def data_folder() -> Path:
    """Returns WELLSPRING_DATA, or else `data` beside the nearest dbt_project.yml, or here."""
    if named := os.environ.get("WELLSPRING_DATA"):
        return Path(named).absolute()
    here = Path.cwd()
    root = next(
        (folder for folder in (here, *here.parents) if (folder / "dbt_project.yml").exists()), here
    )
    return root / "data"


class Home:
    """The company's folder.

    Args:
        data: The project's data folder.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data / "anycompany"
        self.state_file = self.folder / "state.json"
        self.database = self.folder / "postgres"
        self.broker = self.folder / "broker"
        self.truth = self.folder / "truth"

    def read(self) -> State | None:
        """Returns the state, None if there is none yet.

        Raises:
            StateError: The state file cannot be read.
        """
        try:
            content = json.loads(self.state_file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise StateError(
                    f"{self.state_file} is of another version (format {content['format']}). "
                    "Run `anycompany reset`."
                )
            return State(
                Settings(**content["settings"]), content["day"], content["target"], content["rows"]
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as problem:
            raise StateError(
                f"{self.state_file} cannot be read ({problem}). Run `anycompany reset`."
            ) from problem

    def _write(self, state: State) -> None:
        content = {"format": _FORMAT, **asdict(state)}
        partial = self.state_file.with_suffix(".part")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.state_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing the state meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "state.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def token(self) -> str:
        """Returns the help desk's token, made at random once; readable by the owner only."""
        path = self.folder / "token"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii")

    def ensure(self, settings: Settings, *, stated: bool = False) -> State:
        """Makes the first state unless there is one.

        Args:
            settings: What to make it from.
            stated: Whether the user named the settings, so that another state must not pass for it.

        Returns:
            The state on disk.

        Raises:
            StateError: A state with other settings is there already.
        """
        with self.locked():
            state = self.read()
            if state is None:
                return self._create(settings)
            if state.target is None:
                self._tidy_desk(state.day)
                self._feed_anew(state)
            if stated and state.settings != settings:
                have = state.settings
                raise StateError(
                    f"The company in {self.folder} was made with --seed {have.seed} "
                    f"--scale {have.scale:g} --defects {have.defects:g}. "
                    "Leave these options out to use it, or run `anycompany reset` to start afresh."
                )
            return state

    def _create(self, settings: Settings) -> State:
        from anycompany import broker, postgres

        postgres.remove(self.database)
        broker.remove(self.broker)
        for name in (*FOLDERS, "truth"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        world = World(settings, days.FIRST_STATE)
        with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
            server = pool.submit(lambda: stack.enter_context(postgres.running(self.database)))
            rows = self._deliver(world, -1)
            self._feed(world)
            postgres.fill(server.result(), world)
        state = State(settings, world.day, None, rows)
        self._write(state)
        return state

    def advance(self, count: int) -> State:
        """Moves the company's clock, or completes a move that was cut off.

        Args:
            count: Days to move.

        Returns:
            The new state.

        Raises:
            StateError: There is no state, or the company's time ends before.
        """
        from anycompany import postgres

        with self.locked():
            state = self.read()
            if state is None:
                raise StateError(
                    f"There is no company in {self.folder} yet. `anycompany serve` makes one."
                )
            target = state.day + count if state.target is None else state.target
            if target > days.LAST:
                raise StateError(
                    f"The company's time ends on {days.date_of(days.LAST)}: "
                    f"from {days.date_of(state.day)}, at most "
                    f"{days.LAST - state.day} days are left."
                )
            self._write(State(state.settings, state.day, target, state.rows))
            world = World(state.settings, target)
            with postgres.running(self.database) as url:
                rows = self._deliver(world, state.day)
                self._feed(world)
                found = postgres.day_of(url)
                if found == state.day:
                    postgres.advance(url, world, int(days.start_of(state.day + 1)))
                elif found != target:
                    postgres.fill(url, world)
            self._tidy(world)
            moved = State(state.settings, target, None, rows)
            self._write(moved)
            self._tidy_desk(target)
            return moved

    def _deliver(self, world: World, since: int) -> dict[str, int]:
        from anycompany import truth

        for name, box in self._outboxes(world).items():
            box.deliver(self.folder / name, since)
        truth.save(world, self.truth)
        rows = {f"shop.{name}": rows.table.num_rows for name, rows in world.shop.rows.items()}
        rows |= {
            f"{name}.files": len(self._outboxes(world)[name].files)
            for name in FOLDERS
            if name != "helpdesk"
        }
        rows |= {"pixelco.accounts": world.pixelco.accounts, "pixelco.cases": world.pixelco.cases}
        rows |= {f"devices.{name}": len(told) for name, told in world.devices.messages.items()}
        payments = world.card_payments.messages
        rows |= {f"card_payments.{name}": len(told) for name, told in payments.items()}
        rows |= {f"game.{name}": count for name, count in world.game.counts.items()}
        return rows | {
            f"helpdesk.{name}": len(export.id) for name, export in world.helpdesk.exports.items()
        }

    def _feed(self, world: World) -> None:
        """Publishes what the message broker lacks of the past."""
        from anycompany import broker, feeding

        with broker.running(self.broker, self.token()) as addresses:
            feeding.feed(
                addresses.nats_url,
                self.broker,
                world.day,
                [world.game.feed, world.card_payments.feed],
            )

    def _feed_anew(self, state: State) -> None:
        """Publishes the past of a company whose broker is new or has lost it."""
        from anycompany.feeding import Notes

        if Notes(self.broker).day != state.day:
            self._feed(World(state.settings, state.day))

    def _outboxes(self, world: World) -> dict[str, Any]:
        from anycompany.systems import reference

        return {
            "erp": world.erp.outbox,
            "marketplace": world.marketplace.outbox,
            "distributor": world.distributor.outbox,
            "pixelco": world.pixelco.outbox,
            "helpdesk": world.helpdesk.outbox,
            "reference": reference.build(world),
            "web": world.web.outbox,
            "device_registry": world.devices.outbox,
            "documents": world.documents.outbox,
        }

    def _tidy(self, world: World) -> None:
        """Removes former extracts, but for the help desk's, which a server may point to."""
        for name, box in self._outboxes(world).items():
            if name != "helpdesk":
                box.tidy(self.folder / name)

    def _tidy_desk(self, day: int) -> None:
        """Removes the help desk's lists of other days, once `state.json` names this one."""
        for folder in (self.folder / "helpdesk").iterdir():
            if folder.name != str(day):
                shutil.rmtree(folder, ignore_errors=True)

    def reset(self) -> bool:
        """Deletes the company; returns whether there was one."""
        from anycompany import broker, postgres

        if not self.folder.exists():
            return False
        with self.locked():
            postgres.remove(self.database)
            broker.remove(self.broker)
            shutil.rmtree(self.folder)
        return True
