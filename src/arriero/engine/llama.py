"""THE file that touches llama.cpp: load a model, evaluate batches, move KV entries, read results.

Everything here blocks and belongs to the engine's one thread. Knows nothing of requests,
scheduling or text. `capi.py` declares what is called, `vocab.py` is the tokenizer.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arriero.engine.capi import LLAMA_CPP_BUILD, ffi, open_library
from arriero.engine.vocab import Vocab
from arriero.errors import ConfigError, EngineError

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Copy = npt.NDArray[np.uint8]
"""What a slot held, as llama.cpp writes it."""

POOLING = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
FEW = 32

MAX_SLOTS = 256
"""Sequence ids that llama.cpp knows with a unified KV cache."""

_ERROR_LEVEL = 4
_NO_ROOM = 1


class Llama:
    """A loaded model. Not safe for several threads but for its `vocab`."""

    def __init__(self, lib: Any, pointer: Any, path: Path) -> None:
        self.lib = lib
        self.pointer = pointer
        self.path = path
        self.vocab = Vocab(lib, pointer)
        self.architecture = self.metadata("general.architecture") or "unknown"
        self.train_context_size: int = lib.llama_model_n_ctx_train(pointer)
        self.embedding_size: int = lib.llama_model_n_embd_out(pointer)
        self.num_parameters: int = lib.llama_model_n_params(pointer)
        self.size_bytes: int = lib.llama_model_size(pointer)

    @property
    def description(self) -> str:
        buffer = ffi.new("char[]", 256)
        self.lib.llama_model_desc(self.pointer, buffer, 256)
        return _text(buffer)

    @property
    def chat_template(self) -> str | None:
        template = self.lib.llama_model_chat_template(self.pointer, ffi.NULL)
        return None if template == ffi.NULL else _text(template)

    @property
    def is_causal(self) -> bool:
        """False for encoders such as BERT, which embed and cannot generate."""
        return self.metadata(f"{self.architecture}.attention.causal") != "false"

    @property
    def keeps_every_position(self) -> bool:
        """True if the state of any prefix can be taken out of the KV cache (no recurrent layers)."""
        lib, model = self.lib, self.pointer
        return not (lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model))

    def metadata(self, key: str) -> str | None:
        """Return a value of the file's metadata as text."""
        buffer = ffi.new("char[]", 1024)
        count = self.lib.llama_model_meta_val_str(self.pointer, key.encode(), buffer, 1024)
        return _text(buffer) if count >= 0 else None

    def close(self) -> None:
        self.lib.llama_model_free(self.pointer)


def load(
    path: Path, *, library: Path, gpu_layers: int, progress: Callable[[float], None] | None = None
) -> Llama:
    """Load a GGUF file. `gpu_layers`: layers on the GPU, negative = all, 0 = none.

    Raises ConfigError with llama.cpp's own reason when the file is broken or of an unknown kind.
    """
    lib = open_library(library)
    log = _Log(lib)
    lib.llama_backend_init()
    if gpu_layers and not lib.llama_supports_gpu_offload():
        logger.warning("use_gpu has no effect: %s computes on the CPU only", library)
    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    if progress is not None:
        report = progress

        @ffi.callback("bool(float, void *)")  # type: ignore[untyped-decorator]
        def on_progress(value: float, _data: Any) -> bool:
            report(value)
            return True

        params.progress_callback = on_progress
    pointer = lib.llama_model_load_from_file(os.fsencode(path), params)
    if pointer == ffi.NULL:
        raise ConfigError(f"cannot load the model {path}: {log.reason()}")
    return Llama(lib, pointer, path)


class _Log:
    """llama.cpp's log: errors are kept for messages, everything goes to `logging` at debug level."""

    _keep_alive: list[Any] = []  # noqa: RUF012 - the library holds the pointer for the life of the process

    def __init__(self, lib: Any) -> None:
        self._errors: deque[str] = deque(maxlen=8)

        @ffi.callback("void(int32_t, const char *, void *)")  # type: ignore[untyped-decorator]
        def on_line(level: int, line: Any, _data: Any) -> None:
            text = _text(line).strip()
            if level == _ERROR_LEVEL and text:
                self._errors.append(text)
            logger.debug("llama.cpp: %s", text)

        self._keep_alive.append(on_line)
        lib.llama_log_set(on_line, ffi.NULL)

    def reason(self) -> str:
        lines = [line.split(": ", 1)[-1] for line in self._errors if "failed to load model" not in line]
        return "; ".join(dict.fromkeys(lines)) or "llama.cpp gave no reason"


class Context:
    """The evaluation state of a model: KV cache and batch buffers.

    The four arrays `tokens`, `positions`, `slots` and `outputs` (length `batch_size`) are the batch;
    `fill` its first n entries and call `decode(n)`. A *slot* is llama.cpp's sequence id.
    """

    def __init__(
        self,
        model: Llama,
        *,
        cells: int,
        batch_size: int,
        max_sequences: int,
        max_outputs: int,
        threads: int,
        embeddings: bool = False,
        pooling: str | None = None,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self._lib = lib = model.lib
        params = lib.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = batch_size
        self._spare = max_sequences  # llama.cpp copies out and in only such slots as it evaluates
        params.n_seq_max = max_sequences if embeddings else min(max_sequences + 1, MAX_SLOTS)
        params.n_outputs_max = max_outputs
        params.n_threads = params.n_threads_batch = self._num_threads = threads
        params.embeddings = embeddings
        params.kv_unified = True
        params.swa_full = True
        if pooling is not None:
            params.pooling_type = POOLING[pooling]
        self._pointer = lib.llama_init_from_model(model.pointer, params)
        if self._pointer == ffi.NULL:
            raise ConfigError(
                f"cannot make a context of {cells} tokens for {model.path}: too little memory, or the"
                f" architecture {model.architecture} cannot be run"
            )
        self._memory = lib.llama_get_memory(self._pointer)
        self._logits_pointer = ffi.NULL
        self._logits: Floats = np.empty((0, 0), np.float32)
        self._make_batch(batch_size)

    @property
    def pooling(self) -> str:
        number = self._lib.llama_pooling_type(self._pointer)
        return next((name for name, value in POOLING.items() if value == number), "none")

    def apply_adapters(self, paths: Sequence[Path]) -> None:
        """Load LoRA adapters and apply them to everything that this context evaluates."""
        if not paths:
            return
        adapters = []
        for path in paths:
            adapter = self._lib.llama_adapter_lora_init(self.model.pointer, os.fsencode(path))
            if adapter == ffi.NULL:
                raise ConfigError(f"cannot load the LoRA adapter {path}: it does not fit {self.model.path}")
            adapters.append(adapter)
        array = ffi.new("void *[]", adapters)
        scales = ffi.new("float[]", [1.0] * len(adapters))
        if self._lib.llama_set_adapters_lora(self._pointer, array, len(adapters), scales):
            raise ConfigError(f"cannot apply the LoRA adapters {', '.join(map(str, paths))}")

    def fill(self, tokens: list[int], positions: list[int], slots: list[int], outputs: list[bool]) -> int:
        """Write the first entries of the batch; return how many."""
        count = len(tokens)
        if count <= FEW:
            # Without numpy: right after a decode each of its calls costs what forty of these do.
            batch = self._batch
            for i in range(count):
                batch.token[i] = tokens[i]
                batch.pos[i] = positions[i]
                batch.seq_id[i][0] = slots[i]
                batch.logits[i] = outputs[i]
            return count
        self.tokens[:count] = tokens
        self.positions[:count] = positions
        self.slots[:count] = slots
        self.outputs[:count] = outputs
        return count

    def decode(self, count: int) -> bool:
        """Evaluate the first `count` entries of the batch; blocks for the whole computation.

        Returns False when the KV cache has no room (nothing was changed); raises EngineError else.
        """
        self._batch.n_tokens = count
        result = self._lib.llama_decode(self._pointer, self._batch)
        if result == 0:
            return True
        if result == _NO_ROOM:
            return False
        raise EngineError(f"llama_decode failed with {result}")

    def use_threads(self, count: int) -> None:
        """Use so many compute threads from the next decode on."""
        if count != self._num_threads:
            self._lib.llama_set_n_threads(self._pointer, count, count)
            self._num_threads = count

    def logits(self, count: int) -> Floats:
        """Return the writable logits of the `count` outputs of the batch, in its order: one in each row.

        Valid until the next decode.
        """
        pointer = self._lib.llama_get_logits(self._pointer)
        if pointer == ffi.NULL:
            raise EngineError("llama.cpp gave no logits")
        if pointer != self._logits_pointer or count != len(self._logits):
            size = self.model.vocab.size
            buffer = ffi.buffer(pointer, 4 * count * size)
            self._logits = np.frombuffer(buffer, np.float32).reshape(count, size)
            self._logits_pointer = pointer
        return self._logits

    def pooled_embedding(self, slot: int) -> Floats:
        """Return a copy of the pooled embedding of a slot."""
        return self._vector(self._lib.llama_get_embeddings_seq(self._pointer, slot))

    def token_embedding(self, index: int) -> Floats:
        """Return a copy of the embedding of batch entry `index`."""
        return self._vector(self._lib.llama_get_embeddings_ith(self._pointer, index))

    def share(self, source: int, target: int, count: int) -> None:
        """Let slot `target` share the first `count` evaluated tokens of slot `source`; nothing is copied."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, count)

    def drop(self, slot: int) -> None:
        """Forget everything that a slot holds."""
        self._lib.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def copy_out(self, slot: int, first: int, end: int) -> Copy:
        """Return a copy of the tokens `first` to `end` of a slot, in main memory. Raises EngineError."""
        self._lib.llama_memory_seq_cp(self._memory, slot, self._spare, first, end)
        data = np.empty(self._lib.llama_state_seq_get_size(self._pointer, self._spare), np.uint8)
        written = self._lib.llama_state_seq_get_data(self._pointer, _bytes(data), len(data), self._spare)
        self.drop(self._spare)
        if written != len(data):
            raise EngineError("a prefix could not be copied out of the KV cache")
        return data

    def copy_in(self, data: Copy, slot: int, first: int, end: int) -> None:
        """Let a slot that holds `first` tokens hold those up to `end` too, copied out. Raises EngineError."""
        if not self._lib.llama_state_seq_set_data(self._pointer, _bytes(data), len(data), self._spare):
            raise EngineError("a prefix could not be copied into the KV cache")
        self._lib.llama_memory_seq_cp(self._memory, self._spare, slot, first, end)
        self.drop(self._spare)

    def clear(self) -> None:
        """Forget everything."""
        if self._memory != ffi.NULL:
            self._lib.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        for i, own in enumerate(self._own_slots):
            self._batch.seq_id[i] = own
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._pointer)

    def _make_batch(self, size: int) -> None:
        batch = self._batch = self._lib.llama_batch_init(size, 0, 1)
        self.tokens: Ints = np.frombuffer(ffi.buffer(batch.token, 4 * size), np.int32)
        self.positions: Ints = np.frombuffer(ffi.buffer(batch.pos, 4 * size), np.int32)
        self.outputs: npt.NDArray[np.int8] = np.frombuffer(ffi.buffer(batch.logits, size), np.int8)
        # Each entry has its own one-element array of slots; these lie side by side, so that one
        # numpy assignment fills them all.
        np.frombuffer(ffi.buffer(batch.n_seq_id, 4 * size), np.int32)[:] = 1
        self.slots: Ints = np.zeros(size, np.int32)
        base = ffi.cast("llama_seq_id *", self.slots.ctypes.data)
        self._own_slots = [batch.seq_id[i] for i in range(size)]
        for i in range(size):
            batch.seq_id[i] = base + i

    def _vector(self, pointer: Any) -> Floats:
        if pointer == ffi.NULL:
            raise EngineError("the model gave no embedding")
        return np.frombuffer(ffi.buffer(pointer, 4 * self.model.embedding_size), np.float32).copy()


def _bytes(data: Copy) -> Any:
    return ffi.from_buffer("uint8_t *", data)


def build_name() -> str:
    """Return the llama.cpp build that the declarations hold for."""
    return LLAMA_CPP_BUILD


def _text(data: Any) -> str:
    raw: bytes = ffi.string(data)
    return raw.decode("utf-8", "replace")
