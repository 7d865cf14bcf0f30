with declared as (
    {{ searchable_models() }}
),

listed as (
    select
        model,
        id_column,
        title_column,
        text_column,
        shown_columns,
        index_model
    from declared
)

select * from listed
