"""Compiles a constraint with llguidance, within a budget, and says plainly why one cannot be used."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from arriero.core import Constraint, ConstraintKind
from arriero.errors import InvalidRequest

COMPACT = {
    "whitespace_flexible": False,
    "item_separator": ",",
    "key_separator": ":",
    "json_allowed_escapes": 'nrbtf\\"',
}
"""How JSON is written: no space outside of strings, and no `\\u` escapes: with these a key could be
written in a second way and so stand twice."""

STACK_BYTES = 256 << 20
"""Stack of a thread that compiles. llguidance recurses up to 10 kB deep for each `$ref` or rule that
leads to the next one, and would end the process where the stack does. Only what is used takes memory."""

MAX_REASON = 200

_T = TypeVar("_T")
_stack_size_lock = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What one constraint may cost. Beyond it valid text may be forbidden, or the text ends with an error;
    what is not valid is never allowed.

    schema_fuel: nodes of all regular expressions of a JSON Schema, which was checked before.
    compile_fuel: the same of a caller's own regular expression or grammar, which may double at each line.
    step_fuel: the same for one mask; about 14,000 take a millisecond.
    step_items: parser items of one mask; about 20,000 take a millisecond.
    row_items: parser items of one place: how much may follow there.
    lexer_states: states of all regular expressions; up to some 500 bytes each. One string of a bounded
        length takes about two for each of its characters.
    grammar_size: symbols in all rules.
    cached: compiled constraints that are kept.
    cached_characters: length of their sources together; compiled, a character takes up to 120 bytes.
    cached_tokens: a compiled constraint grows while it is used, so one that has served so many tokens is
        compiled anew.
    """

    schema_fuel: int = 2_000_000
    compile_fuel: int = 300_000
    step_fuel: int = 200_000
    step_items: int = 200_000
    row_items: int = 20_000
    lexer_states: int = 100_000
    grammar_size: int = 60_000
    cached: int = 64
    cached_characters: int = 512 << 10
    cached_tokens: int = 4096


def compiled(constraint: Constraint, tokenizer: LLTokenizer, limits: Limits) -> LLMatcher:
    """Return the matcher of llguidance at the start of a text. Raises InvalidRequest."""
    native_limits = _native_limits(limits, constraint.kind)
    grammar = _grammar(constraint)
    matcher = _with_deep_stack(lambda: LLMatcher(tokenizer, grammar, log_level=0, limits=native_limits))
    if matcher.is_error():
        raise InvalidRequest(f"the {_WORDS[constraint.kind]} cannot be used: {reason(matcher.get_error())}")
    return matcher


def check(constraint: Constraint, *, where: str) -> None:
    """Raise InvalidRequest, naming `where`, unless the constraint compiles for some vocabulary."""
    native_limits = _native_limits(Limits(), constraint.kind)
    grammar = _grammar(constraint)
    error = _with_deep_stack(lambda: LLMatcher.validate_grammar(grammar, limits=native_limits))
    if error and not error.startswith("WARNING"):
        raise InvalidRequest(f"{where}: {reason(error)}", param=where)


def reason(error: str) -> str:
    """Return what an error of llguidance says in one short line, without the source that it quotes."""
    told = re.search(r"^error: (.+)$", error, re.MULTILINE)
    line = told[1] if told else error.strip().partition("\n")[0]
    line = re.sub(r'^at \d+\(\d+\): invalid regex ".*" \(in regex\): ', "", line)
    line = re.sub(r"^(?:at )?(\d+)\(\d+\): ", r"line \1: ", line)
    line = re.sub(
        r"^lookarounds not supported yet; .*", "^, $ and \\\\b are supported at its ends only", line
    )
    line = line.replace("<non-verbose/>", "").replace("NoExtensionBias", "no token fits").strip()
    return line if len(line) <= MAX_REASON else line[:MAX_REASON] + "..."


_WORDS = {
    ConstraintKind.JSON_SCHEMA: "JSON Schema",
    ConstraintKind.REGEX: "regular expression",
    ConstraintKind.LARK: "grammar",
}


def _grammar(constraint: Constraint) -> str:
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            try:
                return LLMatcher.grammar_from_json_schema(constraint.source, overrides=COMPACT)  # type: ignore[arg-type]
            except ValueError as exc:
                raise InvalidRequest(f"the JSON Schema cannot be used: {reason(str(exc))}") from exc
        case ConstraintKind.REGEX:
            return LLMatcher.grammar_from_regex(constraint.source)
        case ConstraintKind.LARK:
            return LLMatcher.grammar_from_lark(constraint.source)


def _native_limits(limits: Limits, kind: ConstraintKind) -> LLParserLimits:
    is_schema = kind is ConstraintKind.JSON_SCHEMA
    return LLParserLimits(
        initial_lexer_fuel=limits.schema_fuel if is_schema else limits.compile_fuel,
        step_lexer_fuel=limits.step_fuel,
        step_max_items=limits.step_items,
        max_items_in_row=limits.row_items,
        max_lexer_states=limits.lexer_states,
        max_grammar_size=limits.grammar_size,
        verbose_errors=False,
    )


def _with_deep_stack(work: Callable[[], _T]) -> _T:
    """Do something in a thread that has STACK_BYTES, and wait for it."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:
            future.set_exception(exc)

    with _stack_size_lock:
        usual = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=run, name="compile", daemon=True).start()
        finally:
            threading.stack_size(usual)
    return future.result()
