"""The admin API on stored keys, and tickets. Work on the key store's file is done in threads."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from arriero.access.key_store import NewKey
from arriero.access.principal import Grants, may
from arriero.access.tickets import LIFETIME_S
from arriero.config.auth import KeyLimits
from arriero.errors import Forbidden, NotSupported
from arriero.server.body import decoded, read_body, read_json
from arriero.server.context import context_of, principal_of
from arriero.server.routes.ops import json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from arriero.access.key_store import KeyStore, StoredKey
    from arriero.access.tickets import Tickets

DAY_S = 86400.0
MAX_OVERLAP_S = 30 * DAY_S
NO_STORE = {"cache-control": "no-store"}


class NewKeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """What POST /v1/admin/keys takes."""

    name: str
    grants: Grants = Grants()
    limits: KeyLimits | None = None
    expires_at: float | None = None


class RotationBody(msgspec.Struct, forbid_unknown_fields=True):
    """What POST /v1/admin/keys/ID/rotate takes."""

    overlap_s: float = 0


class TicketBody(msgspec.Struct, forbid_unknown_fields=True):
    """What POST /v1/tickets takes."""

    path: str | None = None


async def listing(request: Request) -> Response:
    """List the keys, without their secrets."""
    keys = await asyncio.to_thread(_store(request).list)
    return json_response({"keys": keys})


async def create(request: Request) -> Response:
    """Make a key; the answer is the only place where its secret ever stands."""
    store = _store(request)
    body = await read_json(request, NewKeyBody)
    new = NewKey(body.name, body.grants, body.limits, body.expires_at)
    return _told(*await asyncio.to_thread(store.create, new, time.time()), status=201)


async def revoke(request: Request) -> Response:
    """End a key; the next request with it is refused."""
    key = await asyncio.to_thread(_store(request).revoke, request.path_params["id"], time.time())
    return json_response({"key": key})


async def rotate(request: Request) -> Response:
    """Give a key another secret."""
    store = _store(request)
    body = decoded(await read_body(request) or b"{}", RotationBody)
    overlap_s = min(max(body.overlap_s, 0), MAX_OVERLAP_S)
    id = request.path_params["id"]
    return _told(*await asyncio.to_thread(store.rotate, id, time.time(), overlap_s=overlap_s), status=200)


async def ticket(request: Request) -> Response:
    """Answer a ticket that opens one request within 30 s, as `?ticket=`."""
    body = decoded(await read_body(request) or b"{}", TicketBody)
    tickets: Tickets = request.app.state.tickets
    issued = tickets.issue(principal_of(request), body.path, time.monotonic())
    response = json_response({"ticket": issued, "expires_in": LIFETIME_S}, 201)
    response.headers.update(NO_STORE)
    return response


def _store(request: Request) -> KeyStore:
    """Return the key store. Raises Forbidden for all but admins, NotSupported when there is none."""
    if not may(principal_of(request), "admin", "server"):
        raise Forbidden("this key may not make or revoke keys")
    store = context_of(request).keyring.store
    if store is None:
        raise NotSupported("there is no key store; set auth.key_store")
    return store


def _told(key: StoredKey, secret: str, *, status: int) -> Response:
    response = json_response({"key": key, "secret": secret}, status)
    response.headers.update(NO_STORE)
    return response
