"""Does a constraint allow exactly the values that conform to its schema? `python -m benchmarks.soundness`.

For each schema of the JSON-Schema-Test-Suite (draft 2020-12) and of the MaskBench sample: accepted or
refused; if accepted, every valid instance must pass the matcher and every invalid one must not. Instances
are written compactly, whole numbers without a point, and with keys in their own order and in the schema's.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import string
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from arriero.errors import EngineError, InvalidRequest
from arriero.grammar.constraint import json_schema
from arriero.grammar.matcher import Compiler, Matcher, fill_masks
from arriero.grammar.vocabulary import TokenTable

VECTORS = Path(__file__).parents[2] / "shared/vectors/json-schema"
SUITE = VECTORS / "tests/draft2020-12"
MASKBENCH = VECTORS / "maskbench"
END = 256
DEEP = 12
"""References and alternatives in each other that are looked through for the order of keys."""
NARROWER = {
    "optional/format/time": ":60",
    "optional/format/date-time": ":60",
    "optional/format/hostname": "xn--",
    "optional/format/regex": "",
    "optional/format/ecmascript-regex": "",
}
"""Formats that are enforced more narrowly than their RFC, and what such a valid instance holds."""
CONTROL = r"\\u00"
"""Control characters that JSON can only write as a number are not written."""
REMARK = "only an annotation by default"
"""Tests which say that a format is a mere remark; here it is enforced."""


@dataclass(frozen=True)
class Case:
    """A schema with instances of which is known whether they conform."""

    group: str
    name: str
    schema: Any
    instances: Sequence[tuple[Any, bool]]


@dataclass
class Tally:
    """What became of the schemas and instances of one group."""

    accepted: int = 0
    refused: int = 0
    right: int = 0
    narrower: int = 0
    valid_refused: list[str] = field(default_factory=list)
    invalid_accepted: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def main() -> None:
    """Print the tables that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soundness", description=__doc__)
    parser.add_argument("--suite", type=Path, default=SUITE, help="tests of one draft")
    parser.add_argument("--maskbench", type=Path, default=MASKBENCH, help="a folder of MaskBench files")
    parser.add_argument("--reasons", action="store_true", help="why each schema was refused")
    options = parser.parse_args()
    compiler = Compiler(byte_table())
    tallies = {**judged(compiler, suite(options.suite)), **judged(compiler, maskbench(options.maskbench))}
    print(table(tallies))
    for tally in tallies.values():
        wrong = [f"valid but refused: {one}" for one in tally.valid_refused]
        wrong += [f"invalid but accepted: {one}" for one in tally.invalid_accepted]
        print(*wrong, *(tally.reasons if options.reasons else ()), sep="\n", end="\n" if wrong else "")
    print(mask_times(maskbench(options.maskbench)))


def suite(folder: Path) -> Iterator[Case]:
    """Yield the cases of the test suite, grouped by file: that is by keyword."""
    for path in sorted(folder.rglob("*.json")):
        group = path.relative_to(folder).with_suffix("").as_posix()
        for case in json.loads(path.read_text()):
            tests = [one for one in case["tests"] if REMARK not in one["description"]]
            instances = [(one["data"], one["valid"]) for one in tests]
            yield Case(group, case["description"], case["schema"], instances)


def maskbench(folder: Path, every: int = 1) -> Iterator[Case]:
    """Yield the cases of MaskBench, or every n-th of them."""
    for path in sorted(folder.glob("*.json"))[::every]:
        case = json.loads(path.read_text())
        instances = [(one["data"], one["valid"]) for one in case["tests"]]
        yield Case("MaskBench", path.stem, case["schema"], instances)


def judged(compiler: Compiler, cases: Iterator[Case]) -> dict[str, Tally]:
    """Return what becomes of the cases, by group."""
    tallies: dict[str, Tally] = {}
    for case in cases:
        judge(compiler, case, tallies.setdefault(case.group, Tally()))
    return tallies


def judge(compiler: Compiler, case: Case, tally: Tally) -> None:
    """Compile a schema and try its instances."""
    try:
        constraint = json_schema(case.schema)
        pristine = compiler.matcher(constraint)
    except InvalidRequest as exc:
        tally.refused += 1
        tally.reasons.append(f"{case.group}/{case.name}: {exc.message}")
        return
    tally.accepted += 1
    compiled = json.loads(constraint.source)
    order = Order(compiled)
    for value, valid in case.instances:
        texts = {written(value), written(order.of(value, [compiled]))}
        passed = any(passes(pristine.copy(), text) for text in texts)
        what = f"{case.group}/{case.name}: {written(value)[:120]}"
        if passed == valid:
            tally.right += 1
        elif passed:
            tally.invalid_accepted.append(what)
        elif re.search(NARROWER.get(case.group, CONTROL), what):
            tally.narrower += 1
        else:
            tally.valid_refused.append(what)


def passes(matcher: Matcher, text: str) -> bool:
    """Return whether a matcher takes a whole text, byte by byte."""
    try:
        for byte in text.encode():
            matcher.accept(byte)
    except EngineError:
        return False
    return matcher.may_end


def written(value: Any) -> str:
    """Return a value as compact JSON with one form for each number."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(key)}:{written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, float):
        number = Decimal(repr(value)).normalize()
        return format(number.to_integral_value() if number == number.to_integral_value() else number, "f")
    return json.dumps(value, ensure_ascii=False)


class Order:
    """The order in which a compiled schema writes the keys of objects."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def of(self, value: Any, nodes: list[Any]) -> Any:
        """Return a value with its keys as these schemas, which all or some apply to it, have them."""
        parts = list(self.parts(nodes, value, DEEP))
        if isinstance(value, list):
            return [self.of(one, list(items(parts, index))) for index, one in enumerate(value)]
        if not isinstance(value, dict):
            return value
        known = {name: value[name] for name in dict.fromkeys(keys(parts)) if name in value}
        return {key: self.of(one, list(members(parts, key))) for key, one in {**known, **value}.items()}

    def parts(self, nodes: list[Any], value: Any, depth: int) -> Iterator[dict[str, Any]]:
        """Yield the schemas and what they refer to or are made of."""
        for node in nodes:
            if isinstance(node, dict) and depth:
                yield node
                choice = node.get("anyOf", [])
                inner = [*node.get("allOf", []), *([one for one in choice if fits(one, value)] or choice)]
                if reference := node.get("$ref"):
                    name = reference.removeprefix("#").removeprefix("/$defs/")
                    inner.append(self.root["$defs"][name] if name else self.root)
                yield from self.parts(inner, value, depth - 1)


def fits(branch: Any, value: Any) -> bool:
    """Return whether the listed values of its properties do not tell a branch from a value."""
    if not isinstance(branch, dict) or not isinstance(value, dict):
        return True
    named = branch.get("properties", {})
    return all(
        not isinstance(one, dict) or value[key] in one.get("enum", [one.get("const", value[key])])
        for key, one in named.items()
        if key in value
    )


def keys(parts: list[dict[str, Any]]) -> list[str]:
    """Return the property names of schemas that all hold, in order."""
    listed = [one for part in parts for one in [part.get("const"), *part.get("enum", [])]]
    return [
        *(name for part in parts for name in part.get("properties", {})),
        *(name for part in parts for name in part.get("required", [])),
        *(name for one in listed if isinstance(one, dict) for name in one),
    ]


def items(parts: list[dict[str, Any]], index: int) -> Iterator[Any]:
    """Yield the schemas of one item."""
    for part in parts:
        first = part.get("prefixItems", [])
        yield first[index] if index < len(first) else part.get("items", True)


def members(parts: list[dict[str, Any]], key: str) -> Iterator[Any]:
    """Yield the schemas of one property."""
    for part in parts:
        named = part.get("properties", {})
        others = [*part.get("patternProperties", {}).values(), part.get("additionalProperties", True)]
        yield from [named[key]] if key in named else others


def byte_table() -> TokenTable:
    """Return a vocabulary of single bytes."""
    return TokenTable(
        [bytes([byte]) for byte in range(256)] + [b"</s>"], [END], [END], lambda text: list(text.encode())
    )


def wide_table() -> TokenTable:
    """Return a vocabulary of the size of a small model's: bytes, pieces of words, numbers, punctuation."""
    letters = string.ascii_lowercase
    pieces = ["".join(one) for size in (2, 3) for one in product(letters, repeat=size)]
    pieces += [" " + piece for piece in pieces] + [f"{number:03}" for number in range(1000)]
    pieces += ["".join(one) for size in (2, 3) for one in product('{}[]":, \n', repeat=size)]
    known = [bytes([byte]) for byte in range(256)] + [b"</s>"] + [piece.encode() for piece in pieces]

    def tokenize(text: str) -> list[int]:
        raise NotImplementedError  # the longest tokens that fit are good enough here

    return TokenTable(known, [END], [END], tokenize)


def mask_times(cases: Iterator[Case]) -> str:
    """Return how long the masks of the first valid instances take."""
    table = wide_table()
    compiler = Compiler(table)
    row = np.zeros((1, (table.size + 31) // 32), dtype=np.int32)
    times: list[float] = []
    compile_times: list[float] = []
    for case in cases:
        value = next((one for one, valid in case.instances if valid), None)
        try:
            started = time.perf_counter()
            matcher = compiler.matcher(json_schema(case.schema))
            compile_times.append(time.perf_counter() - started)
            for token in table.tokenize(written(value)):
                started = time.perf_counter()
                fill_masks([matcher], row)
                times.append(time.perf_counter() - started)
                matcher.accept(token)
        except (InvalidRequest, EngineError):
            continue
    return (
        f"masks over {table.size} tokens: {len(times)} masks, p50 {centile(times, 50):.0f} us, "
        f"p99 {centile(times, 99):.0f} us; schema to matcher: p50 {centile(compile_times, 50):.0f} us, "
        f"p99 {centile(compile_times, 99):.0f} us"
    )


def centile(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile in microseconds."""
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1e6


def table(tallies: dict[str, Tally]) -> str:
    """Return one line for each group and the totals, as Markdown."""
    head = "| keyword | accepted | refused | instances right | narrower | valid refused | invalid accepted |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    lines += [line(group, [tally]) for group, tally in sorted(tallies.items())]
    tested = [tally for group, tally in tallies.items() if group != "MaskBench"]
    return "\n".join([*lines, line("**test suite**", tested), line("**all**", list(tallies.values()))])


def line(name: str, tallies: Sequence[Tally]) -> str:
    """Return one row of the table."""
    counts = [
        sum(one.accepted for one in tallies),
        sum(one.refused for one in tallies),
        sum(one.right for one in tallies),
        sum(one.narrower for one in tallies),
        sum(len(one.valid_refused) for one in tallies),
        sum(len(one.invalid_accepted) for one in tallies),
    ]
    return f"| {name} | {' | '.join(map(str, counts))} |"


if __name__ == "__main__":
    main()
