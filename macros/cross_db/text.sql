{% macro matches(column, pattern) -%}
    {{- return(adapter.dispatch("matches")(column, pattern)) -}}
{%- endmacro %}


{% macro default__matches(column, pattern) -%}
    {#- plain words are looked for in a third of the time -#}
    {%- if modules.re.fullmatch("[A-Za-z0-9 _/-]+([|][A-Za-z0-9 _/-]+)*", pattern) -%}
    (
        {%- for word in pattern.split("|") -%}
        {{ " or " if not loop.first }}contains({{ column }}, {{ sql_literal(word) }})
        {%- endfor -%}
    )
    {%- else -%}
    regexp_matches({{ column }}, {{ sql_literal(pattern) }})
    {%- endif -%}
{%- endmacro %}


{% macro spark__matches(column, pattern) -%}
    {{ column }} rlike r{{ sql_literal(pattern) }}
{%- endmacro %}


{% macro replace_matches(column, pattern, replacement="") -%}
    {%- if "\\" in replacement or "$" in replacement -%}
        {{ exceptions.raise_compiler_error(
            "replace_matches: the replacement is " ~ replacement
            ~ "; expected plain text, because engines refer to groups differently"
        ) }}
    {%- endif -%}
    {{- return(adapter.dispatch("replace_matches")(column, pattern, replacement)) -}}
{%- endmacro %}


{% macro default__replace_matches(column, pattern, replacement) -%}
    regexp_replace({{ column }}, {{ sql_literal(pattern) }}, {{ sql_literal(replacement) }}, 'g')
{%- endmacro %}


{% macro spark__replace_matches(column, pattern, replacement) -%}
    regexp_replace({{ column }}, r{{ sql_literal(pattern) }}, {{ sql_literal(replacement) }})
{%- endmacro %}


{% macro extract_match(column, pattern, group=0) -%}
    {{- return(adapter.dispatch("extract_match")(column, pattern, group)) -}}
{%- endmacro %}


{% macro default__extract_match(column, pattern, group) -%}
    nullif(regexp_extract({{ column }}, {{ sql_literal(pattern) }}, {{ group }}), '')
{%- endmacro %}


{% macro spark__extract_match(column, pattern, group) -%}
    nullif(regexp_extract({{ column }}, r{{ sql_literal(pattern) }}, {{ group }}), '')
{%- endmacro %}


{% macro without_accents(column) -%}
    {{- return(adapter.dispatch("without_accents")(column)) -}}
{%- endmacro %}


{% macro default__without_accents(column) -%}
    strip_accents({{ column }})
{%- endmacro %}


{% macro spark__without_accents(column) -%}
    {%- set accented = "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöùúûüýÿĀāĂăĄąĆćČčĎďĒēĖėĘęĚěĞğĪīĮįİĹĺĽľŃńŅņŇňŌōŐőŔŕŘřŚśŞşŠšŢţŤťŪūŮůŰűŲųŹźŻżŽžȘșȚț" -%}
    {%- set plain = "AAAAAACEEEEIIIINOOOOOUUUUYaaaaaaceeeeiiiinooooouuuuyyAaAaAaCcCcDdEeEeEeEeGgIiIiILlLlNnNnNnOoOoRrRrSsSsSsTtTtUuUuUuUuZzZzZzSsTt" -%}
    translate({{ column }}, '{{ accented }}', '{{ plain }}')
{%- endmacro %}


{% macro non_blank(column) -%}
    {{- return(adapter.dispatch("non_blank")(column)) -}}
{%- endmacro %}


{% macro default__non_blank(column) -%}
    {#- trim looks for the blanks of all scripts: five times as dear as to see that none can be there -#}
    {%- if "(" in column -%}
    nullif(trim({{ column }}), '')
    {%- else -%}
    nullif(
        case
            when
                strlen({{ column }}) = length({{ column }})
                and not starts_with({{ column }}, ' ')
                and not ends_with({{ column }}, ' ')
                then {{ column }}
            else trim({{ column }})
        end,
        ''
    )
    {%- endif -%}
{%- endmacro %}


{% macro spark__non_blank(column) -%}
    nullif(trim({{ column }}), '')
{%- endmacro %}
