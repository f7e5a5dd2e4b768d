"""What the tasks of a configuration ask that cannot be done, found before anything is loaded.

Constraints are `constraint.py`'s; here is what a task's model must be able to do, above all a remote one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.config.problem import Problem, shown_path
from arriero.config.remote import RemoteModelConfig
from arriero.errors import ConfigError, InvalidRequest
from arriero.sampling import SamplingParams
from arriero.tasks import constraint
from arriero.tasks.remote import ROUTES
from arriero.tasks.remote_request import constraint_parameters, sampling_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arriero.config.locate import KeyPath
    from arriero.config.schema import Config, TaskConfig
    from arriero.core import Constraint


def task_constraints(config: Config) -> dict[str, Constraint]:
    """Return the constraint of each task that has one. Raises ConfigError naming the key of each fault."""
    constraints, problems = constraint.made(config)
    problems += model_faults(config, constraints)
    if problems:
        raise ConfigError("\n".join(f"{shown_path(problem.path)}: {problem.message}" for problem in problems))
    return constraints


def faults(config: Config) -> list[Problem]:
    """Return what makes the configuration's tasks unusable."""
    constraints, problems = constraint.made(config)
    return [*problems, *model_faults(config, constraints)]


def model_faults(config: Config, constraints: dict[str, Constraint]) -> Iterator[Problem]:
    """Yield what the tasks ask that their models cannot do."""
    for name, task in config.tasks.items():
        path: KeyPath = ("tasks", name)
        model = config.models.get(task.model)
        if isinstance(model, RemoteModelConfig):
            yield from _remote_faults(path, task, model, constraints.get(name))
        elif task.form is not None and model is not None:
            yield Problem((*path, "form"), "for models with an upstream only; take it out")


def _remote_faults(
    path: KeyPath, task: TaskConfig, model: RemoteModelConfig, constraint: Constraint | None
) -> Iterator[Problem]:
    form = task.form or "completion"
    route = ROUTES[form].value
    if route not in model.routes:
        yield Problem((*path, "form"), f"{form}: the model does not serve {route}; add it to its routes")
    yield from _limit_faults(path, task, model)
    dialect = model.upstream.dialect
    try:
        sampling_parameters(SamplingParams(chain=task.written_chain), dialect)
    except InvalidRequest as exc:
        key = "samplers" if task.samplers is not None else exc.param
        yield Problem((*path, key or "samplers"), exc.message)
    try:
        constraint_parameters(constraint, dialect)
    except InvalidRequest as exc:
        yield Problem((*path, "biaser"), f"{exc.message} (models.{task.model}.upstream.dialect)")


def _limit_faults(path: KeyPath, task: TaskConfig, model: RemoteModelConfig) -> Iterator[Problem]:
    """Yield doubts about max_tokens: a server gives a completion without a limit 16 tokens."""
    path = (*path, "max_tokens")
    if task.max_tokens == 0:
        yield Problem(path, "an upstream answers with one token at least")
    if task.form == "chat" or task.max_tokens is not None or model.max_tokens is not None:
        return
    if model.max_context is None:
        yield Problem(path, "give a limit here or to the model: without one a server stops after 16 tokens")
    elif model.over_limit == "reject":
        yield Problem(path, "give a limit here or to the model: its whole context is never left (over_limit)")
