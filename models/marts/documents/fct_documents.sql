with documents as (
    select * from {{ ref("int_documents_unioned") }}
),

described as (
    select
        document_key,
        ticket_key,
        customer_key,
        product_key,
        source_document_id,
        source_ticket_id,
        document_kind,
        language_code,
        title,
        body,
        from_address,
        attachment_count,
        cast(recorded_at as date) as recorded_date,
        recorded_at
    from documents
)

select * from described
