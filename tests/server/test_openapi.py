"""The OpenAPI document says what the server does."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from arriero.server.app import ROUTES
from arriero.server.openapi import document
from arriero.server.operations import OPERATIONS

if TYPE_CHECKING:
    import httpx2
    from tests.server.conftest import Serving

DOCUMENT = json.loads(json.dumps(document(ROUTES)))
OPEN = {"/status", "/livez", "/health", "/readyz"}
EXAMPLES = [
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/tokenize",
    "POST /v1/detokenize",
    "POST /v1/tickets",
    "POST /v1/model/{model}/embedding",
    "POST /v1/model/{model}/tokenization",
    "POST /v1/task/{task}/completion",
]
"""Those that a server without memories and keys of its own can answer."""
ANSWERS = [
    "GET /status",
    "GET /readyz",
    "GET /version",
    "GET /v1/model",
    "GET /v1/task",
    "GET /v1/memory",
    "GET /v1/stats",
    "GET /v1/status",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "GET /v1/task/{task}/status",
    "GET /v1/task/{task}/completion",
    "GET /v1/model/{model}/tokenization",
]


def served_operations(routes: list[BaseRoute]) -> Iterator[str]:
    """Yield method and path of everything that an application serves."""
    for route in routes:
        if isinstance(route, Mount):
            yield from served_operations(list(route.routes))
            continue
        assert isinstance(route, Route | WebSocketRoute)
        path = re.sub(r":\w+\}", "}", route.path)
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, Route) else {"GET"}
        yield from (f"{method} {path}" for method in methods)


def written_operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield method and path of everything that the document holds, with what it says."""
    for path, methods in DOCUMENT["paths"].items():
        for method, said in methods.items():
            yield f"{method.upper()} {path}", said


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a value."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(one)


def target(key: str) -> str:
    """Return the path of an operation with names that the server under test has."""
    return key.partition(" ")[2].format(model="m", task="t", id="m")


def named(example: dict[str, Any]) -> dict[str, Any]:
    """Return an example with the name of a model that the server under test has."""
    return {**example, "model": "m"} if "model" in example else example


def written(key: str) -> dict[str, Any]:
    """Return what the document says of an operation."""
    method, _, path = key.partition(" ")
    said: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return said


def json_body(key: str) -> dict[str, Any]:
    """Return what the document says of the JSON body of an operation."""
    said: dict[str, Any] = written(key)["requestBody"]["content"]["application/json"]
    return said


def resolved(said: dict[str, Any]) -> dict[str, Any]:
    """Return an object, or the response that it refers to."""
    if "$ref" not in said:
        return said
    response: dict[str, Any] = DOCUMENT["components"]["responses"][said["$ref"].rpartition("/")[2]]
    return response


def validate(answer: httpx2.Response, key: str) -> None:
    """Raise unless an answer is as the document says."""
    content = resolved(written(key)["responses"][str(answer.status_code)])["content"]
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = content[media_type]["schema"] | {"components": DOCUMENT["components"]}
    value = answer.json() if "json" in media_type else answer.text
    jsonschema.Draft202012Validator(schema).validate(value)


def test_every_route_is_in_it_and_no_other() -> None:
    """The document and the table behind it hold what the application serves, neither more nor less."""
    served = set(served_operations(ROUTES))

    assert {key for key, _ in written_operations()} == served
    assert set(OPERATIONS) == served


def test_all_references_lead_somewhere() -> None:
    """No `$ref` points into nothing, and no component is there for nothing."""
    used = {part["$ref"] for part in parts(DOCUMENT) if "$ref" in part}
    there = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in DOCUMENT["components"][kind]
    }

    assert used == there


@pytest.mark.slow
def test_its_schemas_are_schemas() -> None:
    """Each is valid by the dialect that OpenAPI 3.1 has, JSON Schema 2020-12."""
    inline = [part["schema"] for part in parts(DOCUMENT) if isinstance(part.get("schema"), dict)]
    different = {json.dumps(schema): schema for schema in inline if "$ref" not in schema}
    assert len(different) > 20

    schemas = DOCUMENT["components"]["schemas"] | different
    jsonschema.Draft202012Validator.check_schema({"$defs": schemas})


def test_operations_are_whole() -> None:
    """Each has an id of its own, a summary, its path's parameters, and a description of each response."""
    ids = Counter(said["operationId"] for _, said in written_operations())
    assert max(ids.values()) == 1

    for key, said in written_operations():
        assert said["summary"], key
        in_path = [one["name"] for one in said["parameters"] if one["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", key), key
        assert any(status < "400" for status in said["responses"]), key
    assert all(said["description"] for said in DOCUMENT["components"]["responses"].values())


def test_it_tells_what_needs_no_key() -> None:
    """Only health is open; the metrics may be; all else wants a key in one of its places."""
    is_open = {key.partition(" ")[2] for key, said in written_operations() if said["security"] == []}
    perhaps = {key.partition(" ")[2] for key, said in written_operations() if {} in said["security"]}

    assert is_open == OPEN
    assert perhaps == {"/metrics"}
    assert {"bearer", "key", "key_in_query"} <= set(DOCUMENT["components"]["securitySchemes"])


def test_streams_and_sockets_are_told() -> None:
    """What answers with events says so, and the socket is one."""
    streaming = {
        key
        for key, said in written_operations()
        if "text/event-stream" in said["responses"].get("200", {}).get("content", {})
    }
    sockets = {key for key, said in written_operations() if "x-websocket" in said}

    assert streaming == {
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/responses",
        "GET /v1/task/{task}/live",
    }
    assert sockets == {"GET /v1/task/{task}/chat"}
    assert "101" in DOCUMENT["paths"]["/v1/task/{task}/chat"]["get"]["responses"]


async def test_it_is_served_to_who_may_use_the_server(serving: Serving) -> None:
    """With a key one gets the document itself; a stranger gets 401."""
    async with serving() as client:
        answer = await client.get("/openapi.json")
        refused = await client.get("/openapi.json", headers={"authorization": "Bearer wrong"})

    assert answer.json() == DOCUMENT
    assert answer.headers["content-type"] == "application/json"
    assert refused.status_code == 401


async def test_examples_are_accepted(serving: Serving) -> None:
    """The example of a route is answered, and the answer is as the document says."""
    async with serving() as client:
        for key in EXAMPLES:
            answer = await client.post(target(key), json=named(json_body(key)["example"]))

            assert answer.status_code in (200, 201), (key, answer.text)
            validate(answer, key)


async def test_required_members_are_required(serving: Serving) -> None:
    """Without a member that the document requires an example is refused by that name, with a known status."""
    async with serving() as client:
        for key in EXAMPLES:
            body = json_body(key)
            schema = DOCUMENT["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
            for name in schema["required"]:
                less = {member: value for member, value in named(body["example"]).items() if member != name}
                answer = await client.post(target(key), json=less)

                assert answer.status_code in (400, 422), (key, name)
                assert name in answer.text, (key, name)
                validate(answer, key)


async def test_answers_are_as_it_says(serving: Serving) -> None:
    """What the server answers to plain questions matches the schemas of the answers."""
    async with serving() as client:
        for key in ANSWERS:
            answer = await client.get(target(key), params={"prompt": "Hi"})

            assert answer.status_code == 200, key
            validate(answer, key)
