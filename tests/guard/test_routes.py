"""The paths of the guard, and everything that looks like one."""

from __future__ import annotations

import pytest

from arriero.guard.routes import Route, route_of

PATHS = [route.value for route in Route]


@pytest.mark.parametrize("route", Route)
def test_paths_are_known(route: Route) -> None:
    """Each route has one spelling; a query does not belong to it."""
    path = route.value.encode()

    assert [route_of(path), route_of(path + b"?a=1&a=%26"), route_of(path + b"?")] == [route] * 3


def odd(path: str) -> list[str]:
    """A path in spellings that some server would take for it."""
    last = path.rpartition("/")[2]
    return [
        path + "/",
        path + "//",
        "/" + path,
        path + "/.",
        path + "/..",
        path + ";a=1",
        path + ";",
        path + "#x",
        path + "%20",
        path + " ",
        path + "\t",
        path + "%00",
        path + "\x00",
        path + "%3F",
        path + ".json",
        path.upper(),
        path.title(),
        path[1:],
        path.replace("/", "//"),
        path.replace("/", "/./"),
        path.replace("/", "%2f"),
        path.replace("/", "\\"),
        "/x/.." + path,
        "/x/%2e%2e" + path,
        "/v1" + path,
        f"/%{ord(path[1]):02x}{path[2:]}",
        path.replace(last, f"%{ord(last[0]):02X}{last[1:]}"),
        path.replace(last, f"%25{ord(last[0]):02x}{last[1:]}"),
        "http://upstream:8000" + path,
        "//upstream:8000" + path,
        "*" + path,
    ]


@pytest.mark.parametrize("target", [target for path in PATHS for target in odd(path)])
def test_odd_spelling_is_no_route(target: str) -> None:
    """A path in any other spelling is not a path of the guard."""
    assert route_of(target.encode()) is None


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1",
        "/metrics",
        "/version",
        "/docs",
        "/openapi.json",
        "/invocations",
        "/ping",
        "/load",
        "/server_info",
        "/health",
        "/sleep",
        "/wake_up",
        "/pause",
        "/collective_rpc",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/messages",
        "/pooling",
        "/score",
        "/v1/score",
        "/rerank",
        "/v2/rerank",
        "/detokenize",
        "/tokenizer_info",
        "/v1/chat/completions/render",
        "/v1/completions/render",
        "/inference/v1/generate",
        "/generate",
        "/v1/audio/transcriptions",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/models/x",
        "/v1/../metrics",
        "/v1/%2e%2e/metrics",
        "/v1/..%2fmetrics",
        "/v1/embeddings/../../metrics",
        "http://169.254.169.254/",
        "*",
    ],
)
def test_other_paths_are_no_route(target: str) -> None:
    """Whatever else an upstream serves is not reached."""
    assert route_of(target.encode()) is None
