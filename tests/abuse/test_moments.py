"""Clients that leave at certain moments: in a prefill, while text is held back, at the last event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import pytest
from tests.abuse.subject import KEY, Subject, post, scaled, staged_subject
from tests.abuse.test_leaving import CASES, FORMS, NARROW, WAYS, Books, Leaver, tell, until
from tests.abuse.tiny import tiny_engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.abuse.figures import Figures

    Way = Callable[[Leaver], None]

CONTEXT = 2048
PROMPT_TOKENS = CONTEXT - 150
CHUNK = 4
EXTRA = f"""
[models.m]
model_path = "{{folder}}/left.gguf"
context_size = {CONTEXT}
kv_cache_tokens = {CONTEXT}
max_sequences = {CHUNK}
batch_size = {CHUNK}
prefix_store_bytes = 0
threads_per_session = 1
[tasks.t]
model = "m"
"""
HELD = 255
"""How many letters may be held back."""
SHORT = {
    form: post(
        "/v1/completions",
        msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": 4, "stream": form == "stream"}),
    )
    for form in ("whole", "stream")
}
END_S = 0.06
"""A short answer of the paced model ends within it: 4 tokens, 10 ms apart."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server with an engine process that evaluates few tokens at a time."""
    folder = tmp_path_factory.mktemp("moments")
    with tiny_engines(folder, EXTRA.format(folder=folder)) as engines:
        yield engines.subject


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server that answers one request at a time."""
    with staged_subject(tmp_path_factory.mktemp("narrow"), NARROW) as subject:
        yield subject


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    """A client of the server that the test is about."""
    name = "slow" if "slow" in request.fixturenames else "narrow"
    subject: Subject = request.getfixturevalue(name)
    with httpx2.Client(base_url=subject.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def counted(client: httpx2.Client, member: str) -> int:
    """Return a counter of the engine, a tenth of a second old at most."""
    number: int = client.get("/v1/stats").json()["engine"]["m"][member]
    return number


def until_used(client: httpx2.Client, cells: int) -> None:
    """Wait until so many cells are used."""
    until(lambda: counted(client, "used_cells") >= cells)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9], ids=["first", "middle", "last"])
def test_who_leaves_in_a_prefill_ends_it(
    slow: Subject, client: httpx2.Client, figures: Figures, share: float
) -> None:
    """Wherever in its prompt the engine is, it evaluates no more of it."""
    taken: list[float] = []
    evaluated: list[int] = []
    cases = CASES[::2]
    for number, (form, way) in enumerate(cases):
        prompt = f"{number:02}{share}".ljust(PROMPT_TOKENS, "xyz"[number % 3])
        leaver = Leaver(slow, FORMS[form](prompt))
        until(lambda: counted(client, "running") == 1)
        until_used(client, int(share * len(prompt)))
        way(leaver)
        taken.append(until(lambda: counted(client, "running") == 0))
        evaluated.append(counted(client, "used_cells"))
        assert counted(client, "used_cells") == evaluated[-1], (form, way)
        leaver.connection.close()

    tell(figures, f"who leaves in a prefill, at {share:.0%} of it", taken, [])
    in_time = sum(count < PROMPT_TOKENS for count in evaluated)
    figures.tell(
        f"  tokens of {PROMPT_TOKENS} that were evaluated then", least=min(evaluated), most=max(evaluated)
    )
    assert in_time > len(cases) / 2, "the prompts were evaluated to their ends"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS[:3], ids=lambda way: way.__name__)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_who_leaves_while_text_is_held_back_ends_the_work(
    slow: Subject, client: httpx2.Client, figures: Figures, stream: bool, way: Way
) -> None:
    """Text that may be a stop sequence is not sent yet: the client goes without having seen any."""
    taken: list[float] = []
    for _ in range(scaled(5)):
        leaver = Leaver(slow, post("/v1/completions", msgspec.json.encode(held(client, stream=stream))))
        until(lambda: counted(client, "running") == 1)
        until_used(client, counted(client, "used_cells") + HELD // 5)
        way(leaver)
        taken.append(until(lambda: counted(client, "running") == 0))
        made = counted(client, "completion_tokens")
        assert counted(client, "completion_tokens") == made
        leaver.connection.close()

    tell(figures, f"who leaves while text is held back: {'stream' if stream else 'whole'}", taken, [])


def held(client: httpx2.Client, *, stream: bool) -> dict[str, Any]:
    """Return a request for one letter again and again, which might become a stop sequence."""
    letter = client.post("/v1/tokenize", json={"model": "m", "text": "ax"}).json()["tokens"][-1]["token"]
    more = {"logit_bias": {str(letter): 100}, "stop": ["x" * HELD + "y"], "ignore_eos": True}
    return {"model": "m", "prompt": "a", "max_tokens": 1500, "stream": stream, **more}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_who_leaves_at_the_end_leaves_nothing(
    narrow: Subject, client: httpx2.Client, figures: Figures, form: str
) -> None:
    """At every moment around the last event, and in each way: the only place is free for the next one."""
    books = Books(client)
    taken: list[float] = []
    rounds = scaled(25)
    for way in [way for one, way in CASES if one == form]:
        for number in range(rounds):
            leaver = Leaver(narrow, SHORT.get(form, FORMS[form]("a")))
            time.sleep(END_S * number / rounds)
            way(leaver)
            taken.append(until(lambda: books.running() == 0 and books.waiting() == 0))
            leaver.connection.close()
    answer = client.get("/v1/task/t/completion?prompt=a")

    tell(figures, f"who leaves around the end: {form}", taken, [])
    assert answer.status_code == 200
