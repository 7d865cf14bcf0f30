{% macro connected_components(links, node, neighbour, rounds) -%}
    {#- One round hands the least label on to the neighbours, then lets each
        node take the label of the node that its label names: the distance
        covered doubles, so a few rounds reach through any real group. -#}
    with round_0 as (
        select distinct
            {{ node }} as node,
            {{ node }} as label
        from {{ links }}
    )
    {%- for number in range(1, rounds + 1) %},

    spread_{{ number }} as (
        select
            links.{{ node }} as node,
            min(labels.label) as label
        from {{ links }} as links
        inner join round_{{ number - 1 }} as labels
            on links.{{ neighbour }} = labels.node
        group by links.{{ node }}
    ),

    round_{{ number }} as (
        select
            spread.node,
            least(spread.label, jump.label) as label
        from spread_{{ number }} as spread
        inner join spread_{{ number }} as jump
            on spread.label = jump.node
    )
    {%- endfor %}

    select
        node as {{ node }},
        label
    from round_{{ rounds }}
{%- endmacro %}
