with terms as (
    select * from {{ ref("int_document_terms_counted") }}
),

weighed as (
    {{ weigh_terms("terms", "document_key") }}
),

keyed as (
    select
        {{ surrogate_key(["document_key", "term"]) }} as document_term_key,
        document_key,
        term,
        term_count,
        weight
    from weighed
)

select * from keyed
