from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tests.grammar.tables import allowed, matcher, outcome

from arriero.core import Constraint, ConstraintKind
from arriero.errors import InvalidRequest
from arriero.grammar.constraint import (
    MAX_CHARACTERS,
    MAX_CHOICES,
    any_object,
    bias,
    choice,
    gbnf,
    json_schema,
    lark,
    regex,
)

ARITHMETIC = """
root ::= (expr "=" term "\\n")+
expr ::= term ([-+*/] term)*
term ::= number | "(" expr ")"
number ::= [0-9]+
"""
LIST = r"""
# a list of lines
root ::= item+
item ::= "- " [^\r\n\x0b\x85\u2028]+ "\n"
"""
CHESS = r"""
root    ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")*
move    ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn    ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle  ::= "O-O" "-O"?
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""


def test_json_is_compact() -> None:
    """JSON has no space outside of strings and its keys stand in the order of the schema."""
    constraint = json_schema({"type": "object", "properties": {"b": {}, "a": {"type": "string"}}})

    assert outcome(constraint, '{"b":[1,2],"a":"x y"}') == "whole"
    assert outcome(constraint, '{"b": 1}') == "no"
    assert outcome(constraint, '{"a":"x","b":1}') == "no"


def test_a_schema_that_cannot_be_enforced_is_refused() -> None:
    """The keyword is named with its place."""
    with pytest.raises(InvalidRequest) as caught:
        json_schema({"properties": {"a": {"uniqueItems": True}}}, where="response_format.json_schema.schema")

    assert caught.value.param == "response_format.json_schema.schema.properties.a.uniqueItems"


def test_any_object() -> None:
    """A JSON object with anything in it, and nothing else."""
    assert outcome(any_object(), '{"a":[1,{"b":null}],"":"\\n"}') == "whole"
    assert outcome(any_object(), "[1]") == "no"


def test_the_bias_language() -> None:
    """A schema in the bias language means what it meant there."""
    constraint = bias({"type": "number", "min": 0, "max": 12, "max_decimals": 0})

    assert [outcome(constraint, text) for text in ("0", "12", "13", "-1")] == ["whole", "whole", "no", "no"]
    with pytest.raises(InvalidRequest):
        bias({"type": "colour"})


@pytest.mark.parametrize(
    ("pattern", "whole", "no"),
    [
        (r"[a-c]{2}", "ab", "abc"),
        (r"^a+$", "aa", "b"),
        (r"a|bc", "bc", "c"),
        (r"(?i)yes", "YeS", "no"),
        (r"\d+/\d+", "1/2", "1-2"),
        (r"[^\n]+", "日本", "\n"),
        (r"(?s:.)", "\n", "ab"),
        ("a\0b", "a\0b", "ab!"),
        (r"\p{Lu}x*?", "Éx", "é"),
        (r"\x41\u0042", "AB", "A!"),
        ("", "", "a"),
    ],
)
def test_a_regular_expression_matches_the_whole_text(pattern: str, whole: str, no: str) -> None:
    """The text is what the pattern matches from its first to its last byte."""
    constraint = regex(pattern)

    assert outcome(constraint, whole) == "whole"
    assert outcome(constraint, no) == "no"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "backreferences are not supported"),
        (r"a\bc", "supported at its ends only"),
        ("a$b", "supported at its ends only"),
        ("(a", "unclosed group"),
        ("[z-a]", "invalid character class range"),
        (r"\p{Nothing}", "Unicode property not found"),
        ("\ud800", "surrogate"),
        ("a" * (MAX_CHARACTERS + 1), f"at most {MAX_CHARACTERS}"),
        (7, "must be a text"),
    ],
)
def test_a_regular_expression_that_cannot_be_used(pattern: str, reason: str) -> None:
    """It is refused at once, with the reason in one line and the name of the parameter."""
    with pytest.raises(InvalidRequest, match=re.escape(reason)) as caught:
        regex(pattern, where="tasks.t.regex")

    assert caught.value.message.startswith("tasks.t.regex: ")
    assert caught.value.param == "tasks.t.regex"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "whole", "no"),
    [
        ('start: "a" | "ab"', "ab", "b"),
        ('start: item ("," item)*\nitem: /[0-9]+/ | "(" start ")"', "1,(2,(3))", "1,,2"),
        ("%import common.INT\nstart: INT // <a number>\n# <done>", "12", "a"),
        ('start: "<" /<x>/ "\\n"', "<<x>\n", "<x>"),
        ('start: %json {"type":"array","items":{"type":"integer"}} "!"', "[1,2]!", "[1, 2]!"),
        ('start: %regex {"substring_chars":"hello"}', "ell", "x"),
        ('temperature: "a"\nstart: temperature', "a", "b"),
    ],
)
def test_a_grammar(text: str, whole: str, no: str) -> None:
    """The text is what `start` derives."""
    constraint = lark(text)

    assert outcome(constraint, whole) == "whole"
    assert outcome(constraint, no) == "no"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("start: <|im_end|>", "line 1: special tokens"),
        ('start: "a"\n  <[5]>', "line 2: special tokens"),
        ('start[temperature=0.5]: "a"', "temperature"),
        ('start[lazy, temperature = 0.5]: "a"', "temperature"),
        ('%llguidance {"allow_invalid_utf8":true}\nstart: /./', "%llguidance"),
        ('{"grammars":[{"json_schema":{"uniqueItems":true}}]}', "must begin with a rule"),
        ("start: %json 5", "%json must be followed by a JSON object"),
        ("start: %json {", "%json must be followed by a JSON object"),
        ("start: %json " + '{"a":' * 100_00, "%json must be followed by a JSON object"),
        ("start: b", 'line 1: unknown name: "b"'),
        ('x: "a"', "no start rule"),
        ("", "grammar"),
        ("start: /(?=a)b/", "look-around"),
        ('start: "a', "line 1: lexer error"),
        ("start: @other", "unknown grammar"),
        ("start: " + "(" * 5000 + '"a"' + ")" * 5000, "too deeply nested"),
    ],
)
def test_a_grammar_that_cannot_be_used(text: str, reason: str) -> None:
    """Special tokens, settings that would be ignored and errors are refused, with the line where known."""
    with pytest.raises(InvalidRequest, match=re.escape(reason)) as caught:
        lark(text)

    assert caught.value.param == "lark"
    assert len(caught.value.message) < 300


def test_schemas_in_a_grammar_are_checked() -> None:
    """A keyword that cannot be enforced is refused inside a grammar as well."""
    with pytest.raises(InvalidRequest) as caught:
        lark('start: "x" %json {"items": {"uniqueItems": true}}', where="tasks.t.lark")

    assert caught.value.param == "tasks.t.lark.%json.items.uniqueItems"


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        (ARITHMETIC, {"1+2=3\n": "whole", "(1+2)*3=9\n1=1\n": "whole", "1+=2\n": "no", "1=1": "part"}),
        (LIST, {"- a\n- bé\n": "whole", "- \n": "no", "- a\u2028": "no"}),
        (CHESS, {"1. e4 e5\n2. Nf3 Nc6\n": "whole", "1. O-O-O exd8=Q#\n": "whole", "1. e9": "no"}),
        (JSON, {'{"a": [1, -2.5e3, "x\\n\\u00e9", null]}': "whole", "{}": "whole", '{"a" 1}': "no"}),
        ('root ::= ("a" | "ab") "b"', {"ab": "whole", "abb": "whole", "a": "part"}),
        ('root ::= root "+" "1" | "1"', {"1+1+1": "whole", "+": "no"}),
        ('root ::= "a"\n  | "b"\n  | "c" "d"', {"cd": "whole", "b": "whole"}),
        ('root ::= "" "a" ( | "b")', {"a": "whole", "ab": "whole"}),
        ('My-rule ::= "xy"{2} | Other\nOther ::= [a\\-z] [-a] [a-] .\nroot ::= My-rule', {"xyxy": "whole"}),
        ("root ::= [a\\-z] [-a] [a-] .", {"--a\n": "whole", "baaa": "no"}),
        ('root ::= "x"{,3} "y"{2} "z"{1,}', {"yyz": "whole", "xxxxyyz": "no", "xyyzz": "whole"}),
        ('root ::= "\\"" [\\]\\[\\\\"/] "/"', {'"]/': "whole", '"//': "whole"}),
        ("root ::= [a^] [^^]", {"^a": "whole", "a^": "no"}),
        ('root ::= "\\x41\\u00e9\\U0001F600\\t"', {"Aé😀\t": "whole"}),
    ],
)
def test_gbnf(text: str, outcomes: dict[str, str]) -> None:
    """Grammars in llama.cpp's notation mean what they mean there, character by character."""
    constraint = gbnf(text)

    assert {text: outcome(constraint, text) for text in outcomes} == outcomes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('root ::= "a"\nx ::= foo', "line 2: there is no rule foo"),
        ('x ::= "a"', "there is no rule root"),
        ("", "there is no rule root"),
        ('"a" root ::= "a"', "line 1: must begin with a rule"),
        ('root ::= ("a"', "parentheses do not match"),
        ('root ::= "a")', "parentheses do not match"),
        ('root ::= ("a"\nx ::= "b")', "parentheses do not match"),
        ("root ::= *", "nothing to repeat before *"),
        ('root ::= "a" | +', "nothing to repeat before +"),
        ('root ::= "\\q"', "unknown escape \\q"),
        ('root ::= "\\ud800"', "\\ud800 is no character"),
        ('root ::= "\\xZZ"', "\\xZZ is no character"),
        ("root ::= []", "an empty set"),
        ("root ::= <think>", "cannot read '<think>'"),
        ('\n\nroot ::= "abc', "line 3: cannot read"),
        ('x ::= "a"\n\nroot ::= "a"{3,1}', "line 3: range end"),
        ("root ::= [z-a]", "invalid character class range"),
    ],
)
def test_gbnf_that_cannot_be_used(text: str, reason: str) -> None:
    """An error names the line of the grammar as it was written."""
    with pytest.raises(InvalidRequest, match=re.escape(reason)) as caught:
        gbnf(text)

    assert caught.value.param == "gbnf"


def test_a_choice_is_exact() -> None:
    """Any characters may stand in the texts, and one text may begin another."""
    options = ['say "no"', 'say "no"\n', "é😀", "\\", "\0", ".*", "a|b", "(?i)", "", "/"]
    constraint = choice(options)

    assert {option: outcome(constraint, option) for option in options} == dict.fromkeys(options, "whole")
    assert [outcome(constraint, text) for text in ("a", "x", ".*x", "say")] == ["part", "no", "no", "part"]


def test_a_choice_of_many_and_of_one() -> None:
    """The most texts that are allowed are usable; a single one is forced."""
    many = choice([f"text number {index}" for index in range(3000)])

    assert outcome(many, "text number 2999") == "whole"
    assert matcher(choice(["yes"])).forced()
    assert allowed(matcher(choice(["only", "only"]))) == {ord("o")}


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ([], "choice"),
        ("abc", "choice"),
        ({"a": 1}, "choice"),
        (["a", 5], "choice[1]"),
        (["a", "\udfff"], "choice[1]"),
        (["x"] * (MAX_CHOICES + 1), "choice"),
        (["x" * 1000 + str(index) for index in range(100)], "choice"),
    ],
)
def test_a_choice_that_cannot_be_used(options: list[str], param: str) -> None:
    """Something else than a list of texts, or too much of it, is refused by name."""
    with pytest.raises(InvalidRequest) as caught:
        choice(options)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (any_object, ConstraintKind.JSON_SCHEMA),
        (lambda: choice(["a"]), ConstraintKind.REGEX),
        (lambda: gbnf('root ::= "a"'), ConstraintKind.LARK),
    ],
)
def test_kinds(make: Callable[[], Constraint], kind: ConstraintKind) -> None:
    """Every way to write a constraint becomes one of three kinds."""
    assert make().kind is kind
