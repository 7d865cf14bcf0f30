-- What two systems say differently. Here none are compared yet: a model of
-- `models/intermediate` that compares them belongs into the place of this
-- query, with its columns.
with

listed as (

    {{ no_rows({
        "subject": "string",
        "subject_key": "string",
        "source": "string",
        "table_name": "string",
        "record_key": "string",
        "column_name": "string",
        "stated_value": "string",
        "trusted_value": "string",
        "trusted_because": "string",
        "treatment": "string",
        "_file": "string",
        "_row": "bigint",
    }) | indent(4) }}

)

select * from listed
