"""What a route may use: the runtime, the keys and the gate; and the names it may look up.

The runtime is whatever has a configuration, models and tasks, so that tests can build one by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from arriero.access.keyring import Keyring
from arriero.access.principal import Principal, may
from arriero.core import Embedder, Model
from arriero.errors import Forbidden, UnknownName
from arriero.guard.local import has_rules, local_policy
from arriero.server.errors import UnknownPath
from arriero.server.gate import Gate, Lane

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from arriero.config.schema import Config
    from arriero.core import Span
    from arriero.guard.forward import Guard
    from arriero.guard.pokt_source import PoktSource
    from arriero.guard.policy import Policy
    from arriero.memory.library.door import Door
    from arriero.memory.memory import Memory
    from arriero.tasks.task import Task

TASK_PREFIX = "task/"


class ModelLike(Model, Embedder, Protocol):
    """A model as the server uses it."""

    @property
    def is_ready(self) -> bool:
        """Whether the model can serve at this moment."""
        ...

    @property
    def stats(self) -> object:
        """The counters of its engine, as /v1/stats shows them."""
        ...

    @property
    def chat_stop_sequences(self) -> tuple[str, ...]:
        """Texts that end a chat answer when the model's template has no token for it."""
        ...

    def shrink(self) -> None:
        """Let the engine give up memory that it can do without; nothing waits for that."""
        ...

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
    ) -> tuple[Span, ...]:
        """Return the prompt of a chat. Raises InvalidRequest when the template refuses the messages."""
        ...


class Runtime(Protocol):
    """What is being served."""

    @property
    def config(self) -> Config: ...

    @property
    def models(self) -> Mapping[str, ModelLike]:
        """The models that run here, by their public names."""
        ...

    @property
    def guards(self) -> Mapping[str, Guard]:
        """The remote models by their public names."""
        ...

    @property
    def tasks(self) -> Mapping[str, Task]: ...

    @property
    def memories(self) -> Mapping[str, Memory]: ...

    @property
    def door(self) -> Door:
        """The way to the files and memories of callers."""
        ...

    @property
    def pokt(self) -> PoktSource | None:
        """What `/pokt/*` answers; None when the configuration does not say for which model."""
        ...


@dataclass(frozen=True)
class Context:
    """One per application; reached by `context_of(request)`."""

    runtime: Runtime
    keyring: Keyring
    gate: Gate
    """The places of the models that run here."""
    policies: Mapping[str, Policy]
    """The rules of the models that have some, by their public names."""
    open_gate: Gate = field(default_factory=lambda: Gate(1 << 30, max_waiting=0))
    """For models that run elsewhere: their guards count their requests."""
    started_at: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of_runtime(cls, runtime: Runtime) -> Context:
        """Build the context that the runtime's configuration asks for."""
        config = runtime.config
        return cls(runtime, Keyring.from_config(config), _gate(config), _policies(runtime))

    @property
    def max_body_bytes(self) -> int:
        """The bound on request bodies."""
        return self.runtime.config.server.max_body_bytes

    def model(self, principal: Principal, name: str) -> ModelLike:
        """Return the model of this name. Raises UnknownName, Forbidden."""
        self.check_model(principal, name)
        model = self.runtime.models.get(name)
        if model is None:
            raise UnknownName("model", name, param="model")
        return model

    def check_model(self, principal: Principal, name: str) -> None:
        """Raise Forbidden unless the principal may use models of this name, whether there is one or not."""
        _check(principal, f"model/{name}")

    def task(self, principal: Principal, name: str) -> Task:
        """Return the task of this name. Raises UnknownName, Forbidden."""
        _check(principal, f"task/{name}")
        task = self.runtime.tasks.get(name)
        if task is None:
            raise UnknownName("task", name, param="model")
        return task

    def memory(self, principal: Principal, name: str, action: str) -> Memory:
        """Return the memory of this name, to "read" or to "write". Raises UnknownName, Forbidden."""
        if not may(principal, action, f"memory/{name}"):
            raise Forbidden(f"this key may not {action} the memory {name}")
        memory = self.runtime.memories.get(name)
        if memory is None:
            raise UnknownName("memory", name)
        return memory

    def model_or_task(self, principal: Principal, name: str) -> ModelLike | Task:
        """Resolve an OpenAI model id: a model's name, `task/NAME`, or a task's name that no model bears.

        A bare name of a task that may not be used is looked up like one that nothing bears.
        Raises UnknownName, Forbidden.
        """
        if name.startswith(TASK_PREFIX):
            return self.task(principal, name.removeprefix(TASK_PREFIX))
        task = self._task_named(name)
        if task is not None and may(principal, "use", f"task/{task.name}"):
            return task
        return self.model(principal, name)

    def _task_named(self, name: str) -> Task | None:
        tasks = self.runtime.tasks
        if name.startswith(TASK_PREFIX):
            return tasks.get(name.removeprefix(TASK_PREFIX))
        return None if name in self.runtime.models else tasks.get(name)

    def policy(self, name: str) -> Policy | None:
        """Return the rules for an OpenAI model id, for a task those of its model; None = there are none."""
        task = self._task_named(name)
        return self.policies.get(name if task is None else self.runtime.config.public_name(task.config.model))

    def lane(self, principal: Principal, task: Task | None = None) -> Lane:
        """Return the principal's way to a place, on a task's model or on one that runs here."""
        is_remote = task is not None and task.config.model in self.runtime.config.remote_models
        return (self.open_gate if is_remote else self.gate).of(principal.tenant, principal.priority)

    def guard(self, principal: Principal, name: str | None) -> Guard | None:
        """Return what guards the model of this name, or every name that is not known; None if nothing does.

        Raises Forbidden.
        """
        guards = self.runtime.guards
        if name is not None and (guard := guards.get(name)) is not None:
            _check(principal, f"model/{name}")
            return guard
        if name is not None and self._is_local(name):
            return None
        for public_name, guard in guards.items():
            if guard.policy.any_model:
                _check(principal, f"model/{public_name}")
                return guard
        return None

    def pokt(self, principal: Principal) -> PoktSource:
        """Return what `/pokt/*` answers. Raises UnknownPath when nothing does, Forbidden."""
        source = self.runtime.pokt
        if source is None:
            raise UnknownPath("nothing is served here: the key pokt.model must name one of the models")
        _check(principal, f"model/{source.model}")
        return source

    def _is_local(self, name: str) -> bool:
        task = name.removeprefix(TASK_PREFIX)
        return name in self.runtime.models or task in self.runtime.tasks

    def remote_names(self, principal: Principal) -> list[str]:
        """Return the public names of the remote models that the principal may use."""
        return sorted(name for name in self.runtime.guards if may(principal, "use", f"model/{name}"))

    def model_names(self, principal: Principal) -> list[str]:
        """Return the names of the models here that the principal may use."""
        return sorted(name for name in self.runtime.models if may(principal, "use", f"model/{name}"))

    def memory_names(self, principal: Principal) -> list[str]:
        """Return the names of the memories that the principal may read."""
        return sorted(name for name in self.runtime.memories if may(principal, "read", f"memory/{name}"))

    def task_names(self, principal: Principal) -> list[str]:
        """Return the names of the tasks that the principal may use."""
        return sorted(name for name in self.runtime.tasks if may(principal, "use", f"task/{name}"))

    async def num_unavailable(self) -> int:
        """Return the number of models that cannot serve at this moment; upstreams are asked, within 3 s."""
        remote = await asyncio.gather(*(guard.is_well() for guard in self.runtime.guards.values()))
        local = [model.is_ready for model in self.runtime.models.values()]
        return (*remote, *local).count(False)


def _gate(config: Config) -> Gate:
    limits = config.limits
    return Gate(config.server.max_concurrent, max_waiting=limits.max_waiting, max_wait_s=limits.max_wait_s)


def _policies(runtime: Runtime) -> dict[str, Policy]:
    models = runtime.config.local_models.items()
    local = [local_policy(name, model) for name, model in models if has_rules(model)]
    remote = [guard.policy for guard in runtime.guards.values()]
    return {policy.public_name: policy for policy in (*local, *remote)}


def _check(principal: Principal, resource: str) -> None:
    if not may(principal, "use", resource):
        # Neither the order of the checks nor the text tells whether there is such a name.
        raise Forbidden(f"this key may not use {resource.partition('/')[2]}")


def context_of(connection: HTTPConnection) -> Context:
    """Return the application's context."""
    context: Context = connection.app.state.context
    return context


def principal_of(connection: HTTPConnection) -> Principal:
    """Return who is asking; Authenticate has put it there."""
    principal: Principal = connection.state.principal
    return principal
