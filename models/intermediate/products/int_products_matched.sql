{{ config(materialized="by_key", unique_key="product_code_key") }}
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

completed as (
    select
        codes.product_code_key,
        codes.source,
        codes.source_product_id,
        codes.ean,
        exceptions.sku is not null as is_exception,
        coalesce(
            lower(replace(exceptions.sku, '-', '')), codes.sku_compact
        ) as sku_compact
    from codes
    left join exceptions
        on
            codes.source = exceptions.source
            and codes.source_product_id = exceptions.source_code
),

identified as (
    select
        completed.product_code_key,
        completed.source,
        completed.source_product_id,
        case
            when completed.is_exception then 'exception'
            when completed.ean is not null then 'ean'
            when shop_codes.ean is not null then 'sku'
            else 'none'
        end as matched_by,
        case
            when completed.is_exception then shop_codes.ean
            else coalesce(completed.ean, shop_codes.ean)
        end as ean
    from completed
    left join shop_codes
        on completed.sku_compact = shop_codes.sku_compact
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
