"""How many things one request asks for: completions, prompts, inputs, documents.

The upstream's work grows with each of them, so each has a bound, and each has one accepted form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arriero.errors import InvalidRequest
from arriero.guard.routes import GENERATING, Route

if TYPE_CHECKING:
    from arriero.guard.body import Body
    from arriero.guard.policy import Policy


def check_counts(body: Body, route: Route, policy: Policy) -> int:
    """Return how many completions an answer will hold. Raises InvalidRequest over a limit."""
    prompts = 1
    if route is Route.COMPLETIONS:
        prompts = _count_of(body, "prompt", policy.max_prompts)
    elif route in GENERATING:
        _require_content(body, route)
    elif route is Route.EMBEDDINGS:
        _check_inputs(body, policy)
    elif route is Route.RERANK:
        _check_documents(body, policy)
    elif route is Route.TOKENIZE:
        _require_one_of(body, "prompt", "messages")
    if "n" in body.values or "best_of" in body.values:
        return prompts * _choices(body, policy)
    return prompts


def integer(body: Body, name: str, *, least: int, most: int | None = None) -> int | None:
    """Return a member that must be a JSON integer; null is left out. Raises InvalidRequest."""
    value = body.values.get(name)
    if value is None:
        body.drop(name)
        return None
    if type(value) is not int:  # a bool is an int to isinstance; upstreams read "5" and 5.0 as 5
        raise InvalidRequest(f"`{name}` must be a whole number", param=name)
    if value < least:
        raise InvalidRequest(f"`{name}` must be at least {least}, it is {_short(value)}", param=name)
    if most is not None and value > most:
        raise InvalidRequest(f"`{name}` must be at most {most}, it is {_short(value)}", param=name)
    return value


def _short(value: int) -> str:
    return str(value) if abs(value) < 1 << 64 else "far out of range"


def _choices(body: Body, policy: Policy) -> int:
    n = integer(body, "n", least=1, most=policy.max_n) or 1
    best_of = integer(body, "best_of", least=1, most=policy.max_best_of)
    if best_of is not None and best_of < n:
        raise InvalidRequest("`best_of` must not be less than `n`", param="best_of")
    return n


def _require_content(body: Body, route: Route) -> None:
    name = "messages" if route is Route.CHAT else "input"
    value = body.values.get(name)
    is_text = route is Route.RESPONSES and type(value) is str
    if not is_text and not (type(value) is list and value):
        raise InvalidRequest(f"`{name}` must be a list with at least one item", param=name)


def _require_one_of(body: Body, *names: str) -> str:
    given = [name for name in names if body.get(name) is not None]
    if len(given) != 1:
        raise InvalidRequest(f"the request must hold one of {', '.join(names)}", param=names[0])
    return given[0]


def _check_inputs(body: Body, policy: Policy) -> None:
    if _require_one_of(body, "input", "messages") == "input":
        _count_of(body, "input", policy.max_inputs)
    # vLLM answers its other encodings with bytes that are not JSON.
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidRequest("`encoding_format` must be float or base64", param="encoding_format")


def _count_of(body: Body, name: str, most: int | None) -> int:
    count = _texts(body.get(name))
    if count is None:
        raise InvalidRequest(
            f"`{name}` must be a text, a list of texts, a list of token ids, or a list of such lists",
            param=name,
        )
    _require_at_most(name, count, most)
    return count


def _texts(value: Any) -> int | None:
    """Return how many texts a text, several texts, tokens or several lists of tokens are."""
    if isinstance(value, str):
        return 1
    if not isinstance(value, list) or not value:
        return None
    if all(type(token) is int for token in value):
        return 1
    if all(isinstance(text, str) for text in value) or all(_is_tokens(tokens) for tokens in value):
        return len(value)
    return None


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _check_documents(body: Body, policy: Policy) -> None:
    documents = _items(body.get("documents"))
    if not documents:
        raise InvalidRequest("`documents` must be a list with at least one document", param="documents")
    _require_at_most("documents", len(documents), policy.max_documents)
    query = body.get("query")
    if not isinstance(query, str) and len(_items(query) or ()) != 1:
        raise InvalidRequest("`query` must be one text", param="query")


def _items(value: Any) -> list[Any] | None:
    # vLLM also takes {"content": [...]}, with a document in each part.
    if isinstance(value, dict) and value.keys() == {"content"}:
        value = value["content"]
    return value if isinstance(value, list) else None


def _require_at_most(name: str, count: int, most: int | None) -> None:
    if most is not None and count > most:
        raise InvalidRequest(f"`{name}` holds {count} items, at most {most} are allowed", param=name)
