{#- what is sent next may depend on the answer: whoever keeps what is sent asks again -#}
{% macro asked(query) %}
    {%- set answer = run_query(query).columns[0].values()[0] -%}
    {%- do log("asked: " ~ answer) -%}
    {{ return(answer) }}
{% endmacro %}
