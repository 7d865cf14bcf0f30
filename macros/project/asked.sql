{#- what is sent next may depend on the answer: whoever keeps what is sent asks again -#}
{% macro asked(query) %}
    {%- set answer = run_query(query).columns[0].values()[0] -%}
    {%- do log("asked: " ~ answer) -%}
    {{ return(answer) }}
{% endmacro %}


{#- ways: what to do, each with the answers under which it is done; the first that fits -#}
{% macro fitting_way(ways) %}
    {%- set told = {} -%}
    {%- for way in ways -%}
        {%- set differing = [] -%}
        {%- for query, expected in way.when if not differing -%}
            {%- if query not in told -%}
                {%- do told.update({query: asked(query)}) -%}
            {%- endif -%}
            {%- if told[query] != expected -%}
                {%- do differing.append(query) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if not differing -%}
            {{ return(way) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return(none) }}
{% endmacro %}


{#- tells what would have been sent last with other answers: the runner finds it known when they come -#}
{% macro rehearse(when, text) %}
    {%- do log("rehearsed: " ~ tojson({"when": when, "sql": text})) -%}
{% endmacro %}
