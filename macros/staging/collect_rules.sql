{% macro collect_rules(node, key, clean_columns) %}
    {%- set declared_all = [] -%}
    {%- for column in key -%}
        {#- without its key a row has no identity -#}
        {%- do declared_all.append({"column": column, "rule": {"required": true}}) -%}
    {%- endfor -%}
    {%- do declared_all.extend(declared_rules(node)) -%}

    {%- set rules = [] -%}
    {%- set reasons = [] -%}
    {%- for declared in declared_all -%}
        {%- set where = (declared.column or "meta.staging") ~ ".rules" -%}
        {%- if declared.column and declared.column not in clean_columns -%}
            {%- do staging_error(node, where, "belongs to no column of the model",
                "one of " ~ clean_columns | join(", ")) -%}
        {%- endif -%}
        {%- set rule = compile_rule(node, where, declared.column, declared.rule) -%}
        {%- if rule.reason not in reasons -%}
            {%- do reasons.append(rule.reason) -%}
            {%- if rule.reference -%}
                {%- do rule.reference.update({"name": "reference_" ~ reasons | length}) -%}
            {%- elif rule.usual -%}
                {%- do rule.usual.update({"name": "usual_" ~ reasons | length}) -%}
            {%- elif rule.newest -%}
                {%- do rule.newest.update({"name": "newest_" ~ reasons | length}) -%}
            {%- endif -%}
            {%- do rules.append(rule) -%}
        {%- endif -%}
    {%- endfor -%}
    {#- what is told but unreadable is not missing as well -#}
    {%- for typed in rules if typed.is_told -%}
        {%- for rule in rules if rule.kind == "required" and rule.column == typed.column -%}
            {%- do rule.update({"broken": rule.broken ~ " and not " ~ typed.is_told}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {#- nor is a sum judged whose parts are out of bounds -#}
    {%- for parts in rules if parts.kind == "each" -%}
        {%- for rule in rules if rule.kind == "sums" and rule.list == parts.column -%}
            {%- do rule.update({"broken": rule.broken ~ " and not " ~ parts.broken}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(rules) }}
{% endmacro %}


{% macro declared_rules(node) %}
    {%- set found = [] -%}
    {%- for column in node.columns.values() -%}
        {%- set meta = column.get("config", {}).get("meta") or column.get("meta", {}) -%}
        {%- for rule in listed_rules(node, column.name ~ ".rules", meta.get("rules", [])) -%}
            {%- do found.append({"column": column.name | lower, "rule": rule}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set meta = node.config.meta.get("staging", {}) -%}
    {%- for rule in listed_rules(node, "meta.staging.rules", meta.get("rules", [])) -%}
        {%- do found.append({"column": none, "rule": rule}) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{% macro listed_rules(node, where, found) %}
    {%- if found is string or found is mapping or found is not iterable -%}
        {%- do staging_error(node, where, "is " ~ found, "a list of rules, such as [{required: true}]") -%}
    {%- endif -%}
    {%- for rule in found if rule is not mapping -%}
        {%- do staging_error(node, where, "holds " ~ rule, "rules of the form {name: argument}") -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{% macro compile_rule(node, where, column, rule) %}
    {%- set options = {} -%}
    {%- set names = [] -%}
    {%- for name, argument in rule.items() -%}
        {%- if name in ["name", "defect", "severity"] -%}
            {%- do options.update({name: argument}) -%}
        {%- else -%}
            {%- do names.append(name) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if names | length != 1 or not context.get("rule_" ~ names[0]) -%}
        {%- do staging_error(node, where, "holds " ~ rule,
            "one rule of " ~ known_rules() | join(", ") ~ ", and optionally its name, severity and defect") -%}
    {%- endif -%}
    {%- if options.get("severity", "reject") not in ["reject", "flag"] -%}
        {%- do staging_error(node, where ~ " severity", "is " ~ options.severity, "reject or flag") -%}
    {%- endif -%}

    {%- set compiled = context["rule_" ~ names[0]](column, rule[names[0]]) -%}
    {%- if compiled.error -%}
        {%- do staging_error(node, where ~ " " ~ names[0], "is " ~ rule[names[0]], compiled.error) -%}
    {%- endif -%}
    {%- if compiled.reference -%}
        {%- do complete_reference(compiled.reference) -%}
    {%- endif -%}
    {{ return({
        "kind": names[0],
        "column": column,
        "broken": compiled.broken,
        "is_told": compiled.is_told,
        "list": compiled.list,
        "reason": options.get("name") or compiled.reason,
        "defect": options.get("defect") or compiled.defect,
        "severity": options.get("severity") or compiled.get("severity", "reject"),
        "reference": compiled.reference,
        "usual": compiled.usual,
        "newest": compiled.newest,
    }) }}
{% endmacro %}


{% macro known_rules() %}
    {%- set names = [] -%}
    {%- for name in context.keys() if name.startswith("rule_") -%}
        {%- do names.append(name[5:]) -%}
    {%- endfor -%}
    {{ return(names | sort) }}
{% endmacro %}


{% macro complete_reference(reference) %}
    {%- set target = staging_node(reference.model) -%}
    {%- set their_key = [] if target is none else target.config.meta.get("staging", {}).get("key", []) -%}
    {%- set is_key = their_key | sort == reference.columns.values() | sort -%}
    {%- do reference.update({
        "relation": ref(reference.model),
        "is_key": is_key,
        "absent_keys": this.incorporate(
            path={"schema": "absent_keys", "identifier": reference.model}
        ) if is_key else none,
        "quarantine": this.incorporate(
            path={"schema": "quarantine", "identifier": reference.model}
        ) if is_key else none,
    }) -%}
{% endmacro %}


{% macro collect_filters(node, meta) %}
    {%- set where = "meta.staging.filters" -%}
    {%- set found = meta.get("filters", []) -%}
    {%- if found is string or found is mapping or found is not iterable -%}
        {%- do staging_error(node, where, "is " ~ found, "a list of filters") -%}
    {%- endif -%}
    {%- for filter in found
        if filter is not mapping or filter.keys() | sort != ["name", "reason", "where"] -%}
        {%- do staging_error(node, where, "holds " ~ filter,
            "each filter with name, where (a condition) and reason") -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}
