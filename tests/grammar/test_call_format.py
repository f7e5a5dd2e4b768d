"""Which form of calls a chat template teaches, and how each form is written."""

from __future__ import annotations

import pytest

from arriero.grammar.call_format import HERMES, LLAMA, MISTRAL, CallFormat, shown, taught_format

QWEN = (
    r'{{- "within tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <object>}\n</tool_call>" }}'
)
NOUS = """{{- "<tool_call>\n" }}{{- '{"name": <function-name>, "arguments": <args-dict>}' }}"""
NEMO = """{{- "[TOOL_CALLS][" }}"""
OLDER = """{{- "[TOOL_CALLS] [" }}"""
META = """{{- 'Respond in the format {"name": function name, "parameters": dictionary of arguments}.' }}"""
XML = r'{{- "<tool_call>\n<function=example>\n</function>\n</tool_call>" }}'
NEWER = """{{- "[TOOL_CALLS]" + name + "[ARGS]" + arguments }}"""


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (QWEN, HERMES),
        (NOUS, HERMES),
        (NEMO, MISTRAL),
        (OLDER, MISTRAL),
        (META, LLAMA),
        (XML, None),
        (NEWER, None),
        ("{{ messages[0].content }}", None),
        (None, None),
    ],
)
def test_a_template_shows_the_form_that_it_teaches(template: str | None, expected: CallFormat | None) -> None:
    """The marks beside the members of a call tell; marks around another form tell nothing."""
    assert taught_format(template) is expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            HERMES,
            '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n'
            '<tool_call>\n{"name": "g", "arguments": {"a":1}}\n</tool_call>',
        ),
        (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"a":1}}]'),
    ],
)
def test_calls_are_written_in_their_form(form: CallFormat, expected: str) -> None:
    """Marks stand around all calls and between them."""
    assert form.written([("f", "{}"), ("g", '{"a":1}')]) == expected


def test_special_tokens_are_not_shown() -> None:
    """What a reader sees of a mark is what no special token hides."""
    names = MISTRAL.special_names(["<s>", "[TOOL_CALLS]", "[INST]"])

    assert names == ["[TOOL_CALLS]"]
    assert MISTRAL.opening(names) == '[{"name": "'
    assert MISTRAL.opening(()) == '[TOOL_CALLS][{"name": "'
    assert shown("<a><b>c<a>", ["<a>"]) == "<b>c"
