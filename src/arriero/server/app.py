"""The pipeline: every route and every middleware, in order, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from arriero.errors import ArrieroError
from arriero.guard.routes import Route as GuardRoute
from arriero.server.auth import Authenticate
from arriero.server.context import Context
from arriero.server.cors import cors_options
from arriero.server.errors import Unexpected, answer_error
from arriero.server.openapi import answering
from arriero.server.rates import Metered
from arriero.server.request_id import RequestIds
from arriero.server.routes import keys, models, ops, pokt, tasks
from arriero.server.routes.guard import only_remote, or_remote
from arriero.server.routes.memories import MEMORY_ROUTES
from arriero.server.routes.openai import chat, completions, embeddings
from arriero.server.routes.openai import models as openai_models
from arriero.server.routes.openai.vector_store_files import VECTOR_STORE_ROUTES
from arriero.server.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arriero.config.schema import ServerConfig
    from arriero.server.context import Runtime

GET_POST = ["GET", "POST"]
POST = ["POST"]

V1: list[BaseRoute] = [
    Route("/model", models.names),
    Route("/model/{model}/embedding", models.embedding, methods=GET_POST),
    Route("/model/{model}/tokenization", models.tokenization, methods=GET_POST),
    Route("/task", tasks.names),
    Route("/task/{task}/status", tasks.status),
    Route("/task/{task}/completion", tasks.completion, methods=GET_POST),
    Route("/task/{task}/live", tasks.live),
    WebSocketRoute("/task/{task}/chat", tasks.chat),
    Route("/task/{task}/chat", tasks.upgrade_required),
    *MEMORY_ROUTES,
    *VECTOR_STORE_ROUTES,
    Route("/stats", tasks.stats),
    Route("/status", ops.overview),
    Route("/models", openai_models.listing),
    Route("/models/{id:path}", openai_models.one),
    Route("/chat/completions", or_remote(GuardRoute.CHAT, chat.create), methods=POST),
    Route("/completions", or_remote(GuardRoute.COMPLETIONS, completions.create), methods=POST),
    Route("/embeddings", or_remote(GuardRoute.EMBEDDINGS, embeddings.create), methods=POST),
    Route("/responses", only_remote(GuardRoute.RESPONSES), methods=POST),
    Route("/rerank", only_remote(GuardRoute.RERANK), methods=POST),
    Route("/tokenize", models.tokenize, methods=POST),
    Route("/detokenize", models.detokenize, methods=POST),
    Route("/tickets", keys.ticket, methods=POST),
    Route("/admin/keys", keys.listing),
    Route("/admin/keys", keys.create, methods=POST),
    Route("/admin/keys/{id}", keys.revoke, methods=["DELETE"]),
    Route("/admin/keys/{id}/rotate", keys.rotate, methods=POST),
]


def below(prefix: str, routes: list[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield routes with a prefix. A Mount would cost each open stream the memory of two more calls."""
    for route in routes:
        if isinstance(route, WebSocketRoute):
            yield WebSocketRoute(prefix + route.path, route.endpoint)
        elif isinstance(route, Route):
            yield Route(prefix + route.path, route.endpoint, methods=list(route.methods or ()))


GUARDED: list[BaseRoute] = [
    Route("/version", ops.version),
    Route("/openapi.json", answering(lambda: ROUTES)),
    Route("/tokenize", only_remote(GuardRoute.TOKENIZE), methods=POST),
    Route("/pokt/{name}", pokt.document),
    *below("/v1", V1),
]

ROUTES: list[BaseRoute] = [
    Route("/status", ops.status),
    Route("/livez", ops.status),
    Route("/health", ops.ready),
    Route("/readyz", ops.ready),
    Route("/metrics", ops.metrics),
    # Everything else, whether it exists or not, so that a stranger cannot tell which.
    Mount(
        "",
        Router(GUARDED, redirect_slashes=False),
        middleware=[Middleware(Authenticate), Middleware(Metered)],
    ),
]


def create_app(runtime: Runtime, standing: Standing | None = None) -> Starlette:
    """Return the ASGI application that serves a runtime. standing: of the server, if it has served before.

    Raises ConfigError when a file that the configuration names cannot be used.
    """
    standing = standing or Standing.of_config(runtime.config)
    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(RequestIds), *_cors(runtime.config.server), Middleware(Unexpected)],
        exception_handlers={ArrieroError: answer_error, HTTPException: answer_error},
    )
    app.router.redirect_slashes = False  # a redirect would carry `?api_key=` along
    app.state.context = Context.of_runtime(runtime)
    app.state.standing = standing
    app.state.tickets = standing.tickets
    app.state.rates = standing.rates
    app.state.observer = standing.observer
    return app


def close_app(app: Starlette) -> None:
    """Let go of the files of this application's own, once it serves no request any more."""
    app.state.context.keyring.close()


def _cors(server: ServerConfig) -> list[Middleware]:
    options = cors_options(server)
    return [] if options is None else [Middleware(CORSMiddleware, **options)]
