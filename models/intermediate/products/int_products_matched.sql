with codes as (
    select * from {{ ref("int_product_codes_unioned") }}
),

exceptions as (
    select * from {{ ref("product_code_exceptions") }}
),

shop_codes as (
    select * from {{ ref("int_product_codes_unioned") }}
    where source = 'shop'
),

identified as (
    select
        codes.product_code_key,
        codes.source,
        codes.source_product_id,
        case
            when exceptions.ean is not null then 'exception'
            when codes.ean is not null then 'ean'
            when shop_codes.ean is not null then 'sku'
            else 'none'
        end as matched_by,
        coalesce(exceptions.ean, codes.ean, shop_codes.ean) as ean
    from codes
    left join exceptions
        on
            codes.source = exceptions.source
            and codes.source_product_id = exceptions.source_product_id
    left join shop_codes
        on codes.sku_compact = shop_codes.sku_compact
),

matched as (
    select
        product_code_key,
        -- a code that nothing identifies is a product of its own
        md5(coalesce(ean, source || '|' || source_product_id)) as product_key,
        source,
        source_product_id,
        ean,
        matched_by
    from identified
)

select * from matched
