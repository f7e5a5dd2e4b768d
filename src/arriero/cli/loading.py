"""Opens the runtime with its progress on stderr: what is fetched, then how far each model is loaded."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from arriero.cli.terminal import progress
from arriero.runtime import Pieces, Runtime, open_runtime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from arriero.config.schema import Config


@asynccontextmanager
async def open_with_progress(config: Config, pieces: Pieces | None = None) -> AsyncIterator[Runtime]:
    """Open the runtime; the progress is gone when it is open. pieces: as `open_runtime` takes them."""
    async with AsyncExitStack() as stack:
        with progress() as shown:
            runtime = await stack.enter_async_context(open_runtime(config, shown, pieces))
        yield runtime
