"""Looks at the first bytes of a model's files and says what is wrong with them, before anything is loaded."""

from __future__ import annotations

import stat
from pathlib import Path

GGUF = b"GGUF"
_FIRST_KEY = 24
_NAMES_ARCHITECTURE = (20).to_bytes(8, "little") + b"general.architecture" + (8).to_bytes(4, "little")
"""Length of the key, the key, and the type of its value, a text (GGUF 2 and 3)."""

OLD_MAGICS = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}
OLD_MAGICS |= {magic[::-1]: name for magic, name in OLD_MAGICS.items()}
"""The formats before GGUF; the magic is a little-endian word, so it stands reversed in most files."""

CONVERT = (
    "take a GGUF of the same model (most are published as such), or make one from the original weights "
    "with llama.cpp's convert_hf_to_gguf.py"
)


def weights_fault(path: Path) -> str | None:
    """Return what is wrong with a file that should be GGUF, and what to do; None when it looks right."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return f"{path} is a directory; name the GGUF file in it"
        if not stat.S_ISREG(mode):  # to open a pipe waits for whoever writes into it
            return f"{path} is no regular file"
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as exc:
        return f"{path} cannot be read: {exc.strerror or exc}"
    return None if start.startswith(GGUF) else f"{path} {_format_fault(path, start)}"


def architecture_of(path: Path) -> str | None:
    """Return the architecture that a GGUF file names first of all, as all known writers do; else None."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        return None
    if not start.startswith(_NAMES_ARCHITECTURE, _FIRST_KEY):
        return None
    said = start[_FIRST_KEY + len(_NAMES_ARCHITECTURE) :]
    name = said[8 : 8 + int.from_bytes(said[:8], "little")]
    return name.decode(errors="replace")


def _format_fault(path: Path, start: bytes) -> str:
    suffix = path.suffix.lower()
    if (name := OLD_MAGICS.get(start[:4])) is not None:
        return (
            f"is a {name} file, a format that llama.cpp gave up for GGUF; {CONVERT}, or, for a LLaMA model, "
            "from this file with convert_llama_ggml_to_gguf.py"
        )
    if not start:
        return "is empty; fetch the weights again"
    if start[8:9] == b"{" or suffix == ".safetensors":
        return f"is a safetensors file, not GGUF; {CONVERT}"
    if start.startswith((b"PK\x03\x04", b"\x80")) or suffix in (".pth", ".pt"):
        return f"is a PyTorch file, not GGUF; {CONVERT}"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run `git lfs pull`, or download the file itself"
    if start.lstrip().startswith((b"<", b"{")):
        return "is a text (perhaps an error page that was saved as a model); fetch the weights again"
    return f"is not a GGUF file; {CONVERT}"
