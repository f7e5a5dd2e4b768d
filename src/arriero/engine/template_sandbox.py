"""The Jinja environment in which chat templates run: the dialect of Hugging Face, sandboxed and bounded.

A template comes out of a model file, so it is foreign code. The sandbox gives it no way to Python
objects, files or modules; the bounds here end loops, recursion and growth, also that by a single
method, filter or format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from arriero.engine.template_budget import Budget
from arriero.engine.template_filters import FILTERS
from arriero.engine.template_growth import GROWING, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import CodeType

    from jinja2.runtime import Context

MAX_BITS = 4096
"""Size of a number that an operator makes."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering; it owns what is left to it.

    Dialect: trim_blocks, lstrip_blocks, break and continue, `generation` blocks (no effect),
    `raise_exception`, `strftime_now`, and a `tojson` that escapes nothing for HTML.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationBlock],
            optimized=False,
            finalize=self._told,
        )
        self.filters = FILTERS
        self.globals["raise_exception"] = raise_exception
        self.globals["strftime_now"] = lambda form: now().strftime(form)
        self.globals["namespace"] = SilentNamespace
        self.budget = Budget()

    def render(self, code: CodeType, values: Mapping[str, object]) -> str:
        """Run a compiled template. Raises TemplateError, or whatever the template's expressions raise."""
        template = Template.from_code(self, code, self.make_globals(None))
        pieces: list[str] = []
        length = 0
        try:
            for piece in template.generate(**values):
                pieces.append(piece)
                length += len(piece)
                self.budget.bound(length)
        finally:
            self.budget.forget()  # an environment is full of circles, and waits for the garbage collector
        return "".join(pieces)

    def step(self, chars: int) -> str:
        """Count one turn of a loop or one call of a macro, and the template's own text in it."""
        self.budget.step(chars)
        return ""

    def made(self, value: Any) -> Any:
        """Count a value that an expression has made, and return it."""
        self.budget.tick()
        self.budget.made(value)
        return value

    def joined(self, *values: object) -> str:
        """Do the work of the operator `~`."""
        self.budget.bound(sum(map(self.budget.size, values)))
        text = "".join(map(str, values))
        self.budget.made(text)
        return text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse an operation with too large a result before it is carried out."""
        if isinstance(left, int) and isinstance(right, int):
            size = (
                left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            )
            self.budget.bound(size, MAX_BITS)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            self.budget.bound(len(left) + len(right))
        elif operator == "*":
            self.budget.bound(_repeated(left, right))
        elif operator == "%":
            self.budget.bound(size_of("%", left, (right,)))
        return self.made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Refuse a call with too large a result before it is carried out. Jinja2 names its parameters so."""
        if getattr(__obj, "__self__", None) is __self:  # what `_Counted` has put there
            return __obj(*args)
        name = getattr(__obj, "__name__", "")
        if name in GROWING:
            # Jinja2 puts a function of its own around the methods that format.
            value = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
            if name == "join" and args:  # the text that joins has the method
                __self.budget.bound(size_of(name, args[0], (value,)))
            else:
                __self.budget.bound(size_of(name, value, (*args, *kwargs.values())))
        return __self.made(super().call(__context, __obj, *args, **kwargs))

    def _told(self, value: Any) -> Any:
        self.budget.told(value)
        return value

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = Parser(self, source, name, filename).parse()
        return _Counted(self).visit(template)  # type: ignore[no-any-return]


class SilentNamespace(Namespace):
    """A namespace that does not write out what it holds: that may change, and hold other namespaces."""

    def __repr__(self) -> str:
        return "<Namespace>"


class GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks text for training; here it only opens a scope."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance attribute

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=lineno)


class _Counted(NodeTransformer):
    """Puts a `step` at the head of all that can run again, `joined` in the place of `~`, and `made` around
    what makes or compares values otherwise than by a call.
    """

    def __init__(self, environment: TemplateSandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 finds it by name
        return self._with_step(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._call("joined", node.nodes, node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._with_made(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._with_made(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        return self._with_made(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._with_made(node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        if isinstance(node.arg, nodes.Slice):
            return self._with_made(node)
        self.generic_visit(node)
        return node

    def _with_made(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return self._call("made", [node], node.lineno)

    def _with_step(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        chars = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        count = self._call("step", [nodes.Const(chars)], node.lineno)
        step = nodes.ExprStmt(count, lineno=node.lineno)
        node.body.insert(0, step.set_environment(self._environment))
        return node

    def _call(self, method: str, arguments: list[nodes.Expr], lineno: int) -> nodes.Call:
        attribute = nodes.EnvironmentAttribute(method, lineno=lineno)
        call = nodes.Call(attribute, arguments, [], None, None, lineno=lineno)
        call.set_environment(self._environment)
        return call


def raise_exception(message: str) -> NoReturn:
    """Let a template refuse messages."""
    raise TemplateError(message)


def _repeated(left: object, right: object) -> int:
    match left, right:
        case (str() | list() | tuple(), int()):
            return len(left) * right
        case (int(), str() | list() | tuple()):
            return left * len(right)
        case _:
            return 0
