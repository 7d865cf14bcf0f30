"""The project that is crashed: a shop with a database, files, an API, quarantine and public marts.

screened shop (SQLite, CSV with faulty lines) + reviews (HTTP API in pages) -> days that pass:
rows come, change and go, a file is corrected late, a review is rewritten

    python crash_project.py <reviews.json>    serves the reviews; prints its port
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RUNNER_TESTS = Path(__file__).resolve().parents[1] / "python" / "runner"
sys.path += [str(RUNNER_TESTS), str(RUNNER_TESTS.parents[1] / "kit")]

from screenedshop import OWN as SCREENED  # noqa: E402  # found by the line above
from screenedshop import make_screened_shop  # noqa: E402  # found by the line above
from toyshop import FILES, ToyShop  # noqa: E402  # found by the line above

PAGE_SIZE = 2
MOVES = """
              - name: moves
                description: One row per move of a toy.
                columns: [{name: move_id, data_type: bigint}]
                config: {meta: {ingest: {primary_key: [move_id], cursor: moved_at}}}
"""
VISITS = """
              - name: visits
                description: One row per visit, kept for a month.
                columns: [{name: visit_id, data_type: string}]
                config:
                  meta:
                    ingest: {path: "visits_*.csv", primary_key: [visit_id], retention: {days: 30}}
"""
OWN = {
    "wellspring.toml": """
        [publish]
        keep = 2

        [notifications]
        command = ["true"]
        """,
    "models/staging/stock/_stock__sources.yml": FILES[
        "models/staging/stock/_stock__sources.yml"
    ].replace("primary_key: [toy_id]", "primary_key: [toy_id], deletes: sweep")
    + MOVES,
    "models/staging/desk/_desk__sources.yml": """
        sources:
          - name: desk
            schema: raw_desk
            description: Reviews, from an HTTP API.
            config:
              meta:
                ingest: {kind: rest, connection: desk, rest: {auth: {type: none}}}
            tables:
              - name: reviews
                description: One row per review.
                columns:
                  - {name: review_id, data_type: bigint}
                  - {name: toy_id, data_type: bigint}
                  - {name: stars, data_type: bigint}
                config:
                  meta:
                    ingest:
                      primary_key: [review_id]
                      rest:
                        path: /reviews
                        records: reviews
                        paginator: {type: page, page_param: page, base_page: 1, total_path: pages}
        """,
    "models/staging/till/_till__sources.yml": SCREENED["models/staging/till/_till__sources.yml"]
    + VISITS,
    "models/staging/till/stg_till__visits.sql": """
        with
        source as (select * from {{ source('till', 'visits') }}),
        cleaned as (
            select try_cast(visit_id as bigint) as visit_id, _file, _row, _load_id, _deleted,
                {{ raw_record('source') }} as _record
            from source
        )
        select * from cleaned
        """,
    "models/staging/till/stg_till__visits.yml": """
        models:
          - name: stg_till__visits
            config: {meta: {staging: {key: [visit_id]}}}
        """,
    "models/staging/stock/stg_stock__moves.sql": """
        with
        source as (select * from {{ source('stock', 'moves') }}),
        cleaned as (
            select move_id, toy_id, moved_at, _file, _row, _load_id, _deleted,
                {{ raw_record('source') }} as _record
            from source
        )
        select * from cleaned
        """,
    "models/staging/stock/stg_stock__moves.yml": """
        models:
          - name: stg_stock__moves
            config: {meta: {staging: {key: [move_id]}}}
        """,
    "models/staging/desk/stg_desk__reviews.sql": """
        with
        source as (select * from {{ source('desk', 'reviews') }}),
        cleaned as (
            select
                try_cast(review_id as bigint) as review_id,
                try_cast(toy_id as bigint) as toy_id,
                try_cast(stars as bigint) as stars,
                _file, _row, _load_id, _deleted,
                {{ raw_record('source') }} as _record
            from source
        )
        select * from cleaned
        """,
    "models/staging/desk/stg_desk__reviews.yml": """
        models:
          - name: stg_desk__reviews
            config: {meta: {staging: {key: [review_id], limits: {share: 0.9}}}}
            columns:
              - {name: review_id, description: Number of the review.}
              - name: stars
                description: From one to five.
                config: {meta: {rules: [{between: [1, 5]}]}}
        """,
    "models/marts/sales/rpt_toys.sql": """
        select
            toys.toy_id,
            toys.toy_name,
            count(distinct sales.sale_id) as sale_count,
            avg(reviews.stars) as stars
        from {{ ref('stg_stock__toys') }} as toys
        left join {{ ref('stg_till__sales') }} as sales using (toy_id)
        left join {{ ref('stg_desk__reviews') }} as reviews using (toy_id)
        group by toys.toy_id, toys.toy_name
        """,
    "models/marts/sales/rpt_toys.yml": """
        models:
          - name: rpt_toys
            description: One row per toy.
            columns:
              - name: toy_id
                description: Number of the toy.
                data_tests: [unique, not_null]
        """,
}
PRUNING = """
    [publish]
    keep = 1

    [retention]
    logs = 1
    logs_days = 1
    """
REVIEWS = [(1, 1, 5), (2, 2, 3), (3, 1, 9), (4, 2, 4), (5, 1, 2)]
HEADER = "sale_id;article;amount;clerk\n"


class CrashShop(ToyShop):
    """The shop, with its reviews and its days."""

    @property
    def reviews(self) -> Path:
        """What the API serves."""
        return self.systems / "reviews.json"

    def set_reviews(self, *changes: tuple[int, int, int]) -> None:
        """Reviews are written or rewritten: number, toy, stars."""
        known = json.loads(self.reviews.read_text()) if self.reviews.exists() else []
        by_number = {row["review_id"]: row for row in known}
        for number, toy, stars in changes:
            by_number[number] = {"review_id": number, "toy_id": toy, "stars": stars}
        self.reviews.write_text(json.dumps(list(by_number.values())))

    def add_moves(self, *moves: tuple[int, int, str]) -> None:
        """Toys are moved: number, toy, when."""
        connection = sqlite3.connect(self.systems / "stock.sqlite")
        with connection:
            connection.execute(
                "create table if not exists moves "
                "(move_id integer primary key, toy_id integer, moved_at timestamp)"
            )
            connection.executemany("insert into moves values (?, ?, ?)", moves)
        connection.close()

    def remove_toy(self, toy: int) -> None:
        """A toy is gone from the stock."""
        connection = sqlite3.connect(self.systems / "stock.sqlite")
        with connection:
            connection.execute("delete from toys where toy_id = ?", (toy,))
        connection.close()

    def mend_encoding(self) -> None:
        """The declaration learns to read the file that was refused."""
        place = self.root / "models/staging/till/_till__sources.yml"
        text = place.read_text().replace("on_refused:", "encodings: [utf-8, cp1252], on_refused:")
        place.write_text(text)

    def forget_quickly(self) -> None:
        """The settings let go of what was kept till now."""
        self.write("wellspring.toml", PRUNING)

    def hold_sales_back(self) -> None:
        """A gate keeps every change of the number of sales from readers."""
        self.write(
            "models/marts/sales/fct_sales.yml",
            """
            models:
              - name: fct_sales
                config: {meta: {gates: [{measure: rows, moves: 0}]}}
            """,
        )

    def day(self, number: int) -> None:
        """A day passes in the source systems."""
        self.add_sales(f"visits_{number}.csv", f"visit_id\n{number}1\n{number}2\n")
        self.add_moves((number * 10, 1, f"2026-01-0{number + 1} 12:00:00"))
        if number == 1:
            self.add_toys((1, "bear", "red"), (3, "kite", "red"))
            self.add_sales("sales_4.csv", HEADER + "9;3;12.50;Bo\n10;3;7;Bo\n")
            self.set_reviews((2, 2, 5), (6, 3, 4))
        elif number == 2:
            self.remove_toy(2)
            self.add_toys((4, "drum", "grey"), (5, "ball", "red"))
            self.add_sales("sales_2.csv", HEADER + "1;1;8.95;Zoë\n7;2;1.75;Chloé\n8;2;2.50;Bo\n")
            self.add_sales("sales_5.csv", HEADER + "11;4;3.25;Bo\n12;4\n13;5;many;Bo\n14;5;2;B;o\n")
            self.set_reviews((3, 1, 4), (7, 4, 1), (8, 5, 5))
        else:
            self.add_toys((2, "robot", "red"), (5, "ball", "grey"))
            self.add_sales("sales_6.csv", HEADER + "15;2;99.90;Zoë\n1;1;8.95;Zoë\n")
            self.set_reviews((9, 2, 2))


def make_crash_shop(root: Path) -> CrashShop:
    """Writes the project and its sources to a folder."""
    make_screened_shop(root)
    shop = CrashShop(root)
    for path, text in OWN.items():
        shop.write(path, text)
    macro = root / "macros/ledger/staging_models.sql"
    listed = 'set names = ["stg_desk__reviews", "stg_stock__moves", "stg_till__visits", '
    macro.write_text(re.sub(r"set names = \[", listed, macro.read_text(), count=1))
    shop.set_reviews(*REVIEWS)
    shop.add_moves((1, 1, "2026-01-01 09:00:00"))
    return shop


def serve(path: Path) -> None:
    """Serves reviews in pages from a file that is read anew for each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
            rows = json.loads(path.read_text())
            shown = rows[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
            body = json.dumps({"reviews": shown, "pages": -(-len(rows) // PAGE_SIZE)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
