"""The filters of chat templates: Jinja's own, held to the budget of their rendering, and a plain `tojson`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from jinja2 import pass_context
from jinja2.filters import FILTERS as JINJA_FILTERS

from arriero.engine.template_budget import MAX_ITEMS
from arriero.engine.template_growth import GROWING, size_of

if TYPE_CHECKING:
    from jinja2.runtime import Context

    Filter = Callable[..., Any]

_QUICK = frozenset({"capitalize", "count", "d", "default", "e", "escape", "indent", "length", "lower"})
_QUICK |= frozenset({"replace", "safe", "string", "tojson", "trim", "upper"})
"""Filters that may be given texts of any length; others look at characters one by one, or several times."""
_SLOW = frozenset({"forceescape", "pprint", "striptags", "title", "truncate", "urlencode", "urlize"})
_SLOW |= frozenset({"wordcount", "wordwrap", "xmlattr"})
"""Filters that make a text of whatever they are given, and then take long."""
_MOST_DIGITS = 64
"""Of the places that `round` rounds to."""


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as it is; jinja2's own filter would escape it for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _bounded(name: str, function: Filter) -> Filter:
    """Return the filter, which refuses to take or to make too large a value."""
    wanted = getattr(function, "jinja_pass_arg", None)  # of what Jinja hands it before its value
    handed = _HANDED[wanted.name if wanted else None]

    @wraps(function)
    def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        sandbox: Any = context.environment
        budget = sandbox.budget
        if name == "join" and isinstance(value, Iterator):
            value = list(value)
        if name in GROWING:
            budget.bound(size_of(name, value, (*args, *kwargs.values())))
        if name == "round":
            budget.bound(_largest((*args, *kwargs.values())), _MOST_DIGITS)
        if name in _SLOW or (isinstance(value, str) and name not in _QUICK):
            budget.bound(budget.size(value), MAX_ITEMS)
        return sandbox.made(function(*handed(context), value, *args, **kwargs))

    return pass_context(bounded)


def _largest(places: Iterable[object]) -> int:
    return max((abs(number) for number in places if isinstance(number, int)), default=0)


_HANDED: Mapping[str | None, Callable[[Context], tuple[object, ...]]] = {
    None: lambda context: (),
    "context": lambda context: (context,),
    "eval_context": lambda context: (context.eval_ctx,),
    "environment": lambda context: (context.environment,),
}
FILTERS = {name: _bounded(name, function) for name, function in {**JINJA_FILTERS, "tojson": to_json}.items()}
