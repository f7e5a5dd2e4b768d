"""Tool calls in a stream of text: the same events for every cut of it."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from arriero.grammar.call_format import HERMES, LLAMA, MISTRAL, CallFormat, shown
from arriero.grammar.call_parser import Arguments, CallBegin, CallParser, Content, Event

NASTY = r'{"a":"}{\"]<tool_call>\\","b":[{"name": "x"},{}],"c":{"d":[]}}'
ONE = [("get_weather", '{"city":"Paris"}')]
MANY = [("f", "{}"), ("g-2", NASTY), ("f", '{"é":"\U0001f600"}')]

Said = tuple[str, list[tuple[str, str]]]


def said(events: Iterable[Event]) -> Said:
    """Return the content and the calls that the events tell of."""
    content = ""
    calls: list[tuple[str, str]] = []
    for event in events:
        match event:
            case Content(text):
                assert text
                assert not calls, "content comes before the calls"
                content += text
            case CallBegin(name):
                calls.append((name, ""))
            case Arguments(text):
                assert text
                calls[-1] = (calls[-1][0], calls[-1][1] + text)
    return content, calls


def parsed(pieces: Iterable[str], form: CallFormat, special: tuple[str, ...] = ()) -> tuple[Said, bool]:
    parser = CallParser(form, special)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return said([*events, *parser.finish()]), parser.has_calls


CASES = [
    (HERMES, (), "", ONE),
    (HERMES, (), "Let me see < <tool_ca <tool_call>\n.\n", MANY),
    (HERMES, ("<tool_call>", "</tool_call>"), "I look it up.", [*ONE, *ONE]),
    (MISTRAL, ("[TOOL_CALLS]",), "", MANY),
    (MISTRAL, (), "Wait. ", ONE),
    (LLAMA, (), "", ONE),
]


@pytest.mark.parametrize(("form", "special", "content", "calls"), CASES)
def test_every_cut_gives_the_same_calls(
    form: CallFormat, special: tuple[str, ...], content: str, calls: list[tuple[str, str]]
) -> None:
    """One piece, two pieces cut anywhere, single characters and random pieces are read alike."""
    text = content + shown(form.written(calls), special)
    dice = random.Random(7)
    cuts = [sorted(dice.sample(range(len(text)), 5)) for _ in range(50)]
    cuts += [[place] for place in range(len(text) + 1)]
    pieces = [
        [text[a:b] for a, b in zip([0, *cut], [*cut, len(text)], strict=True)]
        for cut in [*cuts, list(range(1, len(text)))]
    ]

    for cut_text in pieces:
        assert parsed(cut_text, form, special) == ((content, calls), True)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "No call, <tool_call> <tool"),
        (HERMES, ""),
        (HERMES, '{"name": "f", "arguments": {}}'),
        (MISTRAL, 'A list: [{"name": 1}]'),
        (LLAMA, 'Not at the start: {"name": "f", "parameters": {}}'),
        (LLAMA, '{"name":"f"}'),
        (LLAMA, '{"nam'),
    ],
)
def test_text_without_calls_is_content(form: CallFormat, text: str) -> None:
    """All of it is given back, also the beginning of a mark at the end."""
    assert parsed([text], form) == ((text, []), False)
    assert parsed(text, form) == ((text, []), False)


def test_arguments_come_as_they_are_written() -> None:
    """The name is told as soon as it is known, each piece of the arguments at once, no mark at all."""
    parser = CallParser(HERMES)
    pieces = ["<tool_call>", '\n{"name": "f', '", "argum', 'ents": {"a', '":1', "}}\n</to", "ol_call>"]

    assert [parser.feed(piece) for piece in pieces] == [
        [],
        [],
        [],
        [CallBegin("f"), Arguments('{"a')],
        [Arguments('":1')],
        [Arguments("}")],
        [],
    ]
    assert parser.finish() == []


@pytest.mark.parametrize("size", range(1, len(HERMES.written(ONE)) - len("}\n</tool_call>")))
def test_a_call_that_was_cut_off_is_not_whole(size: int) -> None:
    """At any length before the end of the arguments there are no finished calls, and no failure."""
    (_, calls), has_calls = parsed(HERMES.written(ONE)[:size], HERMES)

    assert not has_calls
    assert all(ONE[0][1].startswith(arguments) for _, arguments in calls)
