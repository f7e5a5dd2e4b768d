"""Engine processes for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.wire import EngineConfig


@asynccontextmanager
async def opened(path: Path, **changes: object) -> AsyncIterator[LocalModel]:
    """A local model with a small context, closed in the end."""
    settings = {
        "name": "m",
        "path": str(path),
        "context_size": 512,
        "cells": 4096,
        "batch_size": 256,
        "max_sequences": 8,
        "threads": 1,
        "stored_bytes": 64 << 20,
        **changes,
    }
    supervisor = Supervisor(EngineConfig(**settings))  # type: ignore[arg-type]
    await supervisor.start()
    try:
        yield LocalModel("m", supervisor)
    finally:
        await supervisor.stop()
