"""The cells with constrained answers: two schemas, each also as a GBNF grammar for the peer.

Both allow no whitespace between tokens and the keys in one order, so that all servers choose among the
same texts. Every answer must validate; one that does not ends the benchmark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jsonschema

from benchmarks.figures import Figure, Measure, batch_details, counted
from benchmarks.stream import Batch, Outcome, completion, run_together

if TYPE_CHECKING:
    from benchmarks.server import Server

MAX_TOKENS = 400

TEXT_RULES = r"""
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})
boolean ::= "true" | "false"
"""


@dataclass(frozen=True)
class Form:
    """What an answer must be: as a schema and as a grammar."""

    name: str
    prompt: str
    schema: dict[str, Any]
    grammar: str


def _object(**properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SIMPLE = Form(
    name="simple",
    prompt="A member of the chess club, as JSON with name, age and member:\n",
    schema=_object(
        name={"type": "string", "maxLength": 24},
        age={"type": "integer", "minimum": 0, "maximum": 120},
        member={"type": "boolean"},
    ),
    grammar=r"""
root ::= "{\"name\":\"" char{0,24} "\",\"age\":" age ",\"member\":" boolean "}"
age ::= [0-9] | [1-9] [0-9] | "1" ([0-1] [0-9] | "20")
"""
    + TEXT_RULES,
)

COMPLICATED = Form(
    name="complicated",
    prompt="A delivery of a small farm to one of its customers, as JSON:\n",
    schema=_object(
        delivery_number={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
        customer=_object(
            full_name={"type": "string", "minLength": 2, "maxLength": 30},
            kind={"enum": ["household", "restaurant", "grocery store"]},
        ),
        state={"enum": ["ordered", "harvested", "on the way", "delivered"]},
        boxes={
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": _object(
                product_name={"type": "string", "maxLength": 20},
                quantity={"type": "integer", "minimum": 1, "maximum": 99},
                is_organic={"type": "boolean"},
            ),
        },
        remarks={"type": ["string", "null"], "maxLength": 40},
    ),
    grammar=r"""
root ::= "{\"delivery_number\":\"" [A-Z]{2} "-" [0-9]{4} "\",\"customer\":" customer ",\"state\":" rest
rest ::= state ",\"boxes\":[" box ("," box){0,2} "],\"remarks\":" remarks "}"
customer ::= "{\"full_name\":\"" char{2,30} "\",\"kind\":" kind "}"
kind ::= "\"household\"" | "\"restaurant\"" | "\"grocery store\""
state ::= "\"ordered\"" | "\"harvested\"" | "\"on the way\"" | "\"delivered\""
box ::= "{\"product_name\":\"" char{0,20} "\",\"quantity\":" [1-9] [0-9]? ",\"is_organic\":" boolean "}"
remarks ::= "null" | "\"" char{0,40} "\""
"""
    + TEXT_RULES,
)


@dataclass(frozen=True)
class Constrained:
    """Streams of answers in one form at once: time for an answer, and tokens per second of all.

    One short run, untimed, comes first, so that the constraint is compiled.
    """

    kind = "constrained"
    form: Form
    streams: int
    turns: int

    @property
    def label(self) -> str:
        return f"constrained {self.form.name} {self.streams}"

    async def run(self, server: Server, seed: str) -> list[Figure]:
        first = sum(map(ord, seed)) * 1000
        await self._turn(server, first)
        before = server.engine_counters()
        batches = [await self._turn(server, first + turn + 1) for turn in range(self.turns)]
        details = {**batch_details(batches), **counted(before, server.engine_counters())}
        outcomes = [outcome for batch in batches for outcome in batch.outcomes]
        name = f"{self.form.name} schema, {self.streams} streams"
        seconds = sum(outcome.last_s for outcome in outcomes) / len(outcomes)
        tokens = sum(batch.completion_tokens for batch in batches) / sum(batch.wall_s for batch in batches)
        return [
            Figure(Measure(f"{name}, an answer", "ms", rate=False), seconds * 1e3, details),
            Figure(Measure(name, "tokens/s", rate=True), tokens, details),
        ]

    async def _turn(self, server: Server, seed: int) -> Batch:
        if server.variant.is_peer:
            constraint: dict[str, object] = {"grammar": self.form.grammar}
        else:
            named = {"name": self.form.name, "schema": self.form.schema, "strict": True}
            constraint = {"response_format": {"type": "json_schema", "json_schema": named}}
        requests = [
            completion(
                self.form.prompt, max_tokens=MAX_TOKENS, seed=100 * seed + i, ignore_eos=False, **constraint
            )
            for i in range(self.streams)
        ]
        batch = await run_together(server.port, requests)
        for outcome in batch.outcomes:
            check(self.form, outcome)
        return batch


def check(form: Form, outcome: Outcome) -> None:
    """Raise SystemExit unless the answer is what the form says, or was cut at the token limit."""
    if outcome.completion_tokens >= MAX_TOKENS:
        return
    try:
        jsonschema.validate(json.loads(outcome.text), form.schema)
    except (ValueError, jsonschema.ValidationError) as exc:
        raise SystemExit(f"the answer is not of the form {form.name}: {outcome.text!r}: {exc}") from exc
