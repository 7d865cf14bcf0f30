"""The help desk's API: token, pages, cursors, limits, and seeing the next day."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import anycompany_recount as recount
import pytest
from anycompany_kit import run, serving

TICKETS = "/api/v2/incremental/tickets/cursor.json"


@pytest.fixture(scope="module")
def data(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("desk") / "data"
    subprocess.run(["cp", "-a", str(template), str(copy)], check=True)
    return copy


@pytest.fixture(scope="module")
def desk(data: Path) -> Iterator[dict[str, str]]:
    with serving(data) as connections:
        yield connections["helpdesk"]


def status(
    desk: dict[str, str], path: str, token: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Returns status, headers and body of one plain request."""
    request = urllib.request.Request(
        desk["url"] + path, headers={"Authorization": f"Bearer {token or desk['token']}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as problem:
        return problem.code, dict(problem.headers), problem.read()


def test_a_wrong_token_is_refused(desk: dict[str, str]) -> None:
    code, _, body = status(desk, f"{TICKETS}?start_time=0", "wrong")
    assert code == 401
    assert b"tickets" not in body


def test_small_pages_hold_the_same_tickets_as_one_large_page(desk: dict[str, str]) -> None:
    large = recount.get(f"{desk['url']}{TICKETS}?start_time=0", desk["token"])
    assert large["end_of_stream"] is True
    assert large["after_cursor"] is None
    rows, url = [], f"{desk['url']}{TICKETS}?start_time=0&per_page=37"
    while url:
        page = recount.get(url, desk["token"])
        assert page["end_of_stream"] is (page["after_cursor"] is None)
        rows += page["tickets"]
        url = (
            page["after_cursor"]
            and f"{desk['url']}{TICKETS}?per_page=37&cursor={page['after_cursor']}"
        )
    assert rows == large["tickets"]
    stamps = [(row["updated_at"], row["id"]) for row in rows]
    assert stamps == sorted(stamps)


def test_start_time_is_inclusive(desk: dict[str, str]) -> None:
    everything = recount.fetch_all(desk["url"], desk["token"], "comments")
    middle = everything[len(everything) // 2]["created_at"]
    epoch = int(datetime.fromisoformat(middle).timestamp())
    page = recount.get(
        f"{desk['url']}/api/v2/incremental/comments.json?start_time={epoch}", desk["token"]
    )
    assert (
        page["comments"]
        == [row for row in everything if row["created_at"] >= middle][: page["count"]]
    )


def test_ratings_come_in_pages_of_the_asked_size(desk: dict[str, str]) -> None:
    url = f"{desk['url']}/api/v2/satisfaction_ratings.json?start_time=0&page[size]=10"
    first = recount.get(url, desk["token"])
    assert len(first["satisfaction_ratings"]) in (10, 11)
    assert first["meta"]["has_more"] is True
    second = recount.get(first["links"]["next"], desk["token"])
    assert first["satisfaction_ratings"][-1]["id"] != second["satisfaction_ratings"][0]["id"]


def test_each_fiftieth_request_is_told_to_wait(desk: dict[str, str]) -> None:
    answers = [status(desk, f"{TICKETS}?start_time=9999999999") for _ in range(100)]
    limited = [position for position, (code, _, _) in enumerate(answers) if code == 429]
    assert len(limited) == 2
    assert limited[1] - limited[0] == 50
    assert answers[limited[0]][1]["Retry-After"] == "1"
    assert {code for code, _, _ in answers} == {200, 429}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v2/nothing.json", 404),
        (TICKETS, 400),
        (f"{TICKETS}?start_time=soon", 400),
        (f"{TICKETS}?cursor=%21%21", 400),
    ],
)
def test_what_it_cannot_answer_it_says(desk: dict[str, str], path: str, code: int) -> None:
    answers = [status(desk, path) for _ in range(2)]
    seen = [answer for answer in answers if answer[0] != 429]
    assert {answer[0] for answer in seen} == {code}
    assert json.loads(seen[0][2])["error"]


def test_a_running_server_shows_the_next_day(data: Path, desk: dict[str, str]) -> None:
    before = recount.fetch_all(desk["url"], desk["token"], "tickets")
    assert run(data, "advance", "--days", "3").returncode == 0
    after = recount.fetch_all(desk["url"], desk["token"], "tickets")
    last = max(row["updated_at"] for row in before)
    assert max(row["updated_at"] for row in after) > last
    since = int(datetime.fromisoformat(last).timestamp())
    news = recount.get(f"{desk['url']}{TICKETS}?start_time={since}", desk["token"])["tickets"]
    unchanged = {json.dumps(row) for row in before} & {json.dumps(row) for row in after}
    assert {json.dumps(row) for row in after} == unchanged | {json.dumps(row) for row in news}
