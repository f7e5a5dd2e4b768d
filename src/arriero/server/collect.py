"""What is known of models, upstreams, memories and the server itself, for metrics and the status page.

Nothing here counts: all is read where it is known, when somebody looks.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.metrics import Family, gauge, total
from arriero.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from arriero.access.principal import Principal
    from arriero.memory.memory import Memory
    from arriero.memory.records import Counts
    from arriero.server.context import Context
    from arriero.server.standing import Standing

COUNTS_S = 1.0
"""How long a memory may take to say how much it holds."""
MODEL, MEMORY, TASK = ("model",), ("memory",), ("task",)

# Name, help, whether it only grows, member of `wire.EngineStats`.
ENGINE = (
    ("num_requests_running", "Completions that are generated now.", False, "running"),
    ("num_requests_waiting", "Completions that wait for a place in the batch.", False, "waiting"),
    ("kv_cache_tokens_used", "Tokens in the KV cache.", False, "used_cells"),
    ("prefix_store_bytes", "Evaluated text that rests in main memory.", False, "stored_bytes"),
    (
        "prefix_cache_queries",
        "Tokens of prompts that were looked for in the cache.",
        True,
        "prompt_tokens",
    ),
    ("prefix_cache_hits", "Tokens of prompts that were found there.", True, "cached_tokens"),
    ("engine_steps", "Decode calls.", True, "steps"),
    ("engine_decode_seconds", "Seconds in decode calls.", True, "decode_s"),
)


async def counts_of(memories: Mapping[str, Memory]) -> dict[str, Counts | None]:
    """Return how much each memory holds; None of one that does not say so at once."""
    found = await asyncio.gather(*(_counts(memory) for memory in memories.values()))
    return dict(zip(memories, found, strict=True))


async def _counts(memory: Memory) -> Counts | None:
    try:
        async with asyncio.timeout(COUNTS_S):
            return await memory.store.counts()
    except (TimeoutError, ArrieroError):
        return None


def families(standing: Standing, context: Context, counts: Mapping[str, Counts | None]) -> Iterator[Family]:
    """Yield everything for the metrics."""
    yield from _of_server(standing, context)
    yield from _of_models(context)
    yield from _of_upstreams(context)
    yield from _of_tasks(context)
    yield from _of_memories(context, counts)


def _of_server(standing: Standing, context: Context) -> Iterator[Family]:
    said = (("version", "python"), [((__version__, platform.python_version()), 1.0)])
    yield gauge("build_info", "What runs.", *said)
    yield gauge("uptime_seconds", "Since the start.", (), _one(time.monotonic() - standing.started_at))
    yield gauge("requests_queued", "Requests that wait for a place.", (), _one(context.gate.waiting))
    reloads = [((outcome,), float(count)) for outcome, count in standing.reloads.items()]
    yield total("config_reloads", "Configurations that were read again.", ("outcome",), reloads)
    pressure = standing.pressure
    meaning = "How short memory is: 1 = caches are given up, 2 = new work is refused."
    yield gauge("memory_pressure_level", meaning, (), _one(pressure.level))
    if pressure.usage is not None:
        share = pressure.usage.share
        yield gauge("memory_used_ratio", "Share of the memory that may be used.", (), _one(share))
    errors = standing.observer.errors.values
    refused = {"auth_failures": "unauthorized", "rate_limited": "rate_limit_exceeded"}
    for name, code in refused.items():
        yield total(name, f"Requests refused as {code}.", (), _one(errors.get((code,), 0)))
    dropped = standing.log_writer.dropped if standing.log_writer else 0
    yield total("log_lines_dropped", "Lines that could not be written.", (), _one(dropped))
    if (tracer := standing.observer.tracer) is not None:
        sent = [
            (("exported",), float(tracer.exporter.exported)),
            (("dropped",), float(tracer.exporter.dropped)),
        ]
        yield total("spans", "Spans of requests, by what became of them.", ("outcome",), sent)
    if (shared := standing.rates.shared) is not None:
        yield gauge("shared_counters_up", "Whether Redis is asked.", (), _one(shared.is_up))
        yield total("shared_counters_outages", "How often Redis was lost.", (), _one(shared.outages))
    if (edge := standing.edge) is not None:
        yield gauge("connections", "Open connections.", (), _one(edge.num_connections))
        yield gauge("held_body_bytes", "Request bodies in memory.", (), _one(edge.held_body_bytes))
        yield gauge("event_loop_lag_seconds", "How late the last timer was.", (), _one(edge.lag_s))


def _one(value: float) -> list[tuple[tuple[()], float]]:
    return [((), float(value))]


def _of_models(context: Context) -> Iterator[Family]:
    models = context.runtime.models
    ready = [((name,), float(model.is_ready)) for name, model in models.items()]
    ready += [((name,), float(guard.replicas.is_passable)) for name, guard in context.runtime.guards.items()]
    yield gauge("model_ready", "Whether a model can serve.", MODEL, ready)
    for name, meaning, grows, member in ENGINE:
        samples = [((key,), float(getattr(model.stats, member, 0))) for key, model in models.items()]
        yield (total if grows else gauge)(name, meaning, MODEL, samples)
    usage = [((name,), _kv_usage(model.stats)) for name, model in models.items()]
    yield gauge("kv_cache_usage_ratio", "Share of the KV cache that is used.", MODEL, usage)
    restarts = [((name,), float(getattr(model, "restarts", 0))) for name, model in models.items()]
    yield total("engine_restarts", "Engine processes that were started again.", MODEL, restarts)
    is_open = [((name,), float(getattr(model, "has_open_circuit", False))) for name, model in models.items()]
    yield gauge("engine_circuit_open", "Whether an engine process has ended too often.", MODEL, is_open)


def _kv_usage(stats: object) -> float:
    cells: int = getattr(stats, "cells", 0)
    used: int = getattr(stats, "used_cells", 0)
    return used / cells if cells else 0.0


def _of_upstreams(context: Context) -> Iterator[Family]:
    guards = context.runtime.guards.items()
    running = [((name,), float(guard.num_running)) for name, guard in guards]
    yield gauge("guard_requests_running", "Requests to a remote model.", MODEL, running)
    connections = [((name,), float(guard.num_connections)) for name, guard in guards]
    yield gauge("upstream_connections", "Open connections to upstreams.", MODEL, connections)
    labels = ("model", "upstream")
    circuits = [
        ((name, str(index)), circuit)
        for name, guard in guards
        for index, circuit in enumerate(guard.replicas.circuits)
    ]
    is_open = [(key, float(not circuit.is_closed)) for key, circuit in circuits]
    yield gauge("upstream_circuit_open", "Whether an upstream is left out.", labels, is_open)
    failures = [(key, float(circuit.num_failures)) for key, circuit in circuits]
    yield total("upstream_failures", "Requests and checks that failed.", labels, failures)
    failovers = [((name,), float(guard.replicas.num_failovers)) for name, guard in guards]
    yield total("upstream_failovers", "Requests that another upstream was asked.", MODEL, failovers)
    actions = [
        ((name, action), float(count)) for name, guard in guards for action, count in guard.actions.items()
    ]
    yield total("guard_actions", "What was done to requests.", ("model", "action"), actions)


def _of_tasks(context: Context) -> Iterator[Family]:
    stats = [(name, task.stats) for name, task in context.runtime.tasks.items() if task.stats]
    cycles = [((name,), float(one.cycles)) for name, one in stats]
    yield total("task_completions", "Completions of a task.", TASK, cycles)
    prompt = [((name,), float(one.prompt_tokens)) for name, one in stats]
    yield total("task_prompt_tokens", "Tokens fed to a task.", TASK, prompt)
    generated = [((name,), float(one.predict_tokens)) for name, one in stats]
    yield total("task_generation_tokens", "Tokens that a task said.", TASK, generated)


def _of_memories(context: Context, counts: Mapping[str, Counts | None]) -> Iterator[Family]:
    known = [(name, count) for name, count in counts.items() if count is not None]
    for member in ("documents", "chunks", "bytes"):
        samples = [((name,), float(getattr(count, member))) for name, count in known]
        yield gauge(f"memory_{member}", f"What a memory holds, in {member}.", MEMORY, samples)
    memories = context.runtime.memories.items()
    reranks = [
        ((name, outcome), float(count))
        for name, memory in memories
        for outcome, count in memory.reranking.outcomes.items()
    ]
    yield total(
        "memory_reranks", "Recalls that a reranker judged, or failed to.", ("memory", "outcome"), reranks
    )
    yield gauge("ingest_jobs", "Documents on their way.", ("memory", "state"), _jobs(memories))
    labels = ("memory", "outcome")
    ended = [
        ((name, outcome), float(count))
        for name, memory in memories
        for outcome, count in memory.jobs.tally.outcomes.items()
    ]
    yield total("ingest_documents", "Documents whose way has ended.", labels, ended)
    chunks = [((name,), float(memory.jobs.tally.chunks)) for name, memory in memories]
    yield total("ingest_chunks", "Chunks that were stored.", MEMORY, chunks)
    seconds = [((name,), memory.jobs.tally.seconds) for name, memory in memories]
    yield total("ingest_seconds", "Seconds from taking a document on to its end.", MEMORY, seconds)


def _jobs(memories: Iterable[tuple[str, Memory]]) -> Iterator[tuple[tuple[str, str], float]]:
    for name, memory in memories:
        states = Counter(job.state.value for job in memory.jobs.jobs() if not job.state.is_end)
        for state, count in states.items():
            yield (name, state), float(count)


# The status page.


async def status_of(standing: Standing, context: Context, principal: Principal) -> dict[str, Any]:
    """Return what a status page shows to this principal: no name that it may not use."""
    runtime = context.runtime
    memories = {name: runtime.memories[name] for name in context.memory_names(principal)}
    counts = await counts_of(memories)
    return {
        "status": "draining" if standing.is_draining else "ok",
        "version": __version__,
        "uptime_s": round(time.monotonic() - standing.started_at, 1),
        "models": {name: local_state(runtime.models[name]) for name in context.model_names(principal)}
        | {name: _remote_state(context, name) for name in context.remote_names(principal)},
        "tasks": context.task_names(principal),
        "memories": {name: _memory_state(memory, counts[name]) for name, memory in memories.items()},
    }


def local_state(model: Any) -> dict[str, Any]:
    """Return how a local model is, and why it cannot serve."""
    circuit = "open" if getattr(model, "has_open_circuit", False) else "closed"
    told = {"kind": "local", "circuit": circuit, "restarts": getattr(model, "restarts", 0)}
    if model.is_ready:
        return {**told, "state": "ready"}
    state = getattr(model, "state", "loading")
    return {**told, "state": state, "reason": getattr(model, "problem", None)}


def _remote_state(context: Context, name: str) -> dict[str, Any]:
    guard = context.runtime.guards[name]
    circuits = ["closed" if circuit.is_closed else "open" for circuit in guard.replicas.circuits]
    state = "ready" if guard.replicas.is_passable else "failed"
    return {"kind": "remote", "state": state, "circuits": circuits, "running": guard.num_running}


def _memory_state(memory: Memory, counts: Counts | None) -> dict[str, Any]:
    waiting = sum(not job.state.is_end for job in memory.jobs.jobs())
    if counts is None:
        return {"state": "unavailable", "ingesting": waiting}
    return {"state": "ready", "documents": counts.documents, "chunks": counts.chunks, "ingesting": waiting}
