{% macro utc_timestamp(column) -%}
    {{- return(adapter.dispatch("utc_timestamp")(column)) -}}
{%- endmacro %}


{% macro default__utc_timestamp(column) -%}
    {#- by microseconds: at time zone would ask the calendar of zones for each row -#}
    make_timestamp(epoch_us(try_cast({{ column }} as timestamp with time zone)))
{%- endmacro %}


{% macro spark__utc_timestamp(column) -%}
    cast(to_utc_timestamp(try_cast({{ column }} as timestamp), current_timezone()) as timestamp_ntz)
{%- endmacro %}


{% macro utc_from_local(column, time_zone) -%}
    {{- return(adapter.dispatch("utc_from_local")(column, time_zone)) -}}
{%- endmacro %}


{% macro default__utc_from_local(column, time_zone) -%}
    {#- an unknown zone would be an error that try() does not catch -#}
    case
        when {{ time_zone }} in (select name from pg_timezone_names())
            then make_timestamp(epoch_us({{ column }} at time zone {{ time_zone }}))
    end
{%- endmacro %}


{% macro spark__utc_from_local(column, time_zone) -%}
    convert_timezone({{ time_zone }}, 'UTC', cast({{ column }} as timestamp_ntz))
{%- endmacro %}


{% macro timestamp_from_epoch_ms(column) -%}
    {{- return(adapter.dispatch("timestamp_from_epoch_ms")(column)) -}}
{%- endmacro %}


{% macro default__timestamp_from_epoch_ms(column) -%}
    epoch_ms(try_cast({{ column }} as bigint))
{%- endmacro %}


{% macro spark__timestamp_from_epoch_ms(column) -%}
    convert_timezone(current_timezone(), 'UTC', cast(timestamp_millis(try_cast({{ column }} as bigint)) as timestamp_ntz))
{%- endmacro %}


{% macro parse_timestamp(column, format) -%}
    {{- return(adapter.dispatch("parse_timestamp")(column, checked_time_format(format))) -}}
{%- endmacro %}


{% macro default__parse_timestamp(column, format) -%}
    {%- set spelled = namespace(format=format) -%}
    {%- for letters, code in [
        ("yyyy", "%Y"), ("MMMM", "%B"), ("MMM", "%b"), ("MM", "%m"), ("dd", "%d"),
        ("HH", "%H"), ("mm", "%M"), ("ss", "%S"),
    ] -%}
        {%- set spelled.format = spelled.format | replace(letters, code) -%}
    {%- endfor -%}
    try_strptime({{ column }}, {{ sql_literal(spelled.format) }})
{%- endmacro %}


{% macro spark__parse_timestamp(column, format) -%}
    {%- set read = namespace(text=column) -%}
    {%- if "MMM" in format -%}
        {#- there names of months have to begin with a capital -#}
        {%- set read.text = "lower(" ~ column ~ ")" -%}
        {%- for month in "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split() -%}
            {%- set read.text = "replace(" ~ read.text ~ ", '" ~ month | lower ~ "', '" ~ month ~ "')" -%}
        {%- endfor -%}
    {%- endif -%}
    cast(try_to_timestamp({{ read.text }}, {{ sql_literal(format) }}) as timestamp_ntz)
{%- endmacro %}


{% macro parse_date(column, format) -%}
    cast({{ parse_timestamp(column, format) }} as date)
{%- endmacro %}


{% macro checked_time_format(format) %}
    {%- set rest = namespace(letters=format) -%}
    {%- for letters in ["yyyy", "MMMM", "MMM", "MM", "dd", "HH", "mm", "ss"] -%}
        {%- set rest.letters = rest.letters | replace(letters, "") -%}
    {%- endfor -%}
    {%- if modules.re.search("[A-Za-z%]", rest.letters) -%}
        {{ exceptions.raise_compiler_error(
            "parse_date, parse_timestamp: the format is " ~ format
            ~ "; expected one built of yyyy, MM, MMM (Jan), MMMM (January), dd, HH, mm, ss and punctuation"
        ) }}
    {%- endif -%}
    {{ return(format) }}
{% endmacro %}


{% macro minutes_between(start, end) -%}
    {{- return(adapter.dispatch("minutes_between")(start, end)) -}}
{%- endmacro %}


{% macro default__minutes_between(start, end) -%}
    cast(floor(epoch({{ end }} - {{ start }}) / 60) as bigint)
{%- endmacro %}


{% macro spark__minutes_between(start, end) -%}
    cast(floor(timestampdiff(second, {{ start }}, {{ end }}) / 60) as bigint)
{%- endmacro %}


{% macro date_spine_query(first_date, last_date) -%}
    {{- return(adapter.dispatch("date_spine_query")(first_date, last_date)) -}}
{%- endmacro %}


{% macro default__date_spine_query(first_date, last_date) -%}
    select cast(day_at as date) as date_day
    from generate_series(
        cast({{ first_date }} as timestamp),
        cast({{ last_date }} as timestamp),
        interval 1 day
    ) as days (day_at)
{%- endmacro %}


{% macro spark__date_spine_query(first_date, last_date) -%}
    select explode(
        sequence(cast({{ first_date }} as date), cast({{ last_date }} as date))
    ) as date_day
{%- endmacro %}


{% macro period_start(text) -%}
    case
        when {{ matches(text, "^\\d{4}-\\d{2}-\\d{2}$") }}
            then try_cast({{ text }} as date)
        when {{ matches(text, "^\\d{8}$") }}
            then {{ parse_date(text, "yyyyMMdd") }}
        when {{ matches(text, "^\\d{4}-\\d{2}$") }}
            then try_cast({{ text }} || '-01' as date)
        when {{ matches(text, "^\\d{4}-W\\d{2}$") }}
            {#- the fourth of January lies in a year's first ISO week -#}
            then cast({{ dbt.dateadd(
                "day",
                "7 * (try_cast(substr(" ~ text ~ ", 7, 2) as integer) - 1)",
                "date_trunc('week', try_cast(substr(" ~ text ~ ", 1, 4) || '-01-04' as date))"
            ) }} as date)
    end
{%- endmacro %}


{% macro utc_by_receiver(event, sent, received) -%}
    {%- set error = dbt.datediff(utc_timestamp(received), utc_timestamp(sent), "second") -%}
    case
        when abs({{ error }}) > {{ var("clock_tolerance_seconds") }}
            then {{ dbt.dateadd("second", "-1 * " ~ error, utc_timestamp(event)) }}
        else {{ utc_timestamp(event) }}
    end
{%- endmacro %}
