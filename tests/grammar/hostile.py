"""Constraints made to crash, stall or swell the process. Run as a program, it tries them in a bounded one.

`python -m tests.grammar.hostile STEP` tries every STEP-th case and writes one JSON line for each: its name,
the seconds of processor time it took, and how it ended.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tests.grammar.tables import ENDS, small_compiler, small_table

from arriero.core import Constraint
from arriero.errors import EngineError, InvalidRequest
from arriero.grammar import constraint
from arriero.grammar.matcher import Matcher, fill_masks

ADDRESS_SPACE = 2 << 30
STEPS = 12
"""Tokens that are drawn under a constraint that was not refused."""
FORCED = 32
"""Forced tokens that are accepted before each of them."""

Case = tuple[str, Callable[[], Callable[[], Constraint]]]
"""A name, and what makes the hostile value and returns how it is used: only using it is timed."""


def nested(depth: int, opening: str, closing: str, middle: str = "{}") -> Any:
    """A deep value, made without recursion."""
    value: Any = json.loads(middle)
    keys = json.loads(f"{opening}null{closing}")
    (key,) = keys if isinstance(keys, dict) else (None,)
    for _ in range(depth):
        value = [value] if key is None else {key: value}
    return value


def chain(length: int, step: Callable[[str], Any], last: Any) -> dict[str, Any]:
    """Definitions that each lead to the next one."""
    definitions = {f"d{index}": step(f"#/$defs/d{index + 1}") for index in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": last}}


def rules(length: int, rule: str, last: str) -> str:
    """Rules of a grammar that each lead to the next one."""
    lines = [rule.format(this=f"r{index}", next=f"r{index + 1}") for index in range(length)]
    return "start: r0\n" + "\n".join(lines) + f"\nr{length}: {last}"


def words(count: int, length: int = 8, seed: int = 7) -> list[str]:
    choose = random.Random(seed)
    return ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=length)) for _ in range(count)]


def schemas() -> Iterator[Case]:
    def case(name: str, make: Callable[[], Any]) -> Case:
        def prepared() -> Callable[[], Constraint]:
            schema = make()
            return lambda: constraint.json_schema(schema)

        return f"schema: {name}", prepared

    for depth in (10, 60, 100, 1000, 5000, 100_000):
        for key in ("items", "not", "additionalProperties", "contains", "propertyNames", "if"):
            yield case(f"{key} {depth} deep", lambda d=depth, k=key: nested(d, f'{{"{k}":', "}"))
        yield case(f"allOf {depth} deep", lambda d=depth: nested(d, '{"allOf":', "}", "[{}]"))
        yield case(f"enum {depth} deep", lambda d=depth: {"enum": [nested(d, "[", "]", "1")]})
        yield case(f"const {depth} deep", lambda d=depth: {"const": nested(d, '{"a":', "}", "1")})
    for size in (1000, 20_000, 100_000, 1_000_000):
        yield case(f"enum of {size} numbers", lambda n=size: {"enum": list(range(n))})
        yield case(f"enum of {size} texts", lambda n=size: {"enum": [f"text {i}" for i in range(n)]})
        yield case(f"type of {size}", lambda n=size: {"type": ["string"] * n})
        yield case(f"required of {size}", lambda n=size: {"required": [f"p{i}" for i in range(n)]})
        yield case(f"prefixItems of {size}", lambda n=size: {"prefixItems": [{}] * n, "minItems": n})
    for size in (300, 2000, 9000, 100_000):
        names = [f"p{i}" for i in range(size)]
        yield case(f"{size} properties", lambda n=names: {"properties": {k: {"type": "null"} for k in n}})
        closed = {"type": "object", "additionalProperties": False}
        yield case(f"{size} closed", lambda n=names, c=closed: {**c, "properties": {k: {} for k in n}})
        yield case(
            f"{size} required",
            lambda n=names: {"type": "object", "properties": {k: {} for k in n}, "required": n},
        )
        yield case(f"{size} patterns", lambda n=names: {"patternProperties": {f"^{k}": {} for k in n}})
        yield case(f"{size} in anyOf", lambda n=names: {"anyOf": [{"const": {k: 1}} for k in n]})
        yield case(f"{size} in oneOf", lambda n=names: {"oneOf": [{"pattern": k} for k in n]})
        yield case(f"{size} in allOf", lambda n=names: {"allOf": [{"properties": {k: {}}} for k in n]})
        yield case(f"{size} dependent", lambda n=names: {"dependentRequired": dict.fromkeys(n, n[:5])})
        yield case(f"{size} definitions", lambda n=names: {"$defs": {k: {"$ref": f"#/$defs/{k}"} for k in n}})
    for count in (3, 6, 12, 30):
        product = [{"anyOf": [{"required": [f"a{i}{j}"]} for j in range(4)]} for i in range(count)]
        yield case(f"allOf x anyOf {count}", lambda p=product: {"type": "object", "allOf": p})
        ones = [{"oneOf": [{"minimum": i + j} for j in range(3)]} for i in range(count)]
        yield case(f"allOf x oneOf {count}", lambda p=ones: {"type": "number", "allOf": p})
        nots = [{"not": {"properties": {f"n{i}": {"type": "string"}}}} for i in range(count)]
        yield case(f"allOf x not {count}", lambda p=nots: {"allOf": p})
    for length in (10, 500, 4000, 30_000):
        yield case(
            f"$ref chain of {length}", lambda n=length: chain(n, lambda to: {"$ref": to}, {"type": "null"})
        )
        yield case(
            f"$ref chain through items of {length}",
            lambda n=length: chain(n, lambda to: {"items": {"$ref": to}, "minItems": 1}, {"type": "null"}),
        )
        yield case(
            f"$ref chain through properties of {length}",
            lambda n=length: chain(
                n, lambda to: {"properties": {"x": {"$ref": to}}, "required": ["x"]}, {"type": "null"}
            ),
        )
        yield case(
            f"$ref chain through anyOf of {length}",
            lambda n=length: chain(n, lambda to: {"anyOf": [{"$ref": to}, {"const": 1}]}, {"type": "null"}),
        )
        yield case(
            f"$ref tree of {length}",
            lambda n=length: chain(n, lambda to: {"allOf": [{"$ref": to}, {"$ref": to}]}, {"type": "null"}),
        )
        yield case(
            f"$ref pairs of {length}",
            lambda n=length: chain(n, lambda to: {"prefixItems": [{"$ref": to}] * 2, "minItems": 2}, {}),
        )
    loops: dict[str, Any] = {
        "itself": {"$ref": "#"},
        "itself in allOf": {"allOf": [{"$ref": "#"}]},
        "itself in anyOf": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        "itself in not": {"not": {"$ref": "#"}},
        "endless object": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "endless array": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        "endless product": {"type": "array", "items": {"$ref": "#"}, "minItems": 100_000},
        "mutual": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "tree": {"type": "array", "items": {"$ref": "#"}, "maxItems": 100_000},
        "wide tree": {"type": "object", "additionalProperties": {"anyOf": [{"$ref": "#"}] * 50}},
        "http": {"$ref": "http://127.0.0.1:9/x"},
        "file": {"$ref": "file:///etc/passwd"},
        "nowhere": {"$ref": "#/$defs/none"},
        "long pointer": {"$ref": "#" + "/a" * 100_000},
        "percent": {"$ref": "#/%00%ff%zz"},
        "dynamic": {"$dynamicRef": "#x", "$dynamicAnchor": "x"},
        "minItems": {"type": "array", "minItems": 10_000_000},
        "minItems alone": {"minItems": 10**30},
        "maxItems": {"type": "array", "items": {"maxItems": 10**9}, "maxItems": 10**9},
        "nested counts": {
            "minItems": 300,
            "items": {"type": "array", "minItems": 300, "items": {"type": "array", "minItems": 300}},
        },
        "maxLength": {"type": "string", "maxLength": 1_000_000_000},
        "minLength": {"type": "string", "minLength": 1_000_000_000},
        "close lengths": {"type": "string", "minLength": 99_999, "maxLength": 100_000},
        "minProperties": {"type": "object", "minProperties": 10**7},
        "huge number": {"type": "integer", "minimum": -(10**300), "maximum": 10**300},
        "huge digits": {"const": 10**5000},
        "odd multiple": {"type": "integer", "multipleOf": 99991},
        "odder multiple": {"type": "integer", "multipleOf": 999983},
        "odd multiples": {"type": "integer", "allOf": [{"multipleOf": 997}, {"multipleOf": 1009}]},
        "largest odd multiple": {"type": "integer", "multipleOf": 19997},
        "tiny multiple": {"type": "number", "multipleOf": 1e-300},
        "many multiples": {"anyOf": [{"type": "integer", "multipleOf": p} for p in (97, 89, 83, 79)]},
        "narrow range": {"type": "number", "minimum": 0.1234567890123, "maximum": 0.1234567890124},
        "infinite": {"type": "number", "maximum": float("inf")},
        "nan": {"const": float("nan")},
        "NUL": {"enum": ["\0"]},
        "NUL key": {"properties": {"\0": {}}},
        "surrogate": {"enum": ["\ud800"]},
        "surrogate key": {"properties": {"\udfff": {}}, "required": ["\udfff"]},
        "wrong types": {"type": 5, "properties": [], "items": "x", "enum": 7},
        "no schema": [1, 2, 3],
        "set": {"enum": {1, 2}},
        "bytes": {"const": b"x"},
        "wrong keys": {"properties": {1: {}}},
        "options": {"type": "object", "x-guidance": {"lenient": True, "item_separator": ".*"}},
        "uniqueItems": {"type": "array", "uniqueItems": True, "maxItems": 10**6},
        "long key": {"properties": {"k" * 900_000: {}}, "required": ["k" * 900_000]},
        "long const": {"const": "c" * 900_000},
        "long description": {"description": "d" * 5_000_000},
        "keys in each other": {"properties": {"x" * index: {} for index in range(300)}},
    }
    for name, schema in loops.items():
        yield case(name, lambda s=schema: s)
    for index, pattern in enumerate(PATTERNS):
        yield case(f"pattern {index} {pattern[:20]!r}", lambda p=pattern: {"type": "string", "pattern": p})


PATTERNS = (
    *("(a+)+$", "(a|a)*b", "(a|aa)+$", "(.*)*x", "(x+x+)+y", "^+a$", "a{1,100000}", "a{100000}"),
    *("((a{1,300}){1,300}){1,300}", "(a?){1000}a{1000}", "(.{0,100}x){0,100}", "a{99999}b|a{100000}c"),
    *(".*a.{20}", ".*a.{200}", ".*(a|b){1,1000}c.{1000}", "(.*x){20}", r"(\w{1,50}\s){1,50}"),
    *("(" * 200 + "a" + ")" * 200, "(" * 60_000 + "a" + ")" * 60_000, "(a" * 3000 + ")?" * 3000),
    *(
        r"\p{L}{1000}",
        r"(\p{L}|\p{N}|\p{Han}){1,1000}x",
        r"[\w&&[^a]]{500}",
        r"\p{Nothing}",
        "[^\\x00-\\uffff]",
    ),
    *(
        "a\0b",
        "\\0",
        "\ud800",
        "\\ud800",
        "[\\ud800-\\udfff]",
        "(?=a)b",
        "(?<=a)b",
        "(?!a)b",
        r"(a)\1",
        r"\bx\b",
    ),
    *("|".join(words(7000)), "a" * 60_000, "[abc]" * 12_000, "|".join(f"a{{{n}}}" for n in range(2000))),
    *("(?i)" + "abcdefgh" * 2000, "a" * 3_000_000, "(?:" * 250 + "a" + "){2}" * 250, "(", "[z-a]", "a{2,1}"),
    *(
        "a{99999999999999999999}",
        "(a*)*" * 500,
        "(?i)ſ{1000}",
        ".*".join("abcdefghijklmnop"),
        "^" * 5000,
        "\\",
    ),
)


def expressions() -> Iterator[Case]:
    for index, pattern in enumerate(PATTERNS):
        yield f"regex: {index} {pattern[:20]!r}", lambda p=pattern: lambda: constraint.regex(p)


def grammars() -> Iterator[Case]:
    doubling = "\n".join(f"T{i}: T{i + 1} T{i + 1}" for i in range(40)) + '\nT40: "a"'
    texts = {
        "parentheses": "start: " + "(" * 20_000 + '"a"' + ")" * 20_000,
        "open parentheses": "start: " + "(" * 60_000,
        "rule chain 4000": rules(4000, "{this}: {next}", '"a"'),
        "rule chain with text 3000": rules(3000, '{this}: "x" {next}', '"a"'),
        "terminal chain": rules(3000, "{this}: {next}", '"a"').replace("r", "T").replace("staTt", "start"),
        "doubling rules": rules(40, "{this}: {next} {next}", '"a"'),
        "doubling empty rules": rules(40, "{this}: {next} {next}", '"a" | ""'),
        "doubling terminals": "start: T0\n" + doubling,
        "itself": "start: a\na: a",
        "endless": 'start: a\na: "x" a',
        "ambiguous": 'start: e\ne: e e | "a" | e e e | ""',
        "left recursion": 'start: a\na: a a | a | "x"',
        "recursive terminal": 'start: T\nT: "a" T | "b"',
        "count": 'start: "a"{100000}',
        "count of a rule": 'start: x{100000}\nx: "a" | "b" x',
        "nested counts": 'start: ((("a"{300}){300}){300})',
        "nested counts of a rule": 'start: (((x{0,300}){0,300}){0,300})\nx: "a" | "b" x',
        "many texts": "start: " + " | ".join(f'"w{i}"' for i in range(6000)),
        "many expressions": "start: " + " | ".join(f"/.*w{i}.*x/" for i in range(2000)),
        "and": "start: A\nA: /(.*a){10}.{10}/ & /(.*b){11}.{11}/ & /(.*c){12}.{12}/",
        "not": "start: A\nA: ~/.*a.{14}/",
        "schema": "start: %json " + json.dumps({"enum": list(range(9000))}),
        "deep schema": "start: %json " + '{"items":' * 7000 + "{}" + "}" * 7000,
        "substrings": "start: %regex " + json.dumps({"substring_chars": "ab" * 20_000}),
        "long text": 'start: "' + "a" * 60_000 + '"',
        "long comment": 'start: "a" //' + "x" * 60_000,
        "many ignored": 'start: "a"\n' + "\n".join(f"%ignore /x{i}/" for i in range(3000)),
        "too long": "start: " + '"a" ' * 1_000_000,
        "NUL": 'start: "\0"',
        "NUL outside": 'start: \0 "a"',
        "surrogate": 'start: "\ud800"',
        "special token": "start: <|im_end|>",
        "any token": "start: <[*]>",
        "native form": '{"grammars":[{"lark_grammar":"start: \\"a\\""}]}',
        "settings": '%llguidance {"allow_invalid_utf8":true}\nstart: /./',
        "max_tokens": "start: x\nx[max_tokens=0]: /.*/",
        "suffixes": 'start: x x x\nx[suffix="a"]: /.*/',
        "rubbish": "".join(map(chr, random.Random(1).choices(range(1, 256), k=5000))),
        "import": "%import common.FOO\nstart: FOO",
        "nothing": "",
    }
    for name, text in texts.items():
        yield f"lark: {name}", lambda t=text: lambda: constraint.lark(t)
    own = {
        "rule chain": "root ::= r0\n"
        + "\n".join(f"r{i} ::= r{i + 1}" for i in range(3500))
        + '\nr3500 ::= "a"',
        "parentheses": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000,
        "long text": 'root ::= "' + "a" * 60_000 + '"',
        "count": 'root ::= "a"{100000}',
        "nested counts": "root ::= (((.{0,300}){0,300}){0,300}){0,300}",
        "itself": "root ::= root",
        "stars": "root ::= " + "(" * 100 + "[a-z]*" + ")*" * 100,
        "many rules": "root ::= r1\n" + "\n".join(f'r{i} ::= "a" | r{i + 1}?' for i in range(2500)),
        "unclosed": 'root ::= "' + "\\" * 60_001,
        "spaces": "root ::= " + " " * 60_000 + "#" * 5000,
        "wide set": "root ::= [" + "".join(chr(0x4E00 + 2 * i) for i in range(9000)) + "]*",
        "ambiguous": 'root ::= root root | "a" | root root root | ""',
        "too long": "root ::= " + '"a" ' * 1_000_000,
    }
    for name, text in own.items():
        yield f"gbnf: {name}", lambda t=text: lambda: constraint.gbnf(t)


def choices() -> Iterator[Case]:
    lists: dict[str, list[Any]] = {
        "one long text": ["a" * 65_000],
        "too long": ["a" * 10_000_000],
        "many": words(8000),
        "too many": ["a"] * 1_000_000,
        "in each other": ["a" * length for length in range(350)],
        "NUL": ["\0", "a\0b"],
        "surrogate": ["a", "\ud800"],
        "empty": ["", ""],
        "expressions": ["(a+)+$", "[", "\\", ".*" * 1000],
        "numbers": [1, 2],
        "nested": [["a"], ["b"]],
        "none": [],
    }
    for name, options in lists.items():
        yield f"choice: {name}", lambda o=options: lambda: constraint.choice(o)
    biases: dict[str, Any] = {
        "deep": nested(100_000, '{"items":', "}"),
        "many": {"type": "object", "properties": {f"p{i}": {"type": "boolean"} for i in range(100_000)}},
        "range": {"type": "number", "min": -1e308, "max": 1e308, "max_decimals": 10**9},
        "items": {"type": "array", "items": {"type": "null"}, "min_items": 10**9, "max_items": 10**9},
        "length": {"type": "string", "max_length": 10**12},
        "enum": {"type": "string", "enum": [str(i) for i in range(1_000_000)]},
        "rubbish": {"type": {"type": []}},
    }
    for name, schema in biases.items():
        yield f"bias: {name}", lambda s=schema: lambda: constraint.bias(s)


def cases() -> list[Case]:
    return [*schemas(), *expressions(), *grammars(), *choices()]


def tried(use: Callable[[], Constraint]) -> str:
    """Use a hostile value as far as it goes: compile it and draw some tokens."""
    try:
        walker = small_compiler().matcher(use())
    except InvalidRequest as exc:
        return f"refused: {exc.message}"
    try:
        return drawn(walker)
    except EngineError as exc:
        return f"given up: {exc.message}"


def drawn(walker: Matcher) -> str:
    choose = random.Random(1)
    out = np.zeros((1, (small_table().size + 31) // 32), np.int32)
    for _ in range(STEPS):
        for token in walker.forced()[:FORCED]:
            walker.accept(token)
        for failure in fill_masks([walker], out).values():
            raise failure
        bits = np.unpackbits(out.view(np.uint8), bitorder="little")
        token = int(choose.choice(np.flatnonzero(bits).tolist()))
        if token in ENDS:
            break
        walker.accept(token)
    return "works"


def timed(use: Callable[[], Constraint]) -> tuple[str, float]:
    """Return how a hostile value ended, and after how many seconds of processor time."""
    began = time.process_time()
    ended = tried(use)
    return ended, time.process_time() - began


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    small_table().native  # noqa: B018 - building it is no case's work
    chosen = cases()[:: int(sys.argv[1])]
    gc.freeze()  # a collection that walks the values of all other cases is no case's work either
    for name, prepare in chosen:
        ended, seconds = timed(prepare())
        print(json.dumps({"name": name, "seconds": round(seconds, 3), "ended": ended}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
