with documents as (
    select * from {{ ref("int_documents_unioned") }}
),

texts as (
    select
        document_key,
        title || ' ' || coalesce(body, '') as words
    from documents
),

listed as (
    {{ explode_words("texts", "words", ["document_key"]) }}
),

counted as (
    select
        document_key,
        term,
        count(*) as term_count
    from listed
    group by document_key, term
)

select * from counted
