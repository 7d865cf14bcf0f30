with calls as (
    select * from {{ ref("stg_documents__calls") }}
),

mails as (
    select * from {{ ref("stg_documents__mails") }}
),

records as (
    select * from {{ ref("stg_documents__records") }}
),

tickets as (
    select * from {{ ref("int_tickets_timed") }}
),

texts as (
    select
        document_id,
        'call' as document_kind,
        null as subject,
        transcript as body,
        null as from_address,
        0 as attachment_count
    from calls
    union all
    select
        document_id,
        'mail' as document_kind,
        subject,
        body,
        from_address,
        {{ sum_of_elements("attachments", "1") }} as attachment_count
    from mails
),

unioned as (
    select
        {{ surrogate_key(["texts.document_id"]) }} as document_key,
        tickets.ticket_key,
        tickets.customer_key,
        tickets.product_key,
        texts.document_id as source_document_id,
        tickets.source_ticket_id,
        texts.document_kind,
        records.language_code,
        coalesce(texts.subject, tickets.subject, texts.document_id) as title,
        texts.body,
        texts.from_address,
        cast(texts.attachment_count as bigint) as attachment_count,
        records.recorded_at
    from texts
    left join records
        on texts.document_id = records.document_id
    left join tickets
        on
            tickets.desk = 'helpdesk'
            and cast(records.ticket_id as string) = tickets.source_ticket_id
)

select * from unioned
