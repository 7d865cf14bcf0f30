{% macro veracity_part_of_defect(defect) -%}
    case
        when {{ defect }} in ('outdated', 'late') then 'fresh'
        when {{ defect }} in ('missing', 'truncated') then 'complete'
        when {{ defect }} = 'duplicated' then 'unique'
        when {{ defect }} in ('inconsistent', 'orphaned', 'unresolvable', 'drifted_schema') then 'consistent'
        else 'valid'
    end
{%- endmacro %}


{% macro veracity_part_of_test(test_type) -%}
    case
        when {{ test_type }} in ('not_null', 'row_conservation') then 'complete'
        when {{ test_type }} in ('unique', 'unique_combination', 'no_overlap') then 'unique'
        when {{ test_type }} = 'relationships' then 'consistent'
        else 'valid'
    end
{%- endmacro %}


{% macro veracity_weights() %}
    {%- set weights = var("veracity_weights") -%}
    {%- if weights is not mapping or weights | sort != ["complete", "consistent", "fresh", "unique", "valid"] -%}
        {{ exceptions.raise_compiler_error(
            "veracity_weights in dbt_project.yml is " ~ weights
            ~ "; expected a weight for each of complete, consistent, fresh, unique, valid"
        ) }}
    {%- endif -%}
    {%- for part, weight in weights.items() %}
select '{{ part }}' as part, cast({{ weight }} as double) as weight
        {%- if not loop.last %}
union all
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{% macro marts_and_their_sources() %}
    {%- set pairs = [] -%}
    {#- a unit test has no graph -#}
    {%- if execute and graph.nodes -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == "model" and "marts" in node.fqn[1:-1] -%}
            {%- for source in sources_above(node.unique_id) -%}
                {%- do pairs.append((node.schema ~ "." ~ node.alias, source.source_name, source.name)) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if pairs -%}
        {%- for mart, source, table in pairs | sort %}
select '{{ mart }}' as mart, '{{ source }}' as source, '{{ table }}' as table_name
            {%- if not loop.last %}
union all
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ no_rows({"mart": "string", "source": "string", "table_name": "string"}) }}
    {%- endif -%}
{% endmacro %}


{% macro sources_above(unique_id) %}
    {%- set ahead = [unique_id] -%}
    {%- set seen = [] -%}
    {%- set found = [] -%}
    {#- grows while it is walked -#}
    {%- for key in ahead if key not in seen -%}
        {%- do seen.append(key) -%}
        {%- if key in graph.sources -%}
            {%- do found.append(graph.sources[key]) -%}
        {%- elif key in graph.nodes -%}
            {%- do ahead.extend(graph.nodes[key].depends_on.nodes) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{% macro place_of_finding() -%}
    {#- what a comparison finds may be known by its key alone -#}
    coalesce(_file, record_key, '') || ' ' || coalesce(cast(_row as string), '')
{%- endmacro %}
