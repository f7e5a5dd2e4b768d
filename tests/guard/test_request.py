"""What a policy makes of requests: the rows of Poncho's scenarios."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from tests.guard.guarded import LIMIT, PUBLIC, TEXT, UPSTREAM, check, sent

from arriero.errors import ContextOverflow, InvalidRequest, PayloadTooLarge, RequestError, UnknownName
from arriero.guard.body import read_body
from arriero.guard.policy import OverLimit
from arriero.guard.request import Checked, requested_model
from arriero.guard.routes import Route

# Model and fidelity (rows 1 to 15)


@pytest.mark.parametrize("model", [f'"{PUBLIC}"', '"anything/else"', "null", "123"])
def test_model_is_set(model: str) -> None:
    """A sidecar's upstream sees its own name, whatever the caller wrote."""
    assert sent(Route.CHAT, f'"model":{model}')["model"] == UPSTREAM


def test_model_is_added() -> None:
    """A request without a model gets the upstream's."""
    assert json.loads(check(Route.CHAT, f"{{{TEXT[Route.CHAT]}}}").body)["model"] == UPSTREAM


@pytest.mark.parametrize("model", ['"other"', f'"{UPSTREAM}"', '"Pocket_network"', '""', '"pocket_network "'])
def test_other_model_is_unknown(model: str) -> None:
    """Where names count, another name than the public one is unknown, the upstream's own among them."""
    with pytest.raises(UnknownName) as caught:
        sent(Route.CHAT, f'"model":{model}', any_model=False)

    assert (caught.value.kind, caught.value.param) == ("model", "model")


def test_best_of_has_a_bound_of_its_own() -> None:
    """How many answers are generated to choose from is bounded apart from how many are returned."""
    assert sent(Route.COMPLETIONS, '"n":1,"best_of":6', max_n=2, max_best_of=6)["best_of"] == 6
    with pytest.raises(InvalidRequest) as caught:
        sent(Route.COMPLETIONS, '"n":1,"best_of":7', max_n=9, max_best_of=6)

    assert caught.value.param == "best_of"


def test_model_of_another_kind_is_refused() -> None:
    """Where names count, a model that is no text is the caller's fault."""
    with pytest.raises(InvalidRequest):
        sent(Route.CHAT, '"model":["pocket_network"]', any_model=False)


@pytest.mark.parametrize(("model", "name"), [('"a"', "a"), ("null", None), ("7", None)])
def test_requested_model(model: str, name: str | None) -> None:
    """The name that a caller wrote can be read before a policy is chosen."""
    assert requested_model(read_body(f'{{"model":{model}}}'.encode(), max_bytes=99)) == name


def test_untouched_members_survive_byte_for_byte() -> None:
    """Order, number spelling, escapes and inner whitespace of untouched members are sent as they came."""
    messages = '[ {"role":"user", "content":"\\u00e9 \\"model\\":\\"x\\" meta-llama/Llama-3.1-8B-Instruct"} ]'
    tools = '[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":{"b":1.0E+2}}}}]'
    text = f'{{"tools":{tools}, "temperature": 1.50 ,"messages":{messages},"max_tokens":7,"top_p":1e0}}'

    body = check(Route.CHAT, text).body

    model = f'"model":"{UPSTREAM}"'
    assert body.decode() == (
        f'{{"tools":{tools},"temperature":1.50,"messages":{messages},"max_tokens":7,"top_p":1e0,{model}}}'
    )


def test_extra_members_of_the_known_kind_pass() -> None:
    """Members that upstreams document pass as they came."""
    members = '"chat_template_kwargs":{"enable_thinking":false},"service_tier":"auto","guided_json":{"a":1}'

    body = sent(Route.CHAT, members)

    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (body["service_tier"], body["guided_json"]) == ("auto", {"a": 1})


def test_unknown_members_are_left_out() -> None:
    """What is on no list is not sent, unless the operator named it."""
    text = f'{{{TEXT[Route.CHAT]},"brand_new":1,"sampler":2}}'

    checked = check(Route.CHAT, text, extra_members=frozenset({"sampler"}))

    assert checked.dropped == ("brand_new",)
    assert "brand_new" not in json.loads(checked.body)
    assert json.loads(checked.body)["sampler"] == 2


def test_few_of_the_members_that_are_left_out_are_named() -> None:
    """Sixteen, with 64 characters each, however many and long they are."""
    unknown = [f"{number:02}{'x' * 80}" for number in range(17)]
    members = ",".join(f'"{name}":1' for name in unknown)

    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]},{members}}}")

    assert checked.dropped == tuple(name[:64] for name in unknown[:16])
    assert checked.members.keys() == json.loads(checked.body).keys() == {"messages", "model", "max_tokens"}


@pytest.mark.parametrize("prompt", ["[1,2,3]", "[[1],[2,3]]", '["a","b"]'])
def test_prompts_of_every_form_pass(prompt: str) -> None:
    """Prompts may be texts or tokens, one or several."""
    body = json.loads(check(Route.COMPLETIONS, f'{{"prompt":{prompt}}}').body)

    assert body["prompt"] == json.loads(prompt)


def test_choices_of_an_answer_are_known() -> None:
    """The completions of an answer are as many as its prompts times `n`."""
    assert check(Route.COMPLETIONS, '{"prompt":["a","b"],"n":3}').choices == 6


@pytest.mark.parametrize(
    ("members", "choices"),
    [('"n":null', 1), ('"best_of":1', 1), ('"n":2,"best_of":2', 2), ('"n":1,"best_of":null', 1)],
)
def test_one_completion_is_made_unless_more_are_asked(members: str, choices: int) -> None:
    """What is null was not asked; as many may be generated as are returned."""
    assert check(Route.COMPLETIONS, f"{{{TEXT[Route.COMPLETIONS]},{members}}}").choices == choices


@pytest.mark.parametrize(
    ("value", "message"),
    [("0", "at least 1, it is 0"), ("5", "at most 4, it is 5"), ("1" * 40, "at most 4, it is far out of")],
)
def test_a_refusal_names_the_number(value: str, message: str) -> None:
    """As it was sent, unless it would fill the message."""
    with pytest.raises(InvalidRequest, match=f"`n` must be {message}"):
        sent(Route.COMPLETIONS, f'"n":{value}')


@pytest.mark.parametrize(("stream", "is_stream"), [("true", True), ("false", False), ("null", False)])
def test_stream_is_told(stream: str, is_stream: bool) -> None:
    """The caller of the guard learns whether the answer is a stream."""
    assert check(Route.CHAT, f'{{{TEXT[Route.CHAT]},"stream":{stream}}}').stream is is_stream


# Tokens (rows 16 to 42)


@pytest.mark.parametrize(
    ("route", "members", "limits"),
    [
        (Route.CHAT, '"max_tokens":10', {"max_tokens": 10}),
        (Route.CHAT, '"max_tokens":1024', {"max_tokens": 1024}),
        (Route.CHAT, '"max_tokens":1025', {"max_tokens": 1024}),
        (Route.CHAT, '"max_completion_tokens":16000', {"max_completion_tokens": 1024}),
        (
            Route.CHAT,
            '"max_tokens":1,"max_completion_tokens":1000000',
            {"max_tokens": 1, "max_completion_tokens": 1024},
        ),
        (
            Route.CHAT,
            '"max_tokens":16000,"max_completion_tokens":9',
            {"max_tokens": 1024, "max_completion_tokens": 9},
        ),
        (Route.CHAT, '"max_tokens":null', {"max_tokens": 1024}),
        (Route.CHAT, '"max_tokens":null,"max_completion_tokens":5', {"max_completion_tokens": 5}),
        (Route.CHAT, '"seed":1', {"max_tokens": 1024}),
        (Route.COMPLETIONS, '"seed":1', {"max_tokens": 16}),
        (Route.COMPLETIONS, '"max_tokens":8192', {"max_tokens": 1024}),
        (Route.RESPONSES, '"max_output_tokens":99999', {"max_output_tokens": 1024}),
        (Route.RESPONSES, '"top_p":1', {"max_output_tokens": 1024}),
        (Route.CHAT, '"max_tokens":9,"min_tokens":99', {"max_tokens": 9, "min_tokens": 9}),
    ],
)
def test_limits_are_cropped_or_set(route: Route, members: str, limits: dict[str, int]) -> None:
    """Every request that generates is sent with limits within the policy's."""
    body = sent(route, members)

    names = {"max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens"}
    assert {name: body[name] for name in names & body.keys()} == limits


@pytest.mark.parametrize(
    ("members", "prompt_tokens", "tokens"),
    [
        ('"max_completion_tokens":8192', 3500, 596),
        ('"seed":1', 100, 1024),
        ('"seed":1', 4000, 96),
        ('"max_tokens":1000', 4000, 96),
        ('"max_tokens":97', 4000, 96),
        ('"max_tokens":96', 4000, 96),
        ('"max_tokens":95', 4000, 95),
        ('"seed":1', 4095, 1),
    ],
)
def test_prompt_crops_the_limit(members: str, prompt_tokens: int, tokens: int) -> None:
    """A counted prompt leaves a completion the rest of the context."""
    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]},{members}}}").fitted(prompt_tokens)

    body = json.loads(checked.body)
    assert checked.max_tokens == tokens
    assert body.get("max_tokens", body.get("max_completion_tokens")) == tokens


@pytest.mark.parametrize("prompt_tokens", [4096, 4097, 5000, 1 << 70])
@pytest.mark.parametrize("over_limit", OverLimit)
def test_prompt_over_the_context_is_refused(prompt_tokens: int, over_limit: OverLimit) -> None:
    """A prompt that leaves no room for one token is refused, whatever happens over limits."""
    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]}}}", over_limit=over_limit)

    with pytest.raises(ContextOverflow):
        checked.fitted(prompt_tokens)


@pytest.mark.parametrize(
    ("members", "prompt_tokens", "refused"),
    [
        ('"max_tokens":2000', None, "max_tokens"),
        ('"max_tokens":1,"max_completion_tokens":1025', None, "max_completion_tokens"),
        ('"max_tokens":1000', 4000, "max_tokens"),
        ('"max_tokens":10,"min_tokens":11', None, "min_tokens"),
    ],
)
def test_over_limit_is_refused_where_cropping_is_off(
    members: str, prompt_tokens: int | None, refused: str
) -> None:
    """With `reject`, a caller's limit that cannot be honoured is refused by name."""
    with pytest.raises(InvalidRequest) as caught:
        check(Route.CHAT, f"{{{TEXT[Route.CHAT]},{members}}}", over_limit=OverLimit.REJECT).fitted(
            prompt_tokens or 1
        )

    assert caught.value.param == refused


@pytest.mark.parametrize(
    ("members", "prompt_tokens", "told"),
    [
        ('"seed":1', 1, ""),
        ('"seed":1', 4000, ""),
        ('"max_tokens":10', 1, ""),
        ('"max_tokens":1025', 1, "max_tokens=1024"),
        ('"max_tokens":96', 4000, ""),
        ('"max_tokens":97', 4000, "max_tokens=96"),
        ('"max_tokens":1025', 4000, "max_tokens=96"),
        ('"max_tokens":90,"max_completion_tokens":97', 4000, "max_completion_tokens=96"),
        ('"max_tokens":97,"max_completion_tokens":1025', 4000, "max_completion_tokens=96, max_tokens=96"),
    ],
)
def test_a_caller_is_told_of_fewer_tokens_than_it_asked_for(
    members: str, prompt_tokens: int, told: str
) -> None:
    """Not where it asked for none, nor where it gets exactly what it asked for."""
    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]},{members}}}")

    assert checked.fitted(prompt_tokens).cropped == told


def test_rejecting_policy_takes_what_just_fits() -> None:
    """A limit of the policy's bound, with as many tokens at least, and one that fills the context."""
    members = f'"max_tokens":{LIMIT},"min_tokens":{LIMIT}'
    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]},{members}}}", over_limit=OverLimit.REJECT)

    assert checked.fitted(4096 - LIMIT).max_tokens == LIMIT


@pytest.mark.parametrize(
    ("max_tokens", "prompt_tokens", "error"),
    [(0, 4096, None), (0, 4097, ContextOverflow), (1, 4096, ContextOverflow), (-1, 1, InvalidRequest)],
)
def test_scoring_needs_no_room_for_a_completion(
    max_tokens: int, prompt_tokens: int, error: type[Exception] | None
) -> None:
    """A prompt that is only echoed may fill the context; less than nothing is no number of tokens."""
    text = json.dumps({"prompt": [1] * prompt_tokens, "echo": True, "max_tokens": max_tokens})

    if error is None:
        assert check(Route.COMPLETIONS, text, allow_logprobs=True).max_tokens == max_tokens
    else:
        with pytest.raises(error):
            check(Route.COMPLETIONS, text, allow_logprobs=True)


def test_rejecting_policy_still_sets_a_limit() -> None:
    """With `reject`, a request without a limit gets the one that its prompt leaves."""
    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]}}}", over_limit=OverLimit.REJECT)

    assert checked.max_tokens == LIMIT
    assert checked.fitted(4000).max_tokens == 96


@pytest.mark.parametrize(
    ("route", "text", "needs"),
    [
        (Route.CHAT, '"messages":[{"role":"user","content":"Hi"}]', False),
        (Route.CHAT, '"messages":[{"role":"user","content":"%s"}]' % ("x" * 4000), True),
        (Route.CHAT, '"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]', False),
        (Route.CHAT, '"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]', True),
        (Route.CHAT, '"messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function"}]', True),
        (Route.CHAT, '"messages":[{"role":"assistant","tool_calls":[]}]', True),
        (Route.COMPLETIONS, '"prompt":"%s"' % ("x" * 4000), False),
        (Route.COMPLETIONS, '"prompt":"%s","max_tokens":999' % ("x" * 4000), True),
        (Route.COMPLETIONS, '"prompt":"%s"' % ("\U0001d160" * 340), True),  # tripled by NFC
        (Route.COMPLETIONS, '"prompt":[1,2,3],"max_tokens":1024', False),
        (Route.RESPONSES, '"input":"Hi"', False),
        (Route.RESPONSES, '"input":"Hi","tools":[{"type":"function"}]', True),
        (Route.EMBEDDINGS, '"input":"%s"' % ("x" * 9000), False),
    ],
)
def test_prompt_is_counted_only_where_that_decides(route: Route, text: str, needs: bool) -> None:
    """A count is asked for only if a cheap bound does not already fit."""
    assert check(route, f"{{{text}}}").needs_prompt_count is needs
    assert check(route, f"{{{text}}}", max_context=None).needs_prompt_count is False


def test_token_prompts_are_counted_here() -> None:
    """The longest of several prompts of tokens leaves the limit, without asking anyone."""
    prompts = [[1] * 10, [1] * 4000, [1] * 20]

    checked = check(Route.COMPLETIONS, json.dumps({"prompt": prompts, "max_tokens": 1000}))

    assert (checked.max_tokens, checked.needs_prompt_count) == (96, False)
    with pytest.raises(ContextOverflow):
        check(Route.COMPLETIONS, json.dumps({"prompt": [1] * 4096}))


def test_loglikelihood_passes_where_allowed() -> None:
    """The scoring form of the test bench is sent unchanged but for its model."""
    text = '{"model":"m","prompt":[1,2],"echo":true,"logprobs":5,"max_tokens":0,"seed":1,"temperature":0.0}'

    body = check(Route.COMPLETIONS, text, allow_logprobs=True).body

    assert body.decode() == text.replace('"m"', f'"{UPSTREAM}"')


def test_no_limits_change_nothing() -> None:
    """Without limits in the policy a request is sent as it came."""
    assert "max_tokens" not in sent(Route.CHAT, '"seed":1', max_tokens=None, max_context=None)


def test_context_alone_limits() -> None:
    """With a context but no bound for completions, a completion may have all that the prompt leaves."""
    checked = check(Route.CHAT, f"{{{TEXT[Route.CHAT]}}}", max_tokens=None)

    assert checked.needs_prompt_count
    assert checked.fitted(96).max_tokens == 4000


def test_count_requests_hold_what_is_rendered() -> None:
    """An upstream counts the messages with the tools, by its own name, and nothing else."""
    text = '{"seed":1,"messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function"}]}'

    bodies = check(Route.CHAT, text).count_requests()

    assert [json.loads(body) for body in bodies or ()] == [
        {
            "model": UPSTREAM,
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"type": "function"}],
        }
    ]


def test_count_requests_of_several_prompts() -> None:
    """Each of several prompts is counted alone."""
    bodies = check(Route.COMPLETIONS, '{"prompt":["a","b"],"add_special_tokens":false}').count_requests()

    assert [json.loads(body)["prompt"] for body in bodies or ()] == ["a", "b"]


# Log probabilities (rows 43 to 48)


@pytest.mark.parametrize(
    "members",
    [
        '"logprobs":false',
        '"logprobs":null',
        '"logprobs":false,"top_logprobs":0',
        '"prompt_logprobs":null',
        '"echo":false',
        '"return_token_ids":false',
    ],
)
def test_asking_for_no_logprobs_is_no_fault(members: str) -> None:
    """Members that ask for nothing are left out, and the request is served."""
    body = sent(Route.CHAT, members)

    assert not {"logprobs", "top_logprobs", "prompt_logprobs", "echo", "return_token_ids"} & body.keys()


@pytest.mark.parametrize(
    ("route", "members"),
    [
        (Route.CHAT, '"logprobs":true,"top_logprobs":20'),
        (Route.CHAT, '"prompt_logprobs":0'),
        (Route.COMPLETIONS, '"logprobs":0'),
    ],
)
def test_allowed_logprobs_are_sent(route: Route, members: str) -> None:
    """From none besides the token's own to the most that the policy allows."""
    body = sent(route, members, allow_logprobs=True)

    assert json.loads(f"{{{members}}}").items() <= body.items()


@pytest.mark.parametrize("members", ['"logprobs":true,"top_logprobs":21', '"prompt_logprobs":-1'])
def test_allowed_logprobs_are_bounded(members: str) -> None:
    """Where log probabilities are allowed, a vocabulary of them is not."""
    with pytest.raises(InvalidRequest):
        sent(Route.CHAT, members, allow_logprobs=True)


# Batches (rows 40, 64)


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (Route.EMBEDDINGS, {"input": ["a"] * 100}),
        (Route.EMBEDDINGS, {"input": [1] * 500}),
        (Route.EMBEDDINGS, {"input": [[1]] * 100, "encoding_format": "base64"}),
        (Route.EMBEDDINGS, {"messages": [{"role": "user", "content": "a"}]}),
        (Route.RERANK, {"query": "q", "documents": ["d"] * 100}),
        (Route.RERANK, {"query": "q", "documents": {"content": [{}] * 100}}),
        (Route.COMPLETIONS, {"prompt": ["p"] * 8}),
        (Route.CHAT, {"messages": [{}], "n": 4}),
    ],
)
def test_batches_at_their_limit_pass(route: Route, text: dict[str, Any]) -> None:
    """As many as are allowed are allowed; the tokens of one input are one input."""
    assert check(route, json.dumps(text)).body


@pytest.mark.parametrize("route", [Route.TOKENIZE, Route.MODELS])
def test_route_that_is_not_served_is_unknown(route: Route) -> None:
    """`/tokenize` is served only where it is allowed, and the list of models never from an upstream."""
    with pytest.raises(UnknownName):
        check(route, '{"prompt":"Hi"}', allow_tokenize=False)


def test_body_over_its_limit_is_refused() -> None:
    """A body may have exactly as many bytes as are allowed."""
    text = f"{{{TEXT[Route.CHAT]}}}"

    assert check(Route.CHAT, text, max_body_bytes=len(text)).body
    with pytest.raises(PayloadTooLarge):
        check(Route.CHAT, text, max_body_bytes=len(text) - 1)


def test_every_fault_is_the_callers() -> None:
    """Whatever one member of a request holds, the answer is a request or the caller's fault."""
    values = [
        None,
        True,
        -1,
        0,
        1.5,
        10**30,
        "x",
        "\x00",
        [],
        [None],
        [[]],
        {},
        {"content": None},
        [{}],
        [[1]],
    ]
    names = [
        "model",
        "messages",
        "prompt",
        "input",
        "documents",
        "query",
        "n",
        "max_tokens",
        "stream",
        "include",
        "logprobs",
        "tools",
    ]
    outcomes = set()
    for route, name, value in itertools.product(TEXT, names, values):
        members = json.loads(f"{{{TEXT[route]}}}") | {name: value}
        try:
            outcomes.add(type(check(route, json.dumps(members))))
        except RequestError as exc:
            outcomes.add(type(exc))

    assert outcomes == {Checked, InvalidRequest}
