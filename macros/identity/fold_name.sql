{% macro fold_name(expression) -%}
    {#- umlauts have two usual spellings (ü, ue): both end as the bare vowel -#}
    {%- set folded = namespace(text=without_accents("lower(" ~ expression ~ ")")) -%}
    {%- for letter, plain in [("ß", "ss"), ("æ", "a"), ("œ", "o"), ("ø", "o"),
        ("ł", "l"), ("đ", "d"), ("ae", "a"), ("oe", "o"), ("ue", "u")] -%}
        {%- set folded.text = "replace(" ~ folded.text ~ ", '" ~ letter ~ "', '" ~ plain ~ "')" -%}
    {%- endfor -%}
    nullif(trim({{ replace_matches(folded.text, "[^a-z ]") }}), '')
{%- endmacro %}
