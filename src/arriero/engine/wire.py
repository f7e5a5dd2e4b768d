"""What the API process and an engine process say to each other, and the frames it travels in.

A frame is a little-endian uint32 length and a MessagePack value. No pickle: a frame can hold
nothing but the Structs below.
"""

from __future__ import annotations

import msgspec

from arriero.core import Delta, GenerateRequest, ModelInfo, Span, Token
from arriero.errors import EngineError

MAX_FRAME_BYTES = 256 * 1024 * 1024


class EngineConfig(msgspec.Struct, frozen=True):
    """What an engine process needs to know of its model. Sizes in tokens.

    cells: KV cells in all; at least context_size. context_size: the most that one sequence may use.
    stored_bytes: of idle prefixes in main memory. gpu_layers: negative = all, 0 = none. pooling: None =
    what the file says, else last.
    library: this libllama and no other. native_library: one that is taken if it fits. Neither: the
    packaged one. normalize: None = for embedding models only.
    """

    name: str
    path: str
    context_size: int
    cells: int
    batch_size: int
    max_sequences: int
    threads: int
    stored_bytes: int = 0
    library: str | None = None
    native_library: str | None = None
    gpu_layers: int = 0
    architecture: str | None = None
    lora_adapters: tuple[str, ...] = ()
    pooling: str | None = None
    normalize: bool | None = None
    chat_template: str | None = None


class _Command(msgspec.Struct, frozen=True, tag=True):
    pass


class Load(_Command, frozen=True):
    """The first command: load this model."""

    config: EngineConfig


class Generate(_Command, frozen=True):
    """Start a completion; answered by Deltas under the id, or Refused."""

    id: int
    request: GenerateRequest


class Abort(_Command, frozen=True):
    """Stop the work on a request. Not answered."""

    id: int


class Embed(_Command, frozen=True):
    """Embed texts or token lists; answered by Vectors."""

    id: int
    inputs: tuple[str | tuple[int, ...], ...]
    normalize: bool | None = None


class Tokenize(_Command, frozen=True):
    """Answered by Tokens."""

    id: int
    prompt: tuple[Span, ...]
    add_bos: bool


class Detokenize(_Command, frozen=True):
    """Answered by Text."""

    id: int
    tokens: tuple[int, ...]


class Shrink(_Command, frozen=True):
    """Memory is short: give up the idle prefixes in main memory. Not answered."""


Command = Load | Generate | Abort | Embed | Tokenize | Detokenize | Shrink


class EngineStats(msgspec.Struct, frozen=True):
    """Counters since the start of the engine process, and gauges. Times in seconds, sizes in tokens.

    stored_prefixes, stored_bytes: idle prefixes in main memory.
    """

    steps: int = 0
    decode_s: float = 0.0
    loop_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    running: int = 0
    waiting: int = 0
    used_cells: int = 0
    cells: int = 0
    idle_prefixes: int = 0
    stored_prefixes: int = 0
    stored_bytes: int = 0


class _Report(msgspec.Struct, frozen=True, tag=True):
    pass


class Loading(_Report, frozen=True):
    """Loading goes on; `fraction` in 0..1."""

    fraction: float


class Ready(_Report, frozen=True):
    """The model is loaded."""

    info: ModelInfo


class Failed(_Report, frozen=True):
    """The process ends; `message` says why. `is_config`: a start with this configuration never works."""

    message: str
    is_config: bool


class Step(_Report, frozen=True):
    """What one step made: (request id, delta) in the order of sampling; now and then the counters."""

    deltas: tuple[tuple[int, Delta], ...]
    stats: EngineStats | None = None


class Refused(_Report, frozen=True):
    """A request could not be done. `code` as in `errors.py`."""

    id: int
    code: str
    message: str
    param: str | None = None


class Tokens(_Report, frozen=True):
    """A part of the answer to Tokenize. A long text has many: a whole frame is read at once, by a loop that
    serves others, too."""

    id: int
    tokens: tuple[Token, ...]
    is_last: bool


class Text(_Report, frozen=True):
    """Answer to Detokenize."""

    id: int
    text: str


class Vectors(_Report, frozen=True):
    """Answer to Embed: little-endian float32."""

    id: int
    vectors: tuple[bytes, ...]
    prompt_tokens: int


Report = Loading | Ready | Failed | Step | Refused | Tokens | Text | Vectors

_encoder = msgspec.msgpack.Encoder()
command_decoder = msgspec.msgpack.Decoder(Command)
report_decoder = msgspec.msgpack.Decoder(Report)


def encode(message: Command | Report) -> bytes:
    """Return the frame of a message."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "little") + body


class Frames:
    """Cuts a stream of bytes into frames, however the bytes were cut on the way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the body of each frame that is complete now. Raises EngineError for an absurd length."""
        if not self._buffer and len(data) == 4 + int.from_bytes(data[:4], "little"):
            return [data[4:]]  # one frame, as nearly always
        self._buffer += data
        bodies = []
        start = 0
        while len(self._buffer) - start >= 4:
            size = int.from_bytes(self._buffer[start : start + 4], "little")
            if size > MAX_FRAME_BYTES:
                raise EngineError(f"a frame of {size} bytes on the engine's socket")
            if len(self._buffer) - start - 4 < size:
                break
            bodies.append(bytes(self._buffer[start + 4 : start + 4 + size]))
            start += 4 + size
        del self._buffer[:start]
        return bodies
