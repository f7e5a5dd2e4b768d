"""What the code never does, found by its syntax: each exception stands here with its reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "arriero"

FORBIDDEN_MODULES = {
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "xml.etree.ElementTree",
    "lxml",
}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
FORBIDDEN_CALLS |= {"yaml.full_load", "tempfile.mktemp", "ssl._create_unverified_context", "np.load"}
SECRET_WORDS = ("secret", "password", "token_digest", "digest", "api_key", "signature")

TELLTALE = re.compile(
    "|".join(
        map(re.escape, (*FORBIDDEN_MODULES, *FORBIDDEN_CALLS, *SECRET_WORDS, "shell", "verify", "time.time"))
    )
)
"""What a module holds that could break a rule; the others need not be taken apart."""

ALLOWED = {
    "engine/circuit.py: digest == _last": "of requests, which are no secrets",
    "memory/ingest.py: digest == digest": "of documents, which are no secrets",
    "server/tracing.py: a duration by the wall clock": "the difference of the two clocks, to date a span",
}
"""Place of a finding -> why it is right."""


def modules() -> Iterator[tuple[str, str]]:
    """Yield place and text of the modules that are worth a look."""
    for file in sorted(SOURCE.rglob("*.py")):
        text = file.read_text()
        if "testing" not in file.relative_to(SOURCE).parts and TELLTALE.search(text):
            yield file.relative_to(SOURCE).as_posix(), text


def name_of(node: ast.expr) -> str:
    """Return a dotted name, or nothing for what is none."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{name_of(value)}.{name}"
    return ""


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and kind of each finding in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    if name.name in FORBIDDEN_MODULES:
                        yield node.lineno, f"import {name.name}"
            case ast.ImportFrom(module=str(module)) if module in FORBIDDEN_MODULES:
                yield node.lineno, f"import {module}"
            case ast.Call(func=func, keywords=keywords):
                yield from ((node.lineno, name) for name in [name_of(func)] if name in FORBIDDEN_CALLS)
                for keyword in keywords:
                    match keyword:
                        case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                            yield node.lineno, "shell=True"
                        case ast.keyword(arg="verify", value=ast.Constant(value=False)):
                            yield node.lineno, "verify=False"
            case ast.BinOp(op=ast.Sub(), left=ast.Call(func=func), right=right):
                if name_of(func) == "time.time" and "monotonic" not in ast.dump(right):
                    yield node.lineno, "a duration by the wall clock"
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                names = (name_of(left).rpartition(".")[2], name_of(right).rpartition(".")[2])
                if all(names) and any(word in name for name in names for word in SECRET_WORDS):
                    yield node.lineno, f"{names[0]} == {names[1]}"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import pickle", "import pickle"),
        ("from marshal import loads", "import marshal"),
        ("eval('1')", "eval"),
        ("yaml.load(x)", "yaml.load"),
        ("run('x', shell=True)", "shell=True"),
        ("get(u, verify=False)", "verify=False"),
        ("a = time.time() - began", "a duration by the wall clock"),
        ("given.secret == secret", "secret == secret"),
    ],
)
def test_the_rules_find_what_they_are_for(code: str, kind: str) -> None:
    """Each rule has something that it finds."""
    assert [found for _, found in findings(ast.parse(code))] == [kind]


def test_nothing_forbidden_is_done() -> None:
    """No code from data, no shell, no plain comparison of secrets, no duration by a clock that may be set."""
    found = {
        f"{place}: {kind}": line for place, text in modules() for line, kind in findings(ast.parse(text))
    }

    assert {place: line for place, line in found.items() if place not in ALLOWED} == {}
    assert [place for place in ALLOWED if place not in found] == []
