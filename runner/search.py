"""Full-text search in the published version, for models that declare `meta: search`.

words -> lower case, without accents -> index (term, weight) -> sum of weights ranks -> passage of
each text

What can be searched stands in the version itself (`ops.searchable_models`), so that its file is all
that a reader needs: neither the project nor an extension of DuckDB. A word that ends in `*` stands
for all words that begin so. Left out: stems of words, phrases, typing errors.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, first_line
from ingestion.settings import Settings
from runner.query import nearest, open_version
from runner.versions import require_current

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

_PASSAGE_WORDS = 24
_WORD = re.compile(r"\w+")

_RANKED = """
with

asked as (

    select
        unnest(?::varchar[]) as term,
        unnest(?::boolean[]) as is_start

),

found as (

    select
        postings.{id} as id,
        asked.term as asked_term,
        -- of several words with one beginning, the one that tells most
        max(postings.weight) as weight
    from {index} as postings
    inner join asked
        on
            postings.term = asked.term
            or (asked.is_start and starts_with(postings.term, asked.term))
    group by all

),

ranked as (

    select
        id,
        sum(weight) as score,
        count(*) as found_count,
        count(*) over () as answer_count
    from found
    group by id
    having count(*) >= ?

)

select ranked.score, ranked.answer_count, documents.{id}, documents.{title}, documents.{text}{shown}
from ranked
inner join {model} as documents on ranked.id = documents.{id}
order by ranked.score desc, documents.{id}
limit ?
"""


@dataclass(frozen=True)
class Searchable:
    """A model that can be searched.

    Attributes:
        model: Schema and name of the table with the texts.
        id: Column that identifies a document.
        title: Column with the title.
        text: Column with the text.
        shown: Further columns to show.
        index: Schema and name of the table with the weights of words.
    """

    model: str
    id: str
    title: str
    text: str
    shown: tuple[str, ...]
    index: str


@dataclass(frozen=True)
class Answer:
    """A document that was found.

    Attributes:
        model: Schema and name of its table.
        id: What identifies it there.
        score: The higher, the better it fits; comparable within one model.
        title: Its title.
        passage: The part of its text that holds most of the words.
        shown: What else the model shows of it.
    """

    model: str
    id: str
    score: float
    title: str
    passage: str
    shown: dict[str, str | None]


@dataclass(frozen=True)
class Answers:
    """What was found.

    Attributes:
        version: Name of the published version.
        words: The words as they were looked up.
        found: How many documents there are in all.
        answers: The best of them, best first.
    """

    version: str
    words: tuple[str, ...]
    found: int
    answers: tuple[Answer, ...]


def search(
    settings: Settings,
    words: str,
    *,
    model: str | None = None,
    every_word: bool = False,
    limit: int = 10,
) -> Answers:
    """Finds documents of the current published version by their words.

    Args:
        settings: The project's settings.
        words: What to look for.
        model: Name of the only model to search, with or without its schema; None for all.
        every_word: Whether a document must have all words, not just some.
        limit: How many to return at most.

    Raises:
        BadInput: Nothing is published or searchable, there is no such model, or there is no word.
    """
    version = require_current(settings)
    with closing(open_version(settings, version)) as connection:
        targets = _chosen(_searchable(connection), model)
        terms = _terms(connection, words)
        found, answers = 0, []
        for target in targets:
            count, best = _ask(connection, target, terms, len(terms) if every_word else 1, limit)
            found += count
            answers += best
    answers.sort(key=lambda answer: (-answer.score, answer.model, answer.id))
    shown = tuple(f"{term}*" if is_start else term for term, is_start in terms)
    return Answers(version.name, shown, found, tuple(answers[:limit]))


def _searchable(connection: duckdb.DuckDBPyConnection) -> list[Searchable]:
    """What the version says can be searched; what it withholds cannot."""
    tables = {
        f"{schema}.{name}"
        for schema, name in connection.execute(
            "select schema_name, table_name from duckdb_tables() where not internal"
        ).fetchall()
    }
    if "ops.searchable_models" not in tables:
        return []
    rows = connection.execute(
        "select model, id_column, title_column, text_column, shown_columns, index_model "
        "from ops.searchable_models order by model"
    ).fetchall()
    found = [
        Searchable(name, key, title, text, tuple(filter(None, (shown or "").split(","))), index)
        for name, key, title, text, shown, index in rows
    ]
    return [one for one in found if {one.model, one.index} <= tables]


def _chosen(known: list[Searchable], model: str | None) -> list[Searchable]:
    if not known:
        raise BadInput(
            "the published version has nothing to search",
            hint="Declare `meta: search` on a model (docs/guides/search.md) and run again.",
        )
    if model is None:
        return known
    chosen = [one for one in known if model in (one.model, one.model.partition(".")[2])]
    if not chosen:
        names = ", ".join(nearest(model, [one.model for one in known]))
        raise BadInput(f"the model {model!r} cannot be searched", hint=f"Searchable: {names}.")
    return chosen


def _terms(connection: duckdb.DuckDBPyConnection, words: str) -> list[tuple[str, bool]]:
    """The words as the index has them, each with whether it is only a beginning."""
    [(found,)] = connection.execute(
        r"select regexp_extract_all(lower(strip_accents(?)), '[\p{L}\p{N}]+\*?')", [words]
    ).fetchall()
    terms = list(dict.fromkeys((word.rstrip("*"), word.endswith("*")) for word in found))
    if not terms:
        raise BadInput(
            "there is no word to look for", hint='For example: wellspring search "red light"'
        )
    return terms


def _ask(
    connection: duckdb.DuckDBPyConnection,
    target: Searchable,
    terms: list[tuple[str, bool]],
    least: int,
    limit: int,
) -> tuple[int, list[Answer]]:
    import duckdb

    query = _RANKED.format(
        id=_quoted(target.id),
        title=_quoted(target.title),
        text=_quoted(target.text),
        shown="".join(f", documents.{_quoted(name)}" for name in target.shown),
        index=".".join(map(_quoted, target.index.split("."))),
        model=".".join(map(_quoted, target.model.split("."))),
    )
    values = [[term for term, _ in terms], [start for _, start in terms], least, limit]
    try:
        rows = connection.execute(query, values).fetchall()
    except duckdb.Error as error:
        raise BadInput(
            f"{target.model} cannot be searched: {first_line(error)}",
            hint=f"Its index {target.index} needs the columns {target.id}, term and weight.",
        ) from error
    answers = [
        Answer(
            model=target.model,
            id=str(row[2]),
            score=float(row[0]),
            title=str(row[3] or ""),
            passage=_passage(connection, str(row[4] or ""), terms),
            shown={
                name: None if value is None else str(value)
                for name, value in zip(target.shown, row[5:], strict=True)
            },
        )
        for row in rows
    ]
    return (int(rows[0][1]) if rows else 0), answers


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _passage(
    connection: duckdb.DuckDBPyConnection, text: str, terms: list[tuple[str, bool]]
) -> str:
    """The stretch of a text with most of the words in it, the earliest of the best."""
    spots = list(_WORD.finditer(text))
    if not spots:
        return ""
    [(plain,)] = connection.execute(
        "select list_transform(?::varchar[], lambda word: lower(strip_accents(word)))",
        [[spot.group() for spot in spots]],
    ).fetchall()
    hits = [
        next((t for t, start in terms if word == t or (start and word.startswith(t))), None)
        for word in plain
    ]
    last = max(len(spots) - _PASSAGE_WORDS, 0)
    begin = max(
        range(last + 1),
        key=lambda i: (len(set(hits[i : i + _PASSAGE_WORDS]) - {None}), -i),
    )
    # The words found stand in the middle, not at the edge.
    inside = [i for i in range(begin, min(begin + _PASSAGE_WORDS, len(spots))) if hits[i]]
    if inside:
        begin = min(max((inside[0] + inside[-1] - _PASSAGE_WORDS) // 2, 0), last)
    end = min(begin + _PASSAGE_WORDS, len(spots))
    start_at = spots[begin].start() if begin else 0
    end_at = spots[end - 1].end() if end < len(spots) else len(text)
    cut = " ".join(text[start_at:end_at].split())
    return f"{'... ' if begin else ''}{cut}{' ...' if end < len(spots) else ''}"


def answers_fields(answers: Answers) -> dict[str, Any]:
    """What was found, fit for JSON."""
    return {
        "version": answers.version,
        "words": list(answers.words),
        "found": answers.found,
        "answers": [
            {
                "model": one.model,
                "id": one.id,
                "score": round(one.score, 4),
                "title": one.title,
                "passage": one.passage,
                "shown": one.shown,
            }
            for one in answers.answers
        ],
    }


def print_answers(answers: Answers, console: Console) -> None:
    """Shows people what was found, best first."""
    from rich.text import Text

    for place, one in enumerate(answers.answers, start=1):
        console.print(Text.assemble((f"{place}. ", "dim"), (one.title, "bold")))
        shown = [f"{name} {value}" for name, value in one.shown.items() if value is not None]
        console.print(Text(f"   {one.passage}"))
        details = "  ".join([f"{one.model} {one.id}", *shown, f"score {one.score:.2f}"])
        console.print(Text(f"   {details}", style="dim"))
    words = " ".join(answers.words)
    if not answers.found:
        console.print(Text(f"nothing is found for: {words}"))
        return
    more = answers.found - len(answers.answers)
    told = f"; {more:,} more with --limit" if more > 0 else ""
    plural = "" if answers.found == 1 else "s"
    console.print(Text(f"{answers.found:,} document{plural} for: {words}{told}", style="dim"))
