"""DuckDB's own full-text index against an index made in SQL: time to build, size, time to ask.

texts of random words ─> a database file without index ─┬─> extension `fts`: create_fts_index
                                                        └─> a table of words and weights (BM25)

    python tests/bench/search_index.py --extension <path of fts.duckdb_extension> [--texts 20000]

The extension is no dependency of the project: its path is given. Without it, only the table is
measured.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import duckdb

WORDS = 20_000
QUESTIONS = 20
INDEX = """
create table words as
with listed as (
    select id, unnest(regexp_extract_all(lower(strip_accents(body)), '[\\p{L}\\p{N}]+')) as term
    from texts
),
counted as (select id, term, count(*) as term_count from listed group by all),
lengths as (select id, sum(term_count) as words from counted group by id),
totals as (select count(*) as texts, avg(words) as words from lengths)
select
    id, term,
    ln(1 + (totals.texts - holders + 0.5) / (holders + 0.5)) * term_count * 2.2
    / (term_count + 1.2 * (0.25 + 0.75 * lengths.words / totals.words)) as weight
from (select *, count(*) over (partition by term) as holders from counted) as weighed
inner join lengths using (id)
cross join totals
order by term
"""
ASK_TABLE = """
select id, sum(weight) as score from words
where term in (select unnest(string_split(?, ' '))) group by id order by score desc, id limit 10
"""
ASK_EXTENSION = """
select id, score from (select id, fts_main_texts.match_bm25(id, ?) as score from texts)
where score is not null order by score desc, id limit 10
"""


def measure(path: Path, make: list[str], ask: str, questions: list[str], texts: list[str]) -> None:
    """Builds one kind of index and prints its figures and first answers."""
    config = {"allow_unsigned_extensions": "true"}
    with duckdb.connect(str(path), config=config) as connection:
        connection.execute("create table texts (id bigint, body varchar)")
        connection.execute("insert into texts select * from (select unnest(?), unnest(?))",
                           [list(range(len(texts))), texts])  # fmt: skip
        connection.execute("checkpoint")
        before, began = path.stat().st_size, time.monotonic()
        for statement in make:
            connection.execute(statement)
        connection.execute("checkpoint")
        built, size = time.monotonic() - began, path.stat().st_size - before
        began = time.monotonic()
        answers = [connection.execute(ask, [question]).fetchall() for question in questions]
        asked = (time.monotonic() - began) / len(questions)
    first = [row[0] for row in answers[0][:5]]
    print(f"{path.stem:<12}{built:>9.2f} s{size / 1e6:>9.1f} MB{1000 * asked:>9.1f} ms   {first}")


def main() -> None:
    """Makes the texts and measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--extension", help="path of the fts extension's binary")
    parser.add_argument("--texts", type=int, default=20_000)
    arguments = parser.parse_args()
    draw = random.Random(7)
    words = ["w" + str(int(draw.paretovariate(0.6)) % WORDS) for _ in range(200_000)]
    texts = [" ".join(draw.choices(words, k=draw.randint(20, 120))) for _ in range(arguments.texts)]
    questions = [" ".join(draw.choices(words, k=3)) for _ in range(QUESTIONS)]
    print(f"{'index':<12}{'build':>11}{'size':>12}{'question':>12}   best five of the first")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "table.duckdb", [INDEX], ASK_TABLE, questions, texts)
        if arguments.extension:
            make = [
                f"load '{arguments.extension}'",
                "pragma create_fts_index('texts', 'id', 'body', "
                "stemmer = 'none', stopwords = 'none', "
                # as it is by default, numbers would be no words
                "ignore = '[^a-z0-9]+')",
            ]
            measure(Path(folder) / "fts.duckdb", make, ASK_EXTENSION, questions, texts)


if __name__ == "__main__":
    main()
