"""Which Qdrant server is asked: the address of its REST interface, and whether it is new enough."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from arriero.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

logger = logging.getLogger(__name__)

GRPC_PORT, REST_PORT = 6334, 6333
LEAST_VERSION = (1, 10)
"""The first one that answers queries of `points/query` and weighs words by how rare they are."""


def rest_url(url: str) -> str:
    """Return the address of the REST interface; Poly's configurations name the port of the other one."""
    parts = urlsplit(url)
    if parts.port != GRPC_PORT:
        return url
    logger.warning("Qdrant is asked over REST: port %d in place of %d", REST_PORT, GRPC_PORT)
    return parts._replace(netloc=f"{parts.netloc.removesuffix(str(GRPC_PORT))}{REST_PORT}").geturl()


async def require_version(client: AsyncQdrantClient) -> None:
    """Refuse a server that is too old; one that does not tell its version may be new enough.

    Raises ConfigError, and what the client raises when the server does not answer.
    """
    try:
        version = (await client.info()).version
    except (UnexpectedResponse, ValueError):
        return  # It answered, but not as Qdrant does: a gateway may have a page of its own there.
    except ResponseHandlingException as exc:
        if isinstance(exc.source, ValueError):
            return
        raise
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise ConfigError(f"the Qdrant server is of version {version}; a memory needs {least} or later")
