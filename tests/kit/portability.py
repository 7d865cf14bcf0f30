"""Refuse SQL that DuckDB and Spark do not share, or read differently in silence.

compiled models ─> two renderings of each dispatch macro ─┬─> as Spark SQL: does it parse?
                                                          └─> as an opaque call: is it refused?

A model may use the SQL that both engines share; the rest belongs in an `adapter.dispatch` macro.
Compiling on DuckDB would show the DuckDB side of such a macro and hide the Spark side, so
dispatch is replaced while dbt compiles: each call leaves a mark, and a mark is filled in twice.
Once with the macro's `spark__` (or `default__`) text, to be parsed as Spark SQL; once as a plain
function call that keeps the arguments, so that what a model's author wrote is judged and what the
macro hides is not.

Functions are judged by a list of those that are shared with the same meaning, not by a list of
bad ones: an unknown function is refused until someone has looked it up on both engines.

Left out, because it cannot be decided without types: a difference of two dates (days here, an
interval there), and text compared with numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from runner.lineage.queries import quoted_columns


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHARED_FUNCTIONS = _words(
    """
    abs acos asin atan atan2 avg bit_length bool_and bool_or cast cbrt ceil ceiling char_length
    chr coalesce concat_ws corr cos cot count count_if covar_pop covar_samp cume_dist date_trunc
    day dayofmonth dayofyear degrees dense_rank exp factorial first_value floor gcd greatest hour
    if ifnull instr isnan kurtosis lag last_day last_value lcase lcm lead least left length
    levenshtein ln log10 log2 lower lpad make_date max max_by md5 median min min_by minute month
    nth_value ntile nullif percent_rank percentile_cont percentile_disc pi pow power quarter
    radians rank repeat replace reverse right round row_number rpad second sign sin skewness
    split_part sqrt starts_with stddev stddev_pop stddev_samp string_agg substr substring sum tan
    translate trim try_cast ucase upper var_pop var_samp variance week weekofyear year
    """
)
"""Functions with one meaning on both engines. Look a new one up on both before it is added."""

INSTEAD = {
    "any_value": "max(): Spark's any_value may answer null where DuckDB's does not",
    "arg_max": "max_by()",
    "arg_min": "min_by()",
    "concat": "||: DuckDB's concat skips nulls, Spark's answers null",
    "date_add": "dbt.dateadd()",
    "date_diff": "dbt.datediff()",
    "date_part": "year(), month(), day()",
    "datediff": "dbt.datediff()",
    "dayofweek": "a dispatch macro: Sunday is 0 on DuckDB and 1 on Spark",
    "extract": "year(), month(), day()",
    "generate_series": "a dispatch macro",
    "list": "a dispatch macro",
    "log": "ln() or log10(): DuckDB's log has base 10, Spark's base e",
    "quantile_cont": "percentile_cont(...) within group (order by ...)",
    "range": "a dispatch macro",
    "regexp_extract": "a dispatch macro: DuckDB answers the whole match, Spark its first group",
    "regexp_matches": "a dispatch macro",
    "regexp_replace": "a dispatch macro: DuckDB replaces the first match, Spark all of them",
    "sha256": "md5()",
    "split": "a dispatch macro: the separator is a regular expression on Spark",
    "strftime": "a dispatch macro",
    "strptime": "a dispatch macro",
    "unnest": "a dispatch macro",
    "weekday": "a dispatch macro: days count from another start",
}

BARE_TYPES = {
    "varchar": "string",
    "text": "string",
    "hugeint": "decimal(38, 0)",
    "timestamptz": "timestamp",
    "uuid": "string",
    "json": "string",
    "ubigint": "decimal(20, 0)",
    "uinteger": "bigint",
}

KEYWORDS_BEFORE_PARENTHESIS = _words(
    "all and any as between by case distinct else except exists filter from group having in "
    "intersect join like not on or order over partition qualify select some then union using "
    "values when where within"
)

TYPES_WITH_ARGUMENTS = frozenset({"decimal", "numeric"})

CLOCKS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)

INTEGER_TYPES = frozenset(
    {exp.DataType.Type.INT, exp.DataType.Type.BIGINT, exp.DataType.Type.SMALLINT}
)
STAR_OPTIONS = ("except_", "except", "replace", "rename")

NESTED = (
    exp.Array,
    exp.Struct,
    exp.ToMap,
    exp.JSONExtract,
    exp.JSONExtractScalar,
    exp.Bracket,
    exp.Lambda,
)

INTEGER_RESULTS = (exp.Round, exp.Floor, exp.Ceil, exp.Count, exp.Length, exp.Sign)

CORE_TYPES = {
    "type_string": "string",
    "type_int": "int",
    "type_bigint": "bigint",
    "type_float": "double",
    "type_numeric": "decimal(28, 6)",
    "type_boolean": "boolean",
    "type_timestamp": "timestamp",
}
"""What dbt-spark answers for dbt's type macros: it is no dependency, and dbt's defaults differ."""

CORE_EXPRESSIONS = _words(
    "any_value bool_or cast_bool_to_text concat current_timestamp date_trunc dateadd datediff "
    "escape_single_quotes except hash intersect last_day length listagg position replace right "
    "safe_cast split_part string_literal"
)

TIME_FORMAT = re.compile(r"[yMdHms]+([-/.:T ]+[yMdHms]+)*")

MARK = re.compile(r"__dispatched_(\d+)__")


@dataclass(frozen=True)
class Refusal:
    """One construct that the two engines do not share.

    Attributes:
        line: 1-based line in the rendered SQL.
        found: the construct as written.
        instead: what to write in its place.
    """

    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"line {self.line}: `{self.found}`; write {self.instead}"


@dataclass(frozen=True)
class Rendering:
    """One model's SQL, rendered for the two questions.

    Attributes:
        path: the model's file, relative to the project.
        spark: every dispatch macro filled in with its Spark text.
        opaque: every dispatch macro of this project shown as a function call with its arguments.
    """

    path: str
    spark: str
    opaque: str


@dataclass
class Dispatcher:
    """Stands in for `adapter.dispatch` while dbt compiles, and remembers each call.

    Attributes:
        calls: per mark, the Spark text and the opaque text.
        missing: macros with no implementation that Spark could use.
    """

    calls: list[tuple[str, str]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)

    def dispatch(self, original: Any, wrapper: Any, name: str, namespace: str | None = None) -> Any:
        """Return the macro to call for `name`, marked when this project owns it."""
        if namespace == "dbt" and name in CORE_TYPES:
            return lambda *args, **kwargs: CORE_TYPES[name]
        if namespace == "dbt":
            core = name in CORE_EXPRESSIONS and self._find(wrapper, name, namespace)
            return self._marking(name, core) if core else original(wrapper, name, namespace)
        if self._find(wrapper, name, namespace, ("duckdb", "default")) is None or "__" in name:
            return original(wrapper, name, namespace)
        macro = self._find(wrapper, name, namespace)
        if macro is None:
            self.missing.add(name)
            macro = original(wrapper, name, namespace)
        return self._marking(name, macro)

    def _find(
        self,
        wrapper: Any,
        name: str,
        namespace: str | None,
        prefixes: tuple[str, ...] = ("spark", "default"),
    ) -> Any:
        from dbt.exceptions import CompilationError

        for package in wrapper._get_search_packages(namespace):
            for prefix in prefixes:
                try:
                    macro = wrapper._namespace.get_from_package(package, f"{prefix}__{name}")
                except CompilationError:
                    continue
                if macro is not None:
                    return macro
        return None

    def _marking(self, name: str, macro: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            text = macro(*args, **kwargs)
            if not isinstance(text, str):
                return text
            values = [*args, *kwargs.values()]
            shown = ", ".join(_as_argument(value) for value in values)
            opaque = f"dispatched__{name}({shown})"
            if re.match(r"\s*\(?\s*(select|with)\b", text):
                opaque = f"select * from {opaque}"
            self.calls.append((text, opaque))
            return f"__dispatched_{len(self.calls) - 1}__"

        return call

    def fill(self, compiled: str, side: int) -> str:
        """Replace every mark, inner ones too, by its Spark (0) or opaque (1) text."""
        while MARK.search(compiled):
            compiled = MARK.sub(lambda found: self.calls[int(found[1])][side], compiled)
        return compiled


def _as_argument(value: Any) -> str:
    """Show a macro's argument as SQL where it is SQL, so that it is judged, else as a text."""
    if isinstance(value, list | tuple):
        return ", ".join(_as_argument(item) for item in value)
    text = str(value)
    is_pattern = TIME_FORMAT.fullmatch(text) or re.search(r"^\[|[\^\\]", text)
    try:
        if not is_pattern and sqlglot.parse_one(f"select {text}", read="duckdb").expressions:
            return text
    except SqlglotError:
        pass
    return "'" + text.replace("'", "''") + "'"


def render(
    project_dir: Path, target_path: Path, data_dir: Path
) -> tuple[list[Rendering], set[str]]:
    """Compile the project once and render each model twice.

    Args:
        project_dir: folder of dbt_project.yml.
        target_path: where dbt may write its artifacts.
        data_dir: the project's data folder for this compilation; its warehouse may be empty.

    Returns:
        The renderings of all models and singular tests, and the names of dispatch macros that
        Spark lacks.

    Raises:
        RuntimeError: dbt could not compile the project.
    """
    from dbt.cli.main import dbtRunner
    from dbt.context.providers import BaseDatabaseWrapper

    original = BaseDatabaseWrapper.dispatch
    dispatcher = Dispatcher()

    def patched(wrapper: Any, macro_name: str, macro_namespace: str | None = None, **_: Any) -> Any:
        return dispatcher.dispatch(original, wrapper, macro_name, macro_namespace)

    (data_dir / "warehouse").mkdir(parents=True, exist_ok=True)
    common = ["--project-dir", str(project_dir), "--profiles-dir", str(project_dir), "--quiet"]
    common += ["--target-path", str(target_path)]
    chosen = ["--no-populate-cache", "--exclude", "test_type:generic", "test_type:unit"]
    with mock.patch.dict(os.environ, {"WELLSPRING_DATA": str(data_dir)}), _let_go():
        # parsed before the stand-in is there: dbt reads dispatch calls while it parses
        manifest = _invoke(dbtRunner(), ["parse", *common])
        with mock.patch.object(BaseDatabaseWrapper, "dispatch", patched):
            outcome = _invoke(dbtRunner(manifest=manifest), ["compile", *common, *chosen])
    nodes = [result.node for result in outcome.results]
    return list(_rendered(nodes, dispatcher)), dispatcher.missing


@contextmanager
def _let_go() -> Iterator[None]:
    """Closes the warehouse at the end: dbt would hold it as long as this process lives."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    try:
        yield
    finally:
        DuckDBConnectionManager.close_all_connections()
        if DuckDBConnectionManager._ENV is not None:
            DuckDBConnectionManager._ENV.close()


def _invoke(runner: Any, arguments: list[str]) -> Any:
    outcome = runner.invoke(arguments)
    if not outcome.success:
        raise RuntimeError(f"dbt {arguments[0]} failed: {outcome.exception or outcome.result}")
    return outcome.result


def _rendered(nodes: list[Any], dispatcher: Dispatcher) -> Iterator[Rendering]:
    for node in nodes:
        is_ours = node.resource_type == "model" or getattr(node, "test_metadata", None) is None
        if not is_ours or not node.compiled_code:
            continue
        compiled = unquote_relations(node.compiled_code)
        yield Rendering(
            path=node.original_file_path,
            spark=dispatcher.fill(compiled, 0),
            opaque=dispatcher.fill(compiled, 1),
        )


def unquote_relations(compiled: str) -> str:
    """Take the quotes off `"database"."schema"."table"`: each adapter quotes its own way."""
    return re.sub(r'"(\w+)"\."(\w+)"\."(\w+)"', r"\2.\3", compiled)


def spark_error(sql: str) -> str | None:
    """Say why Spark could not parse `sql`, or None if it could."""
    try:
        statements = sqlglot.parse(quoted_columns(sql, "`"), read="spark")
    except SqlglotError as error:
        return str(error).splitlines()[0]
    if any(isinstance(statement, exp.Command) for statement in statements):
        return "not a query"
    return None


def refusals(sql: str) -> list[Refusal]:
    """List what in `sql` the two engines do not share, in order of lines.

    Args:
        sql: one query as its author wrote it, dispatch macros shown as `dispatched__<name>()`.
    """
    try:
        tokens = list(Dialect.get_or_raise("duckdb").tokenize(sql))
        tree = sqlglot.parse_one(quoted_columns(sql), read="duckdb")
    except SqlglotError as error:
        return [Refusal(1, str(error).splitlines()[0], "SQL that DuckDB can parse")]
    found = [*_token_refusals(tokens), *_tree_refusals(tree, sql)]
    found += _order_refusals(tree, sql)
    return sorted(set(found), key=lambda refusal: (refusal.line, refusal.found))


def _token_refusals(tokens: list[Token]) -> Iterator[Refusal]:
    for position, token in enumerate(tokens):
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        before = tokens[position - 1] if position else None
        word = token.text.lower()
        if token.token_type == TokenType.DIV or token.text == "//":
            yield Refusal(token.line, "//", "floor(a / nullif(b, 0))")
        elif token.token_type == TokenType.IDENTIFIER:
            yield Refusal(token.line, f'"{token.text}"', "the name bare: Spark reads text")
        elif word in CLOCKS:
            yield Refusal(token.line, word, "a column or a var: a rebuild must give the same rows")
        elif token.token_type == TokenType.FROM and _starts_a_query(before):
            yield Refusal(token.line, "from without select", "select ... from ...")
        elif following is not None and following.token_type == TokenType.L_PAREN:
            yield from _function_refusals(token, word, before)
        elif word in BARE_TYPES and _stands_for_a_type(before):
            yield Refusal(token.line, word, f"{BARE_TYPES[word]} (or dbt's type macro)")


def _stands_for_a_type(before: Token | None) -> bool:
    return before is not None and (before.token_type in {TokenType.ALIAS, TokenType.DCOLON})


def _starts_a_query(before: Token | None) -> bool:
    return before is None or before.token_type == TokenType.L_PAREN


def _function_refusals(token: Token, word: str, before: Token | None) -> Iterator[Refusal]:
    names = {TokenType.VAR} | Dialect.get_or_raise("duckdb").parser_class.FUNC_TOKENS
    if token.token_type not in names or word in SHARED_FUNCTIONS or word.startswith("dispatched__"):
        return
    is_type = word in TYPES_WITH_ARGUMENTS and _stands_for_a_type(before)
    if is_type or word in KEYWORDS_BEFORE_PARENTHESIS:
        return
    hint = INSTEAD.get(word, "a function of SHARED_FUNCTIONS, or a dispatch macro")
    yield Refusal(token.line, f"{word}()", hint)


def _tree_refusals(tree: exp.Expression, sql: str) -> Iterator[Refusal]:
    for node in tree.walk():
        for found, instead in _judge(node):
            yield Refusal(_line(node, sql), found, instead)


def _judge(node: exp.Expression) -> Iterator[tuple[str, str]]:
    """Judge one node of the tree by the rules that need more than its name."""
    if isinstance(node, exp.Star) and any(node.args.get(key) for key in STAR_OPTIONS):
        yield node.sql("duckdb"), "the columns by name"
    elif isinstance(node, NESTED):
        yield node.sql("duckdb")[:40], "a dispatch macro"
    elif isinstance(node, exp.Div):
        yield from _judge_division(node)
    elif isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
        yield from _judge_integer_cast(node)
    elif isinstance(node, exp.Interval):
        yield "interval", "dbt.dateadd(): date + interval is a date on Spark, a timestamp on DuckDB"
    elif isinstance(node, exp.Distinct) and node.args.get("on"):
        yield "distinct on", "qualify row_number() over (...) = 1"
    elif isinstance(node, exp.RegexpLike | exp.SimilarTo | exp.Glob):
        yield node.sql("duckdb")[:40], "like, or a dispatch macro"
    elif isinstance(node, exp.IgnoreNulls | exp.RespectNulls | exp.Pivot | exp.TableSample):
        yield type(node).__name__.lower(), "a dispatch macro"
    elif isinstance(node, exp.SetOperation) and node.args.get("by_name"):
        yield "union by name", "union all with the columns listed"
    elif isinstance(node, exp.Join) and node.args.get("method") in ("ASOF", "POSITIONAL"):
        yield f"{node.args['method'].lower()} join", "a join on valid_from and valid_to"
    elif isinstance(node, exp.Trim) and node.expression and node.args.get("position"):
        yield "ltrim/rtrim with characters", "a dispatch macro: the arguments are swapped on Spark"


def _judge_division(node: exp.Div) -> Iterator[tuple[str, str]]:
    divisor = node.expression.unnest()
    constant = isinstance(divisor, exp.Literal) and float(divisor.this) != 0
    if not (constant or isinstance(divisor, exp.Nullif)):
        instead = "nullif(divisor, 0): DuckDB answers null or infinity, Spark fails"
        yield node.sql("duckdb")[:60], instead


def _judge_integer_cast(node: exp.Cast) -> Iterator[tuple[str, str]]:
    if node.to.this not in INTEGER_TYPES:
        return
    operand = node.this.unnest()
    if isinstance(operand, INTEGER_RESULTS):
        return
    fraction = operand.find(exp.Div, exp.Avg, exp.Median, exp.PercentileCont) or (
        isinstance(operand, exp.Literal) and "." in operand.this and not operand.is_string
    )
    if fraction:
        instead = "floor() or round() inside the cast: DuckDB rounds, Spark cuts"
        yield node.sql("duckdb")[:60], instead


def _order_refusals(tree: exp.Expression, sql: str) -> Iterator[Refusal]:
    """Find orders that leave the place of nulls to the engine: the two dialects disagree."""
    try:
        spark_tree = sqlglot.parse_one(quoted_columns(sql, "`"), read="spark")
    except SqlglotError:
        return
    pairs = zip(tree.find_all(exp.Ordered), spark_tree.find_all(exp.Ordered), strict=False)
    for ours, theirs in pairs:
        if bool(ours.args.get("nulls_first")) != bool(theirs.args.get("nulls_first")):
            found = f"order by {ours.this.sql('duckdb')}"[:60]
            yield Refusal(_line(ours, sql), found, "nulls first or nulls last: the defaults differ")


def _line(node: exp.Expression, sql: str) -> int:
    for inner in node.walk():
        if "line" in inner.meta:
            return int(inner.meta["line"])
    return 1


def judge(renderings: list[Rendering]) -> Mapping[str, list[str]]:
    """Map each file that is not portable to its faults, ready to be shown to its author."""
    faults: dict[str, list[str]] = {}
    for rendering in renderings:
        messages = [str(refusal) for refusal in refusals(rendering.opaque)]
        error = spark_error(rendering.spark)
        if error:
            messages.append(f"Spark cannot parse it: {error}")
        if messages:
            faults[rendering.path] = messages
    return faults
