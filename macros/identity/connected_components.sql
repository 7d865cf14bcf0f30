{% macro connected_components(links, node, neighbour, rounds) -%}
    {#- One round hands the least label on to the neighbours, then lets each
        node take the label of the node that its label names: the distance
        covered doubles, so a few rounds reach through any real group. -#}
    with round_0 as (
        select distinct
            {{ node }} as node,
            {{ node }} as component
        from {{ links }}
    )
    {%- for number in range(1, rounds + 1) %},

    spread_{{ number }} as (
        select
            links.{{ node }} as node,
            min(former.component) as component
        from {{ links }} as links
        inner join round_{{ number - 1 }} as former
            on links.{{ neighbour }} = former.node
        group by links.{{ node }}
    ),

    round_{{ number }} as (
        select
            spread.node,
            least(spread.component, jump.component) as component
        from spread_{{ number }} as spread
        inner join spread_{{ number }} as jump
            on spread.component = jump.node
    )
    {%- endfor %}

    select
        node as {{ node }},
        component
    from round_{{ rounds }}
{%- endmacro %}
