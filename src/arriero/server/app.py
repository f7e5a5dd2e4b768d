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
from arriero.server.errors import Unexpected, answer_error
from arriero.server.request_id import RequestIds
from arriero.server.routes import models, ops, tasks
from arriero.server.routes.guard import only_remote, or_remote
from arriero.server.routes.openai import chat, completions, embeddings
from arriero.server.routes.openai import models as openai_models

if TYPE_CHECKING:
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
    Route("/stats", tasks.stats),
    Route("/models", openai_models.listing),
    Route("/models/{id:path}", openai_models.one),
    Route("/chat/completions", or_remote(GuardRoute.CHAT, chat.create), methods=POST),
    Route("/completions", or_remote(GuardRoute.COMPLETIONS, completions.create), methods=POST),
    Route("/embeddings", or_remote(GuardRoute.EMBEDDINGS, embeddings.create), methods=POST),
    Route("/responses", only_remote(GuardRoute.RESPONSES), methods=POST),
    Route("/rerank", only_remote(GuardRoute.RERANK), methods=POST),
    Route("/tokenize", models.tokenize, methods=POST),
    Route("/detokenize", models.detokenize, methods=POST),
]

ROUTES: list[BaseRoute] = [
    Route("/status", ops.status),
    Route("/livez", ops.status),
    Route("/health", ops.ready),
    Route("/readyz", ops.ready),
    Route("/version", ops.version),
    Route(
        "/tokenize",
        only_remote(GuardRoute.TOKENIZE),
        methods=POST,
        middleware=[Middleware(Authenticate)],
    ),
    Mount("/v1", Router(V1, redirect_slashes=False), middleware=[Middleware(Authenticate)]),
]


def create_app(runtime: Runtime) -> Starlette:
    """Return the ASGI application that serves a runtime."""
    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(RequestIds), *_cors(runtime.config.server), Middleware(Unexpected)],
        exception_handlers={ArrieroError: answer_error, HTTPException: answer_error},
    )
    app.router.redirect_slashes = False  # a redirect would carry `?api_key=` along
    app.state.context = Context.of_runtime(runtime)
    return app


def _cors(server: ServerConfig) -> list[Middleware]:
    """Let browsers in from the configured origins: absent = from anywhere, empty = from nowhere else."""
    origins = ["*"] if server.allowed_origins is None else list(server.allowed_origins)
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "OPTIONS", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    ]
