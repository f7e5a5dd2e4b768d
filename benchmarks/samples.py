"""Many hot samples of many schemas on one model, each checked by a validator of its own.

`python -m benchmarks.samples --model MODEL.gguf [--count 1000] [--library LIBLLAMA]`. Prints a line for
each schema and ends with status 1 if a sample does not validate. The form of the answers is what is
tested, so that they are short; the temperature is 1.5 with no truncation at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema

from arriero.core import FinishReason, GenerateRequest, Span
from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.wire import EngineConfig
from arriero.grammar import constraint
from arriero.sampling import SamplingParams, Temperature

STREAMS = 16
HOT = (Temperature(1.5),)
PROMPT = "JSON: "


def closed(**properties: object) -> dict[str, Any]:
    """Return the schema of an object with just these properties."""
    required = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


SCHEMAS: dict[str, object] = {
    "boolean": {"type": "boolean"},
    "null or small": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 9}]},
    "integer with both ends": {"type": "integer", "minimum": -17, "maximum": 120},
    "integer above": {"type": "integer", "exclusiveMinimum": 99, "maximum": 100_000},
    "number in a range": {"type": "number", "minimum": -0.32, "maximum": 5.87, "multipleOf": 0.01},
    "enum of texts": {"enum": ["The quick", "The quick brown fox", "jumped over", 'a "quoted" word']},
    "enum of all kinds": {"enum": [None, True, 0, -1.5, "text", [1, 2], {"a": None}]},
    "const": {"const": {"version": 2, "tags": ["a", "b"]}},
    "short string": {"type": "string", "minLength": 2, "maxLength": 6},
    "pattern": {"type": "string", "pattern": "^[a-c]{2,4}-[0-9]{3}$"},
    "address": {"type": "string", "format": "ipv4"},
    "uuid": {"type": "string", "format": "uuid"},
    "array of booleans": {"type": "array", "items": {"type": "boolean"}, "minItems": 0, "maxItems": 4},
    "array of enums": {"type": "array", "items": {"enum": ["a", "ab", "abc"]}, "minItems": 2, "maxItems": 3},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer", "minimum": 0, "maximum": 12}, {"type": "boolean"}],
        "items": False,
        "minItems": 2,
    },
    "empty object": closed(),
    "optional property": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "nested object": closed(car=closed(wheels={"type": "integer", "minimum": 3, "maximum": 6})),
    "either object": {
        "anyOf": [closed(kind={"const": "cat"}, lives={"enum": [7, 9]}), closed(kind={"const": "dog"})]
    },
    "references": {
        "$ref": "#/$defs/pair",
        "$defs": {
            "pair": closed(left={"$ref": "#/$defs/side"}, right={"$ref": "#/$defs/side"}),
            "side": {"type": "integer", "minimum": 0, "maximum": 99},
        },
    },
}


async def sample(model: LocalModel, schema: object, seed: int) -> str | None:
    """Return one answer, None if the full context cut it."""
    request = GenerateRequest(
        prompt=(Span(text=PROMPT),),
        sampling=SamplingParams(chain=HOT, seed=seed),
        constraint=constraint.json_schema(schema, where="schema"),
    )
    deltas = [delta async for delta in model.generate(request)]
    if deltas[-1].finish_reason is not FinishReason.STOP:
        return None
    return "".join(delta.text for delta in deltas)


async def failures(model: LocalModel, schema: object, count: int) -> list[str]:
    """Return the samples that do not validate; those that the context cut are marked as such."""
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    validator = jsonschema.Draft202012Validator(exact, format_checker=jsonschema.FormatChecker())
    seeds = iter(range(count))
    found: list[str] = []

    async def work(seeds: Iterator[int]) -> None:
        for seed in seeds:
            text = await sample(model, schema, seed)
            if text is None:
                found.append(f"seed {seed}: no end")
            elif not is_valid(validator, text):
                found.append(f"seed {seed}: {text}")

    await asyncio.gather(*(work(seeds) for _ in range(STREAMS)))
    return found


def is_valid(validator: jsonschema.Draft202012Validator, text: str) -> bool:
    """Tell whether the text is JSON that validates; numbers are taken as they are written, not as floats."""
    try:
        return bool(validator.is_valid(json.loads(text, parse_float=Decimal)))
    except ValueError:
        return False


async def measure(options: argparse.Namespace) -> int:
    """Sample every schema; return the number of samples that do not validate."""
    config = EngineConfig(
        name="bench",
        path=str(options.model),
        context_size=512,
        cells=8192,
        batch_size=512,
        max_sequences=STREAMS,
        threads=options.threads,
        library=str(options.library) if options.library else None,
    )
    supervisor = Supervisor(config)
    await supervisor.start()
    bad = 0
    try:
        for name, schema in SCHEMAS.items():
            started = time.monotonic()
            found = await failures(LocalModel("bench", supervisor), schema, options.count)
            bad += len(found)
            seconds = time.monotonic() - started
            print(
                f"{name}: {options.count - len(found)} of {options.count} valid, {seconds:.0f} s", flush=True
            )
            for line in found[:3]:
                print(f"  {line}")
    finally:
        await supervisor.stop()
    print(f"{len(SCHEMAS) * options.count - bad} of {len(SCHEMAS) * options.count} valid")
    return bad


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samples", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000, help="samples of each schema")
    parser.add_argument("--library", type=Path, help="libllama; default: that of the wheel")
    parser.add_argument("--threads", type=int, default=2)
    sys.exit(1 if asyncio.run(measure(parser.parse_args())) else 0)


if __name__ == "__main__":
    main()
