"""A server process whose model waits, floods or speaks at a pace: `python -m tests.abuse.stage EXTRA_TOML`.

Everything but the models is the product: configuration, edge, keys, gate, routes. A prompt that holds
"wait" is answered by one piece and then nothing; "flood" by pieces without end; any other by one character
for each of its `max_tokens`, `STEP_S` apart.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
from tests.server.conftest import ScriptedModel, Stage, staged

from arriero.config.schema import Config
from arriero.core import Delta, FinishReason, GenerateRequest, Usage
from arriero.server.serve import serve

STEP_S = 0.01
FLOOD = "x" * 65536
FLOOD_STEP_S = 0.1
DEFAULT_MAX_TOKENS = 4
MOST_TOKENS = 100


class PacedModel(ScriptedModel):
    """Does what the prompt says, and counts what it is doing."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        prompt = self._prompt_tokens(request.prompt, add_bos=request.add_bos)
        said = bytes(token for token in prompt if token < 256)
        self.running += 1
        self.stats = {"running": self.running}
        try:
            yield Delta(text="a", tokens=1)
            if b"wait" in said:
                await asyncio.get_running_loop().create_future()
            while b"flood" in said:
                yield Delta(text=FLOOD, tokens=1)
                await asyncio.sleep(FLOOD_STEP_S)
            count = min(request.max_tokens or DEFAULT_MAX_TOKENS, MOST_TOKENS)
            started = time.monotonic()
            for step in range(1, count):
                # An engine does not wait for a server that is late.
                early_s = started + step * STEP_S - time.monotonic()
                if early_s > 0:
                    await asyncio.sleep(early_s)
                yield Delta(text="b", tokens=1)
            usage = Usage(prompt_tokens=len(prompt), completion_tokens=count)
            context = self._context(request, (*prompt, *b"a", *b"b" * (count - 1)))
            yield Delta(finish_reason=FinishReason.LENGTH, usage=usage, context=context)
        finally:
            self.running -= 1
            self.stats = {"running": self.running}


def main(extra: Path) -> int:
    """Serve until a signal."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stage = staged(PacedModel(), extra.read_text())
    server = msgspec.structs.replace(stage.config.server, bind_address="127.0.0.1:0")
    stage = replace(stage, config=msgspec.structs.replace(stage.config, server=server))

    @asynccontextmanager
    async def opened(config: Config) -> AsyncIterator[Stage]:
        yield stage

    return serve(stage.config, opener=opened)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
