{% macro explode_words(cte, column, keep) -%}
    {{- return(adapter.dispatch("explode_words")(cte, column, keep)) -}}
{%- endmacro %}


{% macro default__explode_words(cte, column, keep) -%}
    select
        {{ keep | join(", ") }},
        unnest(regexp_extract_all(
            lower({{ without_accents(column) }}), '[\p{L}\p{N}]+'
        )) as term
    from {{ cte }}
{%- endmacro %}


{% macro spark__explode_words(cte, column, keep) -%}
    select
        {{ keep | join(", ") }},
        explode(regexp_extract_all(
            lower({{ without_accents(column) }}), r'[\p{L}\p{N}]+', 0
        )) as term
    from {{ cte }}
{%- endmacro %}


{% macro weigh_terms(cte, id, saturation=1.2, length_share=0.75) -%}
    select
        weighing.{{ id }},
        weighing.term,
        weighing.term_count,
        ln(1 + (weighing.document_count - weighing.holder_count + 0.5) / nullif(weighing.holder_count + 0.5, 0))
        * weighing.term_count * ({{ saturation }} + 1)
        / nullif(
            weighing.term_count + {{ saturation }} * (
                1 - {{ length_share }}
                + {{ length_share }} * weighing.word_count / nullif(weighing.mean_word_count, 0)
            ),
            0
        ) as weight
    from (
        select
            terms.{{ id }},
            terms.term,
            terms.term_count,
            count(*) over (partition by terms.term) as holder_count,
            lengths.word_count,
            totals.document_count,
            totals.mean_word_count
        from {{ cte }} as terms
        inner join (
            select {{ id }}, sum(term_count) as word_count
            from {{ cte }}
            group by {{ id }}
        ) as lengths
            on terms.{{ id }} = lengths.{{ id }}
        cross join (
            select
                count(distinct {{ id }}) as document_count,
                sum(term_count) * 1.0 / nullif(count(distinct {{ id }}), 0) as mean_word_count
            from {{ cte }}
        ) as totals
    ) as weighing
{%- endmacro %}


{% macro searchable_models() %}
    {%- set found = [] -%}
    {#- a unit test has no graph -#}
    {%- if execute and graph.nodes -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == "model" and node.config.meta.get("search") is not none -%}
            {%- do found.append(searchable_model(node, node.config.meta.search)) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- for row in found %}
select
    '{{ row.model }}' as model,
    '{{ row.id }}' as id_column,
    '{{ row.title }}' as title_column,
    '{{ row.text }}' as text_column,
    '{{ row.show }}' as shown_columns,
    '{{ row.index }}' as index_model
        {%- if not loop.last %}
union all
        {%- endif -%}
    {%- else %}
select
    cast(null as string) as model,
    cast(null as string) as id_column,
    cast(null as string) as title_column,
    cast(null as string) as text_column,
    cast(null as string) as shown_columns,
    cast(null as string) as index_model
where false
    {%- endfor -%}
{% endmacro %}


{% macro searchable_model(node, declared) %}
    {%- set expected = "{id: column, title: column, text: column, index: model, show: [columns]}" -%}
    {%- if declared is not mapping -%}
        {%- do search_error(node, "is " ~ declared, expected) -%}
    {%- endif -%}
    {%- for name in declared if name not in ["id", "title", "text", "index", "show"] -%}
        {%- do search_error(node, "holds " ~ name, expected) -%}
    {%- endfor -%}
    {%- for name in ["id", "title", "text", "index"] if declared.get(name) is not string -%}
        {%- do search_error(node, "lacks " ~ name, expected) -%}
    {%- endfor -%}
    {%- set shown = declared.get("show", []) -%}
    {%- if shown is string or shown is mapping or shown is not iterable -%}
        {%- do search_error(node, "shows " ~ shown, "show: a list of columns") -%}
    {%- endif -%}
    {%- for column in [declared.id, declared.title, declared.text] + shown
        if column not in node.columns -%}
        {%- do search_error(node, "names " ~ column, "one of the model's columns " ~ node.columns.keys() | join(", ")) -%}
    {%- endfor -%}
    {%- set indexes = [] -%}
    {%- for other in graph.nodes.values() if other.resource_type == "model" and other.name == declared.index -%}
        {%- do indexes.append(other.schema ~ "." ~ other.alias) -%}
    {%- endfor -%}
    {%- if not indexes -%}
        {%- do search_error(node, "names the index " ~ declared.index, "a model built with weigh_terms()") -%}
    {%- endif -%}
    {{ return({
        "model": node.schema ~ "." ~ node.alias,
        "id": declared.id,
        "title": declared.title,
        "text": declared.text,
        "show": shown | join(","),
        "index": indexes[0],
    }) }}
{% endmacro %}


{% macro search_error(node, found, expected) %}
    {%- set file = (node.patch_path or node.original_file_path).split("://")[-1] -%}
    {{ exceptions.raise_compiler_error(
        node.name ~ ": meta.search " ~ found ~ "; expected " ~ expected ~ ". Mend it in " ~ file ~ "."
    ) }}
{% endmacro %}
