"""`wellspring search`: texts of any project's published version, found by their words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from toyshop import Call, ToyShop

PROJECT = Path(__file__).resolve().parents[3]
REVIEWS = """
    select 1 as review_id, 'Bear' as title, 'The bear is SOFT, and the seam of its müzzle is torn.'
        as body, 4 as stars
    union all
    select 2, 'Robot', 'The robot is torn apart: torn arm, torn leg.', 1
    union all
    select 3, 'Robot again', 'It walks and walks, and the battery lasts; our son loves it. '
        || repeat('Nothing else to say. ', 30) || 'In the end the ümlaut battery failed.', 3
    union all
    select 4, 'Empty', null, 5
    """
DECLARED = """
    models:
      - name: fct_reviews
        description: One row per review.
        access: public
        config:
          meta:
            search: {id: review_id, title: title, text: body, index: review_words, show: [stars]}
        columns:
          - {name: review_id, description: Number., data_tests: [unique, not_null]}
          - {name: title, description: What it is about.}
          - {name: body, description: What it says.}
          - {name: stars, description: How good it is.}
      - name: review_words
        description: One row per review and word.
        access: public
    """
INDEX = """
    with texts as (
        select review_id, title || ' ' || coalesce(body, '') as words from {{ ref('fct_reviews') }}
    ),
    listed as ({{ explode_words('texts', 'words', ['review_id']) }}),
    counted as (
        select review_id, term, count(*) as term_count from listed group by review_id, term
    )
    {{ weigh_terms('counted', 'review_id') }}
    """
REGISTER = """
    {{ config(schema='ops', materialized='view', meta={'publish': true}) }}
    select * from ({{ searchable_models() }}) as declared
    """


@pytest.fixture
def reviews(shop: ToyShop, call: Call) -> ToyShop:
    """The toy shop with reviews that can be searched, built and published."""
    shop.write("models/marts/sales/fct_reviews.sql", REVIEWS)
    shop.write("models/marts/sales/review_words.sql", INDEX)
    shop.write("models/marts/sales/reviews.yml", DECLARED)
    shop.write("models/ops/searchable_models.sql", REGISTER)
    for name in ("cross_db/text.sql", "cross_db/sql_literal.sql", "search/search.sql"):
        place = shop.root / "macros" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "macros" / name, place)
    done = call(shop, "run", "--quiet")
    assert done.code == 0, done.out + done.err
    return shop


def found(call: Call, shop: ToyShop, *arguments: str) -> list[str]:
    answer = call(shop, "search", *arguments, "--json")
    assert answer.code == 0, answer.err
    return [one["id"] for one in json.loads(answer.out)["answers"]]


def test_words_are_found_and_ranked_in_what_is_published(reviews: ToyShop, call: Call) -> None:
    # repeated words count for more, case and accents do not matter
    assert found(call, reviews, "torn") == ["2", "1"]
    assert found(call, reviews, "MUZZLE") == ["1"]
    assert found(call, reviews, "Müzzle soft") == ["1"]
    assert found(call, reviews, "umlaut") == ["3"]
    # a word alone in the title, of a text that is missing
    assert found(call, reviews, "empty") == ["4"]
    assert found(call, reviews, "torn", "soft") == ["1", "2"]
    assert found(call, reviews, "torn", "soft", "--all") == ["1"]
    assert found(call, reviews, "torn", "--limit", "1") == ["2"]
    assert found(call, reviews, "nowhere") == []
    # only a star asks for beginnings
    assert found(call, reviews, "batt") == []
    assert found(call, reviews, "batt*") == ["3"]
    assert found(call, reviews, "torn", "--model", "fct_reviews") == ["2", "1"]

    answer = call(reviews, "search", "failed", "--json")
    told = json.loads(answer.out)
    assert told["version"] == reviews.current
    assert (told["found"], told["words"]) == (1, ["failed"])
    (one,) = told["answers"]
    assert one["passage"].startswith("... ")
    assert one["passage"].endswith("the ümlaut battery failed.")
    assert one["shown"] == {"stars": "3"}

    people = call(reviews, "search", "torn").out
    assert "1. Robot\n" in people
    assert "stars 1" in people
    assert "2 documents for: torn" in people
    assert "nothing is found for: nowhere" in call(reviews, "search", "nowhere").out

    wrong = call(reviews, "search", "torn", "--model", "fct_review")
    assert wrong.code == 6
    assert "Searchable: sales.fct_reviews" in wrong.err
    nothing = call(reviews, "search", "?!")
    assert nothing.code == 6
    assert "there is no word to look for" in nothing.err


def test_without_a_declaration_it_says_what_to_do(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "search", "bear")
    assert answer.code == 6
    assert "nothing to search" in answer.err
    assert "meta: search" in answer.err


def test_a_wrong_declaration_is_told(shop: ToyShop, call: Call) -> None:
    shop.write("models/marts/sales/fct_reviews.sql", REVIEWS)
    shop.write(
        "models/marts/sales/reviews.yml", DECLARED.replace("review_words", "review_wrods", 1)
    )
    shop.write("models/marts/sales/review_words.sql", "select 1 as one")
    shop.write("models/ops/searchable_models.sql", REGISTER)
    for name in ("cross_db/text.sql", "cross_db/sql_literal.sql", "search/search.sql"):
        place = shop.root / "macros" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "macros" / name, place)
    done = call(shop, "build")
    assert done.code != 0
    assert "names the index review_wrods" in done.out + done.err
