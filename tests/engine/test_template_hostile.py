"""Special tokens smuggled into a chat, and templates that try to get out or to take all there is."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.test_template import BRACKETS, CHATML, EMPTY, HEADERS, SPECIAL, TEACHES, TURNS, template

from arriero.core import Span
from arriero.engine.template_budget import MAX_CPU_S
from arriero.errors import InvalidRequest

WHOLE = (
    TEACHES + "{{ '<|im_start|>' }}{{ messages | tojson }}{{ tools | tojson }}{{ topic }}{{ '<|im_end|>' }}"
)
BARE = "{% for m in messages %}<|im_{{ m.content }}|>{{ m.content }}start|>{% endfor %}"

DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda name: name,
    "twice": lambda name: name + name,
    "within itself": lambda name: name[:3] + name + name[3:],
    "without its beginning": lambda name: name[1:],
    "without its end": lambda name: name[:-1],
    "its first half": lambda name: name[: len(name) // 2],
    "its second half": lambda name: name[len(name) // 2 :],
    "with a zero-width space": lambda name: name[:2] + "\u200b" + name[2:],
    "with a soft hyphen": lambda name: name[:2] + "\xad" + name[2:],
    "in full-width letters": lambda name: "".join(chr(ord(char) + 0xFEE0) for char in name),
    "as an entity": lambda name: name.replace("<", "&lt;").replace(">", "&gt;"),
    "percent-encoded": lambda name: "".join(f"%{ord(char):02X}" for char in name),
    "in capitals": str.upper,
    "within spaces": lambda name: f" \n{name}\t ",
    "within characters that could be marks": lambda name: f"\U000f0000{name}\U000f0001",
    "halves beside a mark": lambda name: f"{name[:3]}\U000f0000{name[3:]}",
    "as a template": lambda name: "{{ '" + name + "' }}",
}
CHANNELS: dict[str, Callable[[str], dict[str, Any]]] = {
    "user": lambda text: {"content": text},
    "parts": lambda text: {
        "content": [{"type": "text", "text": text[:4]}, {"type": "text", "text": text[4:]}]
    },
    "system": lambda text: {"role": "system", "content": text},
    "history": lambda text: {"role": "assistant", "content": text},
    "name": lambda text: {"content": "x", "name": text},
    "a tool's result": lambda text: {"role": "tool", "content": text, "tool_call_id": "1"},
    "a tool's id": lambda text: {"role": "tool", "content": "x", "tool_call_id": text},
    "an argument": lambda text: call_of({"a": text}),
    "the name of an argument": lambda text: call_of({text: 1}),
}


def call_of(arguments: dict[str, object]) -> dict[str, Any]:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def num_special(spans: tuple[Span, ...]) -> int:
    """Return how many names of special tokens stand where they are tokens."""
    texts = [span.text for span in spans if span.special]
    return sum(text.count(name) for text in texts for name in SPECIAL)


def injected(names: tuple[str, ...]) -> Iterator[str]:
    """Yield each case that makes or unmakes a special token, for templates that show all there is."""
    chat = template(WHOLE)
    for name, (disguise, disguised), (channel, message) in itertools.product(
        names, DISGUISES.items(), CHANNELS.items()
    ):
        said = [{"role": "user", **message(text)} for text in (disguised(name), "x")]
        spans, innocent = (chat.render([one], tools=[{"name": "f"}], topic="") for one in said)
        if num_special(spans) != num_special(innocent):
            yield f"{name} {disguise} in {channel}"


def test_no_disguise_makes_a_special_token() -> None:
    """In no place of a message; the template's own tokens stay."""
    assert list(injected(("<|im_end|>",))) == []


@pytest.mark.slow
def test_no_special_token_can_be_injected() -> None:
    """The same for every name."""
    assert list(injected(SPECIAL)) == []


@pytest.mark.slow
@pytest.mark.parametrize("source", [CHATML, HEADERS, TURNS, BRACKETS, BARE], ids=range(5))
def test_no_two_messages_make_a_special_token(source: str) -> None:
    """Whatever two users' messages say side by side, within 2,000 pairs of disguised names."""
    rng, chat = random.Random(10), template(source)
    innocent = num_special(chat.render(pair("x", "y")))
    for _ in range(2000):
        texts = [rng.choice(list(DISGUISES.values()))(rng.choice(SPECIAL)) for _ in range(2)]

        assert num_special(chat.render(pair(*texts))) == innocent, texts


def pair(first: str, second: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": first}, {"role": "assistant", "content": second}]


OBJECTS = (
    "''",
    "[]",
    "{}",
    "()",
    "1",
    "true",
    "none",
    "messages",
    "self",
    "cycler",
    "lipsum",
    "joiner",
    "namespace",
)
OBJECTS += ("range", "dict", "raise_exception", "strftime_now", "messages[0]", "loop", "caller", "''.format")
WAYS_OUT = (
    "{{ OBJ.__class__.__mro__[1].__subclasses__() }}",
    "{{ OBJ.__class__.__base__.__subclasses__() }}",
    "{{ OBJ.__init__.__globals__['os'].popen('touch CANARY').read() }}",
    "{{ OBJ.__globals__['__builtins__']['open']('CANARY', 'w') }}",
    "{{ (OBJ | attr('__class__')).__mro__ }}",
    "{{ OBJ['__class__']['__mro__'] }}",
    "{{ OBJ['\\x5f\\x5fclass\\x5f\\x5f'].mro() }}",
    "{{ '{0.__class__.__mro__}'.format(OBJ) }}",
    "{{ '{0.__init__.__globals__}' | format(OBJ) }}{{ '{x.__class__.__mro__}'.format_map({'x': OBJ}) }}",
    "{% set x = OBJ %}{{ [x] | map(attribute='__class__') | map(attribute='__mro__') | list }}",
    "{{ [OBJ] | groupby('__class__') | list }}{{ ([OBJ] | map('attr', '__class__') | first).mro() }}",
    "{% import OBJ as x %}{{ x.__loader__ }}",
    "{% include '/etc/passwd' %}{{ OBJ }}",
)
SHOWN = ("Popen", "<function", "<module", "__builtins__", "root:")


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_template_gets_out(way: str, tmp_path: Path) -> None:
    """Nothing of Python is shown and nothing done, from whatever object a template starts."""
    canary = tmp_path / "canary"
    for found in OBJECTS:
        chat = template(way.replace("OBJ", found).replace("CANARY", str(canary)))
        try:
            said = "".join(span.text for span in chat.render(EMPTY))
        except InvalidRequest:
            continue
        assert not any(word in said for word in SHOWN)
    assert not canary.exists()


BOMBS = (
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x'.center(1000000000) | length }}",
    "{{ '1'.zfill(1000000000) | length }}",
    "{{ '\\t'.expandtabs(1000000000) | length }}",
    "{{ 'x' | center(1000000000) | length }}",
    "{{ 'a\\nb' | indent(1000000000) | length }}",
    "{{ {'a': 1} | tojson(indent=1000000000) | length }}",
    "{{ [1] | batch(1000000000, 'x') | list | length }}",
    "{{ [1] | slice(1000000000) | list | length }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%0*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) | length }}",
    "{{ '{:>1000000000}'.format(1) | length }}",
    "{{ '{:>{}}'.format(1, 1000000000) | length }}",
    "{{ '{x:>1000000000}'.format_map({'x': 1}) | length }}",
    "{{ lipsum(n=1000000000) }}",
    "{{ (1).to_bytes(1000000000, 'big') | length }}",
    "{{ range(99999999) | list | length }}",
    "{% set s = 'x' * 10000000 %}{{ s.replace('x', s) | length }}",
    "{% set s = 'x' * 10000000 %}{{ s | replace('x', s) | length }}",
    "{% set s = 'x' * 10000000 %}{{ s.join(s) | length }}",
    "{% set s = 'x' * 10000000 %}{{ s | join(s) | length }}",
    "{% set s = 'x' * 10000000 %}{{ 'a\\nb' * 1000000 | indent(s) | length }}",
    "{{ 1.5 | round(1000000000, 'ceil') }}",
    "{{ ('<a>' * 5000000) | striptags | length }}",
    "{{ ([{'a': 1}] * 200000) | urlize | length }}",
    "{{ ('x' * 1000000) | list | length }}",
)
LINES = {
    "{% set x = [x, x] %}": "{{ x }}",
    "{% set x = (x, x) %}": "{{ x | string | length }}",
    "{% set x = {'a': x, 'b': x} %}": "{{ x | tojson | length }}",
    "{% set x = x + x %}": "{{ x == [] }}",
    "{% set x = [x] + [x] %}": "{{ x == [] }}",
    "{% set x = [x.copy(), x.copy()] %}": "{{ x | join | length }}",
    "{% set x %}{{ x }}{{ x }}{% endset %}": "{{ x | length }}",
    "{% set x = dict(a=x, b=x) %}": "{{ '%s' % x }}",
    "{% set x = x | batch(1) | list + x | batch(1) | list %}": "{{ x == [] }}",
}
BOMBS += tuple("{% set x = ['x'] %}" + line * 40 + end for line, end in LINES.items())
BOMBS += (
    "{% set x = 'x' * 16000000 %}{% macro f() %}{{ x }}{{ x }}{% endmacro %}{% set y = f() %}{{ y }}",
    "{% macro f() %}"
    + "y" * 100000
    + "{% endmacro %}{% for i in range(9000) %}{% set y = f() %}{% endfor %}",
    "{% set x = 'x' * 16000000 %}" + "{% set y = x[1:] %}" * 30,
    "{% set x = 'x' * 16000000 %}" + "{% set y = x.upper() %}" * 30,
)
MOST_CPU_S = MAX_CPU_S + 1.0


@pytest.mark.parametrize("source", BOMBS)
def test_no_call_allocates_without_bounds(source: str) -> None:
    """What one filter, method or format makes is bounded as well; over it the request is refused."""
    chat = template(source)
    started = time.process_time()
    with pytest.raises(InvalidRequest):
        chat.render(EMPTY)

    assert time.process_time() - started < MOST_CPU_S


def test_no_template_takes_the_processor_for_long() -> None:
    """Operations that are quick, one by one, are bounded together."""
    chat = template(
        "{% set s = 'ab' * 8000000 %}{% for i in range(9000) %}{% if 'abc' in s %}{% endif %}{% endfor %}"
    )
    started = time.process_time()
    with pytest.raises(InvalidRequest, match="more than 2 s"):
        chat.render(EMPTY)

    assert time.process_time() - started < MOST_CPU_S


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{% set n = namespace(a=[]) %}{% set n.a = n.a + [[1, 'b']] %}{{ n.a }}{{ n }}",
            "[[1, 'b']]<Namespace>",
        ),
        ("{% filter upper %}{{ 'a' }}{% endfilter %}{{ 'abc'[1:] }}{{ (1, 2)[0] }}", "Abc1"),
        ("{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }}{% endfor %}{{ 1.25 | round(1) }}", "371.2"),
        ("{{ 'on 20241122: %s' % 'x' }}", "on 20241122: x"),
        ("{{ 'on 20241122: {}'.format(1700000000) }}", "on 20241122: 1700000000"),
        ("{{ '%-4s|%3d' | format('a', 5) }}", "a   |  5"),
        ("{{ ['a', 'b'] | map('upper') | join(', ') }}", "A, B"),
        ("{{ ', '.join(['a', 'b']) }}{{ 'aba'.replace('a', 'cc') }}", "a, bccbcc"),
        ("{{ 'a\nb' | indent(2) }}{{ 'x' | center(3) }}", "a\n  b x "),
        ("{{ {'a': 1700000000} | tojson(indent=1) }}", '{\n "a": 1700000000\n}'),
    ],
)
def test_usual_calls_work(source: str, expected: str) -> None:
    """Formats, joins, indents and large numbers are as they were."""
    assert template(source).render(EMPTY)[0].text == expected
