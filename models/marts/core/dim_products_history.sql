with versions as (
    select * from {{ ref("int_products_versioned") }}
),

matched as (
    select * from {{ ref("int_products_matched") }}
),

described as (
    select
        {{ surrogate_key([
            "versions.product_code_key", "versions.valid_from"
        ]) }} as product_version_key,
        matched.product_key,
        versions.source,
        versions.source_product_id,
        versions.product_name,
        versions.list_price,
        versions.list_price_currency_code,
        versions.is_current,
        versions.valid_from,
        versions.valid_to
    from versions
    inner join matched
        on versions.product_code_key = matched.product_code_key
)

select * from described
