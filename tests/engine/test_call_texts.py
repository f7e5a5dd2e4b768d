"""Tools, calls and results as text, for templates that have no form for them."""

from __future__ import annotations

import pytest

from arriero.engine.call_texts import with_call_texts
from arriero.errors import InvalidRequest

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}
USER = {"role": "user", "content": "Hi"}
WRITTEN = '<tool_call>\n{"name": "f", "arguments": {"a": "é"}}\n</tool_call>'


def test_messages_without_tools_stay() -> None:
    """Nothing is added where nothing concerns tools."""
    assert with_call_texts([USER], None) == [USER]


def test_tools_are_listed_in_the_system_message() -> None:
    """An own system message is made, or the caller's comes first; the form of a call is shown."""
    own, user = with_call_texts([USER], [TOOL])
    after, _ = with_call_texts([{"role": "system", "content": "Be kind."}, USER], [TOOL])

    assert user == USER
    assert own["role"] == "system"
    assert '{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}' in str(
        own["content"]
    )
    assert '<tool_call>\n{"name": "FUNCTION NAME", "arguments": {ARGUMENTS}}\n</tool_call>' in str(
        own["content"]
    )
    assert after["content"] == f"Be kind.\n\n{own['content']}"


@pytest.mark.parametrize(("content", "before"), [(None, ""), ("", ""), ("Well.", "Well.\n")])
def test_calls_follow_the_content(content: str | None, before: str) -> None:
    """They are written as the model is asked to write them."""
    message = {"role": "assistant", "content": content, "tool_calls": [CALL]}

    assert with_call_texts([message], None) == [{"role": "assistant", "content": before + WRITTEN}]


def test_arguments_that_are_no_json_stay_text() -> None:
    """What another server let through is shown as it was."""
    call = {"function": {"name": "f", "arguments": "{a"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, call]}

    assert with_call_texts([message], None)[0]["content"] == "\n".join(
        ['<tool_call>\n{"name": "f", "arguments": {a}\n</tool_call>'] * 2
    )


def test_results_of_one_turn_are_one_message() -> None:
    """So that the roles go on alternating."""
    result = {"role": "tool", "content": "3", "tool_call_id": "c"}

    assert with_call_texts([USER, result, result, USER, result], None) == [
        USER,
        {
            "role": "user",
            "content": "<tool_response>\n3\n</tool_response>\n<tool_response>\n3\n</tool_response>",
        },
        USER,
        {"role": "user", "content": "<tool_response>\n3\n</tool_response>"},
    ]


@pytest.mark.parametrize("calls", ["f", [1], [{}], [{"function": "f"}], [{"function": {"arguments": "{}"}}]])
def test_a_malformed_call_is_refused(calls: object) -> None:
    """The message and the call are named."""
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.tool_calls") as caught:
        with_call_texts([{"role": "assistant", "content": None, "tool_calls": calls}], None)

    assert (caught.value.param or "").startswith("messages[0].tool_calls")
