"""completions: prompts in all forms, echo and log probabilities, with the official client."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.conftest import official_client

from arriero.testing.echo import BOS

PATH = "/v1/completions"
BODY = {"model": "m", "prompt": "Hi"}


async def test_the_official_client_completes(serving: Any, model_saying: Any) -> None:
    """Whole and streamed, with OpenAI's own default of 16 tokens."""
    async with (
        serving(model_saying("x" * 40)) as client,
        official_client(client) as sdk,
    ):
        whole = await sdk.completions.create(model="m", prompt="Hi")
        stream = await sdk.completions.create(model="m", prompt="Hi", stream=True, max_tokens=5)
        texts = [chunk.choices[0].text async for chunk in stream]

    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("x" * 16, "length")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 16
    assert "".join(texts) == "x" * 5


@pytest.mark.parametrize(
    ("prompt", "extra", "fed"),
    [
        ("a<eos>", {}, [(BOS, *b"a<eos>")]),
        ("a<eos>", {"special": True}, [(BOS, *b"a", 257)]),
        ([97, 98], {}, [(97, 98)]),
        (["a", "b"], {}, [(BOS, 97), (BOS, 98)]),
        ([[97], [98, 99]], {}, [(97,), (98, 99)]),
    ],
)
async def test_a_prompt_has_four_forms(
    serving: Any, model_saying: Any, prompt: Any, extra: Any, fed: Any
) -> None:
    """Text, texts, tokens and token lists; special names are text unless asked for, tokens get no BOS."""
    model = model_saying("x")
    async with serving(model) as client:
        answer = (await client.post(PATH, json={"model": "m", "prompt": prompt, **extra})).json()

    assert model.fed == fed
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(fed)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, fed))


async def test_choices_of_several_prompts_are_numbered_by_prompt(serving: Any, model_saying: Any) -> None:
    """n of each prompt: the first n indices are the first prompt's."""
    async with serving(model_saying("x")) as client:
        body = {"model": "m", "prompt": ["a", "b"], "n": 2, "echo": True}
        answer = (await client.post(PATH, json=body)).json()

    assert [choice["text"] for choice in answer["choices"]] == ["ax", "ax", "bx", "bx"]
    assert answer["usage"]["prompt_tokens"] == 4


async def test_echo_shows_the_prompt_with_its_log_probabilities(serving: Any, model_saying: Any) -> None:
    """The lists run over prompt and completion; the first token has no probability."""
    body = {**BODY, "echo": True, "logprobs": 1, "max_tokens": 1}
    async with serving(model_saying("\u00e9x")) as client:
        body["prompt"] = [72, 105]
        choice = (await client.post(PATH, json={**body, "max_tokens": 2})).json()["choices"][0]

    assert choice["text"] == "Hi\u00e9"
    assert choice["logprobs"] == {
        "tokens": ["H", "i", "\ufffd", "\ufffd"],
        "token_logprobs": [None, -2.0, -0.5, -0.5],
        "top_logprobs": [
            None,
            {"x": -0.25, "y": -3.0, "i": -2.0},
            {"x": -0.25, "y": -3.0, "\ufffd": -0.5},
            {"x": -0.25, "y": -3.0, "\ufffd": -0.5},
        ],
        "text_offset": [0, 1, 2, 2],
    }


async def test_a_stream_gives_the_same_as_the_whole(serving: Any, model_saying: Any, events_of: Any) -> None:
    """Echo first, then pieces; the log probabilities of all chunks make up the lists."""
    body = {"model": "m", "prompt": [72, 105], "echo": True, "logprobs": 0, "stream": True}
    async with serving(model_saying("ab")) as client:
        events = events_of((await client.post(PATH, json=body)).text)
        whole = (await client.post(PATH, json={**body, "stream": False})).json()["choices"][0]

    choices = [event["choices"][0] for event in events[:-1]]
    assert "".join(choice["text"] for choice in choices) == whole["text"] == "Hiab"
    for name, values in whole["logprobs"].items():
        assert [v for c in choices if c["logprobs"] for v in c["logprobs"][name]] == values
    assert choices[-1]["finish_reason"] == "stop"
    assert events[-1] == "[DONE]"


async def test_only_the_prompt_can_be_scored(serving: Any, model_saying: Any) -> None:
    """max_tokens 0 with echo evaluates the prompt and generates nothing."""
    model = model_saying("x")
    async with serving(model) as client:
        await client.post(PATH, json={**BODY, "echo": True, "logprobs": 1, "max_tokens": 0})

    assert (model.requests[0].max_tokens, model.requests[0].prompt_logprobs) == (0, True)


async def test_a_task_takes_the_prompt_as_its_input(serving: Any, model_saying: Any) -> None:
    """The task's texts stand around it, its own limit holds, and token ids and echo are refused."""
    model = model_saying("x" * 30)
    async with serving(model) as client:
        answer = (await client.post(PATH, json={"model": "task/t", "prompt": "Hi"})).json()
        refused = [
            (await client.post(PATH, json={"model": "t", "prompt": "a", **extra})).json()["error"]["param"]
            for extra in ({"prompt": [97]}, {"echo": True}, {"special": True})
        ]

    assert model.fed == [(BOS, *b"<Hi>")]
    assert answer["choices"][0]["text"] == "x" * 30
    assert refused == ["prompt", "echo", "special"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": ["a", [1]]}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": [258]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": ["a"] * 129}, "prompt"),
    ({"prompt": ["a"] * 65, "n": 2}, "n"),
    ({"best_of": 2}, "best_of"),
    ({"suffix": "x"}, "suffix"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": 21}, "logprobs"),
    ({"echo": "yes"}, "echo"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"tools": [{}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
]


@pytest.mark.parametrize(("change", "param"), BAD)
async def test_a_bad_request_names_its_member(serving: Any, change: dict[str, Any], param: str) -> None:
    """400 with OpenAI's error object."""
    body = {key: value for key, value in {**BODY, **change}.items() if value is not None}
    async with serving() as client:
        response = await client.post(PATH, json=body)

    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_an_unknown_model_is_not_found(serving: Any) -> None:
    """404 with OpenAI's code."""
    async with serving() as client:
        response = await client.post(PATH, json={"model": "task/nope", "prompt": "a"})

    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_end_tokens_can_be_ignored_on_a_model_only(serving: Any, model_saying: Any) -> None:
    """`ignore_eos` and `min_tokens` reach a model; a task keeps its own end."""
    model = model_saying("xyz")
    async with serving(model) as client:
        body = {"prompt": "a", "ignore_eos": True, "min_tokens": 2}
        whole = await client.post("/v1/completions", json={**body, "model": "m"})
        refused = await client.post("/v1/completions", json={**body, "model": "task/t"})

    assert whole.status_code == 200
    assert (model.requests[0].ignore_eos, model.requests[0].min_tokens) == (True, 2)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "min_tokens")
