with matched as (
    select * from {{ ref("int_products_matched") }}
),

codes as (
    select * from {{ ref("int_product_codes_unioned") }}
),

merged as (
    select * from {{ ref("int_products_merged") }}
),

claims as (
    select
        matched.product_key,
        matched.source,
        matched.source_product_id,
        codes.product_name,
        merged.product_name as trusted_name,
        codes.list_price,
        merged.list_price as trusted_price,
        codes.list_price / nullif(merged.list_price, 0) as price_ratio
    from matched
    inner join codes
        on matched.product_code_key = codes.product_code_key
    inner join merged
        on matched.product_key = merged.product_key
),

-- a system's price list stands in one ratio to the trusted one: its currency
usual_ratios as (
    select
        source,
        median(price_ratio) as usual_ratio
    from claims
    where price_ratio is not null
    group by source
),

compared as (
    select
        claims.*,
        abs(claims.price_ratio / nullif(usual_ratios.usual_ratio, 0) - 1)
        > {{ var("price_tolerance_pct") }} / 100.0 as is_price_off,
        not {{ shares_word("claims.product_name", "claims.trusted_name") }}
            as is_name_off
    from claims
    left join usual_ratios
        on claims.source = usual_ratios.source
),

disagreeing as (
    select
        product_key,
        source,
        source_product_id,
        'product_name' as column_name,
        product_name as stated_value,
        trusted_name as trusted_value
    from compared
    where is_name_off
    union all
    select
        product_key,
        source,
        source_product_id,
        'list_price' as column_name,
        cast(list_price as string) as stated_value,
        cast(trusted_price as string) as trusted_value
    from compared
    where is_price_off
)

select * from disagreeing
