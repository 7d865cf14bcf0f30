{% macro web_page_type(path) -%}
    case
        when {{ path }} = '/' then 'home'
        when {{ path }} like '/c/%' then 'category'
        when {{ path }} like '/p/%' then 'product'
        when {{ path }} in ('/search', '/cart', '/checkout', '/thanks', '/help')
            then substr({{ path }}, 2)
        else 'other'
    end
{%- endmacro %}
