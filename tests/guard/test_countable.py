from __future__ import annotations

import json
from typing import Any

import pytest

from arriero.guard.body import read_body
from arriero.guard.countable import Conversation, Texts, countable_prompt
from arriero.guard.routes import Route

USER = {"role": "user", "content": "hello"}
SYSTEM = {"role": "system", "content": "be brief"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
TOOL = {"type": "function", "function": {"name": "f"}}


def prompt_of(route: Route, members: dict[str, Any]) -> Any:
    return countable_prompt(route, read_body(json.dumps(members).encode(), max_bytes=10_000))


@pytest.mark.parametrize(
    ("route", "members", "expected"),
    [
        (Route.COMPLETIONS, {"prompt": "a"}, Texts(texts=("a",))),
        (Route.COMPLETIONS, {"prompt": ["a", "b"]}, Texts(texts=("a", "b"))),
        (Route.COMPLETIONS, {"prompt": [1, 2, 3]}, Texts(longest_tokens=3)),
        (Route.COMPLETIONS, {"prompt": [[1], [2, 3]]}, Texts(longest_tokens=2)),
        (
            Route.COMPLETIONS,
            {"prompt": "a", "add_special_tokens": False},
            Texts(texts=("a",), special=False),
        ),
        (Route.EMBEDDINGS, {"input": ["a"]}, Texts(texts=("a",))),
        (Route.EMBEDDINGS, {"messages": [USER]}, Conversation((USER,))),
        (Route.CHAT, {"messages": [SYSTEM, USER, CALL]}, Conversation((SYSTEM, USER, CALL))),
        (Route.CHAT, {"messages": [PARTS]}, Conversation((PARTS,))),
        (Route.CHAT, {"messages": [USER], "tools": [TOOL]}, Conversation((USER,), tools=(TOOL,))),
        (Route.CHAT, {"messages": [USER], "tools": []}, Conversation((USER,))),
        (
            Route.CHAT,
            {
                "messages": [USER],
                "chat_template_kwargs": {"enable_thinking": False},
                "add_generation_prompt": False,
                "add_special_tokens": True,
            },
            Conversation(
                (USER,), variables={"enable_thinking": False, "add_generation_prompt": False}, special=True
            ),
        ),
        (Route.RESPONSES, {"input": "hello"}, Conversation((USER,))),
        (
            Route.RESPONSES,
            {"input": [USER | {"type": "message"}], "instructions": "be brief"},
            Conversation((SYSTEM, USER | {"type": "message"})),
        ),
    ],
)
def test_countable(route: Route, members: dict[str, Any], expected: object) -> None:
    """Each form of a prompt is found, with what decides how it is fed."""
    assert prompt_of(route, members) == expected


@pytest.mark.parametrize(
    ("route", "members"),
    [
        (Route.CHAT, {}),
        (Route.CHAT, {"messages": []}),
        (Route.CHAT, {"messages": "hello"}),
        (Route.CHAT, {"messages": ["hello"]}),
        (Route.CHAT, {"messages": [IMAGE]}),
        (Route.CHAT, {"messages": [{"role": "user", "content": 1}]}),
        (Route.CHAT, {"messages": [USER], "tools": {}, "documents": []}),
        (Route.CHAT, {"messages": [USER], "tools": {"a": 1}}),
        (Route.CHAT, {"messages": [USER], "chat_template": "{{ messages }}"}),
        (Route.CHAT, {"messages": [USER], "chat_template_kwargs": [1]}),
        (Route.CHAT, {"messages": [USER], "reasoning_effort": "high"}),
        (Route.COMPLETIONS, {"prompt": None}),
        (Route.COMPLETIONS, {"prompt": []}),
        (Route.COMPLETIONS, {"prompt": [1, "a"]}),
        (Route.COMPLETIONS, {"prompt": [True]}),
        (Route.COMPLETIONS, {"prompt": [[]]}),
        (Route.COMPLETIONS, {"prompt": [[1], ["a"]]}),
        (Route.COMPLETIONS, {"prompt": "a", "suffix": "b"}),
        (Route.EMBEDDINGS, {"input": {"text": "a"}}),
        (Route.RESPONSES, {"input": "a", "previous_response_id": "r1"}),
        (Route.RESPONSES, {"input": "a", "tools": [TOOL]}),
        (Route.RESPONSES, {"input": "a", "instructions": ["b"]}),
        (Route.RESPONSES, {"input": [{"type": "function_call_output", "output": "x"}]}),
        (Route.RERANK, {"query": "a", "documents": ["b"]}),
    ],
)
def test_not_countable(route: Route, members: dict[str, Any]) -> None:
    """What only the upstream can count, or will refuse, is not guessed."""
    assert prompt_of(route, members) is None
