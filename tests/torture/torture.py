"""Kills every command at random moments and at every failpoint; a rerun has to give the same.

project of its own -> states before each command, uninterrupted results -> trials on all cores ->
table of command x kind: trials, killed in time, identical

    .venv/bin/python tests/torture/torture.py [--trials 200] [--seed 7] [--jobs 2] [--keep FOLDER]
    .venv/bin/python tests/torture/torture.py --only load:load.rows_inserted:2

Ends non-zero if any trial differs, and keeps its folder: `shop` as it was left, `child.log` with
what the last command said. The same seed kills at the same fractions of a command's time. Left out:
power cuts, which lose what was not forced to the disk; a killed process has lost nothing of that.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from crash_trials import (  # found by the line above
    LOSE,
    STEPS,
    Command,
    Fault,
    Workplace,
    differences,
)
from failpoints_in_code import failpoints_in_code

TRIES = 4
WARM = (
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "dlt.destinations.impl.filesystem.filesystem",
    "duckdb",
    "pyarrow.parquet",
    "sqlalchemy",
    "ingestion.extract",
    "ingestion.load",
    "runner.cli",
    "runner.pipeline",
    "runner.summary",
)
QUIET = "--quiet"
RUN = ("run", QUIET)


# Beside the data folder, as a place that outlives it.
VAULT = "vault"
BACKUP = ("backup", VAULT, QUIET)
VERIFY = ("backup", VAULT, "--verify", QUIET)
RESTORE = ("restore", VAULT, "--yes", QUIET)
REBUILD = ("rebuild", QUIET)
DAYS = ("--from", "2026-01-01", "--to", "2026-01-04", "--select", "source:stock")
BACKFILL = ("backfill", *DAYS, QUIET)


def _line(*steps: str) -> tuple[str, ...]:
    """The command line of some steps; the documentation by itself would be served as well."""
    return (*steps, *(["--build-only"] if steps[0] == "docs" else []), QUIET)


def _step(name: str) -> Command:
    again = _line(*STEPS[STEPS.index(name) :])
    return Command(name, _line(name), f"before {name}", (again,), "end")


COMMANDS = (
    Command("first run", RUN, "fresh", (RUN,), "first"),
    *(_step(name) for name in STEPS),
    Command("run", RUN, "before extract", (RUN,), "end"),
    Command("rerun", RUN, "crashed", (RUN,), "end"),
    Command(
        "replay",
        ("quarantine", "replay", QUIET),
        "mended",
        (("quarantine", "replay", QUIET), RUN),
        "replayed",
    ),
    Command("resume", RUN, "before extract", (("resume", QUIET), RUN), "end"),
    Command("rollback", ("rollback",), "end", (("rollback",),), "rolled back"),
    Command("approve", ("approve",), "waiting", (("approve",),), "approved"),
    Command("held", RUN, "gated", (RUN,), "waiting", codes=(0, 8)),
    Command("backup", BACKUP, "end", (BACKUP, VERIFY, (LOSE,), RESTORE, REBUILD), "rebuilt"),
    Command("restore", RESTORE, "vault", (RESTORE, REBUILD), "rebuilt"),
    Command("rebuild", REBUILD, "end", (REBUILD,), "remade"),
    Command("compact", ("compact", QUIET), "end", (("compact", QUIET), RUN), "compacted"),
    Command("backfill", BACKFILL, "late", (BACKFILL,), "backfilled"),
    Command("prune", ("prune",), "cluttered", (("prune",),), "pruned", ahead=40),
    Command("clean", ("clean", "--warehouse"), "end", (("clean", "--warehouse"), RUN), "cleaned"),
)
BY_NAME = {command.name: command for command in COMMANDS}
# What the short version crashes.
SHORT = ("extract", "load", "publish")
# Which commands pass the failpoints of an area; the trials find out how often each does.
AREAS = {
    "run": ("run", "resume"),
    "extract": ("extract", "rerun"),
    "files": ("extract",),
    "dlt": ("extract",),
    "load": ("load", "replay"),
    "build": ("build",),
    "compiled": ("build",),
    "audit": ("audit",),
    "publish": ("publish", "held", "approve"),
    "docs": ("docs",),
    "switch": ("publish", "rollback", "approve"),
    "rollback": ("rollback",),
    "backup": ("backup",),
    "restore": ("restore",),
    "rebuild": ("rebuild",),
    "compact": ("compact",),
    "backfill": ("backfill",),
    "prune": ("prune",),
    "expire": ("prune",),
    "notify": ("run", "held"),
    "clean": ("clean",),
    # These change the project itself, so that tests kill them, each on a project of its own.
    "init": (),
    "example": (),
    "add": (),
    "draft": (),
}


@dataclass(frozen=True)
class Trial:
    """One crash.

    Attributes:
        command: Name of the command.
        kind: `random`, `failpoint`, or `chain`: crash after crash.
        moment: Fraction of the command's time, or `failpoint:nth`; a chain has several.
        follow: What comes after it besides the rerun: nothing, `day` or `wiped`.
        number: Tells trials apart.
    """

    command: str
    kind: str
    moment: str
    follow: str
    number: int


@dataclass(frozen=True)
class Result:
    """How a trial went.

    Attributes:
        trial: Which.
        killed: How often it was killed before it had ended.
        crashes: How often it was to be.
        faults: Where it differs; none if it is identical.
        kept: Folder that shows it.
    """

    trial: Trial
    killed: int
    crashes: int
    faults: tuple[str, ...] = ()
    kept: str = ""


# -- states ------------------------------------------------------------------------------------


def prepare(place: Workplace, commands: Sequence[Command], *, tell: bool, short: bool) -> None:
    """Makes the states that the commands begin with, and what they lead to undisturbed."""
    shop, wanted = place.shop, {command.name for command in commands}

    def done(name: str, argv: Sequence[str]) -> None:
        command = BY_NAME[name]
        outcome = place.must(argv, command.codes, command.ahead)
        place.durations[name], place.passed[name] = outcome.seconds, outcome.passed
        if tell:
            print(f"  {name}: {outcome.seconds:.1f} s undisturbed", flush=True)

    place.save("fresh")
    done("first run", RUN)
    place.expected["first"] = place.snapshot()
    if not short:
        shop.day(1)
        place.must(RUN)
    shop.day(2)
    # Steps that are not to be crashed are done together with the one before them.
    steps = [name for name in STEPS if name in wanted] or ["extract"]
    for name, following in zip_longest(steps, steps[1:]):
        place.save(f"before {name}")
        done(name, BY_NAME[name].argv)
        rest = STEPS[STEPS.index(name) + 1 : STEPS.index(following) if following else None]
        if rest:
            place.must(_line(*rest))
    place.save("end")
    place.expected["end"] = place.snapshot()
    if short:
        return
    shop.day(3)
    place.must(RUN)
    place.expected["next day"] = place.snapshot()
    _twice(place, done)
    if "rerun" in wanted:
        place.restore("before extract")
        place.call(BY_NAME["extract"].argv, point="extract.package_normalised")
        place.save("crashed")
        done("rerun", RUN)
    if "replay" in wanted:
        place.restore("end")
        shop.mend_encoding()
        place.save("mended")
        done("replay", BY_NAME["replay"].argv)
        place.must(RUN)
        place.expected["replayed"] = place.snapshot()
    if "rollback" in wanted:
        place.restore("end")
        done("rollback", BY_NAME["rollback"].argv)
        place.expected["rolled back"] = place.snapshot()
    if wanted & {"held", "approve"}:
        place.restore("end")
        shop.hold_sales_back()
        shop.day(3)
        place.save("gated")
        done("held", RUN)
        place.save("waiting")
        place.expected["waiting"] = place.snapshot()
        done("approve", BY_NAME["approve"].argv)
        place.expected["approved"] = place.snapshot()
    _prepare_keeping(place, wanted, done)
    if "clean" in wanted:
        place.restore("end")
        done("clean", BY_NAME["clean"].argv)
        place.must(RUN)
        place.expected["cleaned"] = place.snapshot()


def _prepare_keeping(place: Workplace, wanted: set[str], done: Any) -> None:
    if wanted & {"backup", "restore"}:
        place.restore("end")
        done("backup", BACKUP)
        place.lose()
        place.save("vault")
        done("restore", RESTORE)
        place.must(REBUILD)
        place.expected["rebuilt"] = place.snapshot()
    if "rebuild" in wanted:
        place.restore("end")
        done("rebuild", REBUILD)
        place.expected["remade"] = place.snapshot()
    if "compact" in wanted:
        place.restore("end")
        done("compact", BY_NAME["compact"].argv)
        place.must(RUN)
        place.expected["compacted"] = place.snapshot()
    if "backfill" in wanted:
        place.restore("end")
        place.shop.add_moves(*((n, 3, f"2026-01-0{n % 3 + 1} 08:00:00") for n in range(90, 96)))
        place.save("late")
        done("backfill", BACKFILL)
        place.expected["backfilled"] = place.snapshot()
    if "prune" in wanted:
        place.restore("end")
        place.shop.forget_quickly()
        place.save("cluttered")
        done("prune", ("prune",))
        place.expected["pruned"] = place.snapshot()


def _twice(place: Workplace, done: Any) -> None:
    """Two undisturbed passes have to agree, else no comparison means anything."""
    place.restore("before extract")
    done("run", RUN)
    # A run that is resumed after its crash is a run like any other until then.
    place.durations["resume"], place.passed["resume"] = place.durations["run"], place.passed["run"]
    faults = differences(place.snapshot(), place.expected["end"], wiped=False)
    if faults:
        raise Fault("two undisturbed runs differ", "\n".join(faults))


# -- trials ------------------------------------------------------------------------------------


def failpoint_trials(passed: dict[str, dict[str, int]]) -> Iterator[Trial]:
    """Every failpoint in every command that passes it: its first passing and a later one."""
    for command, points in passed.items():
        for point, times in points.items():
            if command not in AREAS.get(point.partition(".")[0], ()):
                continue
            for nth in sorted({1, (times + 2) // 2, times} if times > 2 else {1, times}):
                number = hash_of(command, point, nth)
                yield Trial(command, "failpoint", f"{point}:{nth}", _follow(number), number)


def random_trials(commands: Sequence[Command], count: int, seed: int) -> Iterator[Trial]:
    """Moments that are uniform over the time that a command takes."""
    dice = random.Random(seed)
    for number in range(count):
        command = commands[number % len(commands)]
        yield Trial(command.name, "random", f"{dice.random():.4f}", _follow(number), number)


def chains(
    commands: Sequence[Command], points: Sequence[Trial], crashes: int, seed: int
) -> Iterator[Trial]:
    """Crash after crash of the same command, random moments and failpoints by turns."""
    dice = random.Random(seed)
    share = max(crashes // len(commands), 1)
    for number, command in enumerate(commands):
        named = [trial.moment for trial in points if trial.command == command.name]
        # In the order of their passing, so that one does not put the others behind it.
        some = sorted(dice.sample(named, min(share, len(named))), key=named.index)
        times = [f"{dice.random():.4f}" for _ in range(share)]
        moments = [moment for pair in zip_longest(some, times) for moment in pair if moment]
        follow = "wiped" if number % 2 else ""
        yield Trial(command.name, "chain", ",".join(moments), follow, number)


def hash_of(*parts: object) -> int:
    """A number that is the same in every process."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(repr(parts)))


def _follow(number: int) -> str:
    return {1: "day", 3: "wiped"}.get(number % 4, "")


def attempt(place: Workplace, trial: Trial, seed: int) -> Result:
    """Crashes, once for each moment without putting anything back; does it again and compares."""
    command = BY_NAME[trial.command]
    dice = random.Random(f"{seed} {trial.number}")
    place.restore(command.before)
    moments = trial.moment.split(",")
    killed = 0
    for moment in moments:
        died = _crash(place, command, moment)
        if not died and trial.kind == "random" and len(moments) == 1:
            # It was quicker than when its time was taken: an earlier moment of the same command.
            for attempts in range(TRIES):
                place.restore(command.before)
                earlier = float(moment) * dice.random() / 2**attempts
                died = _crash(place, command, f"{earlier:.4f}")
                if died:
                    break
        killed += died
    faults = tuple(_compared(place, command, trial))
    return Result(trial, killed, len(moments), faults)


def _crash(place: Workplace, command: Command, moment: str) -> bool:
    """Does the command until it dies; tells whether it did."""
    if _is_fraction(moment):
        after = float(moment) * place.durations[command.name]
        return place.call(command.argv, after=after, ahead=command.ahead).killed
    return place.call(command.argv, point=moment, ahead=command.ahead).killed


def _is_fraction(moment: str) -> bool:
    return moment.replace(".", "").isdigit()


def _compared(place: Workplace, command: Command, trial: Trial) -> list[str]:
    # Which version readers get, and which files were read again, is no matter of landing.
    of_landing = command.expected in ("first", "end", "cleaned", "compacted")
    wiped = trial.follow == "wiped" and of_landing and (place.shop.data / "landing").is_dir()
    try:
        if wiped:
            place.wipe()
        for argv in (RUN,) if wiped else command.again:
            if argv == (LOSE,):
                place.lose()
            else:
                place.must(argv, command.codes, command.ahead)
        found = differences(place.snapshot(), place.expected[command.expected], wiped)
        if found or trial.follow != "day" or command.expected != "end":
            return found
        place.shop.day(3)
        place.must(RUN)
        expected = place.expected["next day"]
        return [f"a day later: {line}" for line in differences(place.snapshot(), expected, False)]
    except Fault as fault:
        return [str(fault.args[0]), *str(fault.args[1]).splitlines()[-12:]]


# -- one process of several --------------------------------------------------------------------


def work(options: argparse.Namespace) -> None:
    """Makes a share of the trials and writes a line of JSON for each."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _warm()
    share, shares = (int(part) for part in options.share.split("/"))
    place = Workplace(Path(options.folder))
    try:
        names = options.commands or (SHORT if options.short else BY_NAME)
        commands = [BY_NAME[name] for name in names]
        prepare(place, commands, tell=share == 0, short=options.short)
        trials = list(chosen(options, commands, place.passed))
        if not options.only and not options.short:
            # By turns, so that a run that is ended early has tried some of everything.
            random.Random(options.seed).shuffle(trials)
        until = time.monotonic() + 60 * options.minutes
        with (place.folder / "results.jsonl").open("w") as results:
            for number, trial in enumerate(trials):
                if number % shares == share and time.monotonic() < until:
                    result = attempt(place, trial, options.seed)
                    _write(results, place, result, number, len(trials))
    finally:
        place.close()
    # Landers and `watch` have harnesses of their own.
    due = {name for name in failpoints_in_code() if name.partition(".")[0] in AREAS}
    missed = due - {name for seen in place.passed.values() for name in seen}
    (place.folder / "missed.json").write_text(json.dumps(sorted(missed)))


def _warm() -> None:
    """Imports what the children need; an import must start no thread of Python's."""
    for name in WARM:
        importlib.import_module(name)
    # DuckDB's and Arrow's allocators have threads of their own and know how to be forked.
    if threading.active_count() != 1:
        raise SystemExit("an import has started a thread: children must not be forked")
    # What is here stays: no child needs to look through it for garbage, which would copy it.
    gc.freeze()


def chosen(
    options: argparse.Namespace, commands: Sequence[Command], passed: dict[str, dict[str, int]]
) -> Iterator[Trial]:
    """The trials that were asked for."""
    if options.only:
        for number, text in enumerate(options.only):
            command, _, moment = text.partition(":")
            kind = "random" if _is_fraction(moment) else "failpoint"
            kind = "chain" if "," in moment else kind
            yield Trial(command, kind, moment, options.follow, number)
        return
    names = {command.name for command in commands}
    points = list(failpoint_trials({k: v for k, v in passed.items() if k in names}))
    if options.short:
        yield from chains(commands, points, options.trials, options.seed)
        return
    yield from points
    yield from random_trials(commands, options.trials, options.seed)
    yield from chains(commands, points, max(options.trials // 5, 1), options.seed + 1)


def _write(results: Any, place: Workplace, result: Result, number: int, total: int) -> None:
    kept = ""
    if result.faults:
        kept = f"{place.folder}-trial-{number}"
        shutil.copytree(place.shop.root, Path(kept) / "shop", symlinks=True)
        shutil.copy(place.folder / "child.log", kept)
    told = {**asdict(result), "kept": kept}
    results.write(json.dumps(told) + "\n")
    results.flush()
    if result.faults or not number % 20:
        trial = result.trial
        text = "DIFFERS" if result.faults else "identical"
        where = f"{trial.command}:{trial.moment} {trial.follow}".strip()
        print(f"  {number + 1}/{total} {where}: {text}", flush=True)
        print("".join(f"      {line}\n" for line in result.faults), end="", flush=True)


# -- all of it ---------------------------------------------------------------------------------


def main() -> int:
    """Starts the processes, adds up and tells."""
    options = parsed()
    if options.share:
        work(options)
        return 0
    began = time.monotonic()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, in {folder}", flush=True)
    places = [folder / f"worker{share}" for share in range(options.jobs)]
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    if options.jobs == 1:
        options.share, options.folder = "0/1", str(places[0])
        work(options)
    elif not _side_by_side(places):
        return 2
    results = [json.loads(line) for place in places for line in _lines(place / "results.jsonl")]
    missed = _untried(json.loads((places[0] / "missed.json").read_text()))
    bad = summary(results, [] if options.only or options.commands or options.short else missed)
    print(f"{len(results)} trials in {time.monotonic() - began:.0f} s; seed {options.seed}")
    if not bad and not options.keep:
        shutil.rmtree(folder)
    return int(bad)


def _side_by_side(places: Sequence[Path]) -> bool:
    """Works in a process for each place; whether all went well."""
    children = []
    for share, place in enumerate(places):
        extra = ["--share", f"{share}/{len(places)}", "--folder", str(place)]
        children.append(subprocess.Popen([sys.executable, __file__, *sys.argv[1:], *extra]))
    codes = [child.wait() for child in children]
    if any(codes):
        print(f"a process of trials ended with {codes}; see above")
    return not any(codes)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _untried(missed: Sequence[str]) -> list[str]:
    """Failpoints that no command passes and at which no test of the suite kills either."""
    suite = Path(__file__).resolve().parents[1] / "python"
    written = "".join(path.read_text() for path in suite.rglob("test_*.py"))
    elsewhere = [name for name in missed if name in written]
    for name in elsewhere:
        print(f"{name}: killed there in tests/python")
    return [name for name in missed if name not in elsewhere]


def summary(results: Sequence[dict[str, Any]], missed: Sequence[str]) -> bool:
    """Prints the table; returns whether anything is wrong."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        trial = result["trial"]
        groups.setdefault((trial["command"], trial["kind"]), []).append(result)
    titles = f"{'trials':>6} {'crashes':>8} {'killed':>7} {'identical':>9}"
    print(f"\n{'command':<12} {'kind':<10} {titles}")
    rows = [*sorted(groups.items())]
    for kind in ("random", "failpoint", "chain"):
        rows.append((("all", kind), [r for r in results if r["trial"]["kind"] == kind]))
    for (command, kind), found in rows:
        crashes, killed = (sum(r[key] for r in found) for key in ("crashes", "killed"))
        same = sum(not result["faults"] for result in found)
        figures = f"{len(found):>6} {crashes:>8} {killed:>7} {same:>9}"
        print(f"{command:<12} {kind:<10} {figures}")
    survived = [r for r in results if r["trial"]["kind"] == "failpoint" and not r["killed"]]
    for result in survived:
        print(f"not killed: {result['trial']['command']}:{result['trial']['moment']}")
    for name in missed:
        print(f"no command passed the failpoint {name}")
    for result in results:
        if result["faults"]:
            trial = result["trial"]
            again = f"--only '{trial['command']}:{trial['moment']}'"
            again += f" --follow {trial['follow']}" if trial["follow"] else ""
            print(f"DIFFERS: {again}; kept in {result['kept']}")
    return bool(survived or missed or any(result["faults"] for result in results))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--trials", type=int, default=200, help="random trials; failpoints come on top")
    add("--seed", type=int, default=7, help="decides the random moments")
    add("--minutes", type=float, default=1440, help="begin no further trial after these")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    add("--keep", help="work here, and leave it")
    add("--commands", nargs="*", choices=sorted(BY_NAME), help="only these")
    add("--only", nargs="*", help="`command:fraction` or `command:failpoint:nth`")
    add("--follow", choices=("", "day", "wiped"), default="", help="with --only")
    add("--short", action="store_true", help="chains of crashes of few commands: a minute")
    add("--share", help=argparse.SUPPRESS)
    add("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
