"""The part of llama.cpp's C interface that Arriero calls, and the guard against a wrong one.

The declarations hold for llama.cpp b11549 (the `xllamacpp` release pinned in pyproject.toml) and
nothing else: a struct that differs corrupts memory silently. `open_library` therefore compares
every default parameter that the library reports with what this version reports, and refuses the
library at the first difference. Only `llama.py` imports this file.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from cffi import FFI

from arriero.errors import ConfigError

LLAMA_CPP_BUILD = "b11549"

# ABI mode knows enums only as ints; on the supported platforms they are 32 bits wide.
_CDEF = """
typedef int32_t llama_pos;
typedef int32_t llama_token;
typedef int32_t llama_seq_id;
typedef bool (*progress_callback)(float progress, void * user_data);
typedef bool (*abort_callback)(void * data);

typedef struct {
    llama_token id;
    float logit;
    float p;
} llama_token_data;

struct llama_model_params {
    void * devices;
    const void * tensor_buft_overrides;
    int32_t n_gpu_layers;
    int32_t split_mode;
    int32_t load_mode;
    int32_t lazy_mode;
    int32_t main_gpu;
    const float * tensor_split;
    progress_callback progress_callback;
    void * progress_callback_user_data;
    const void * kv_overrides;
    bool vocab_only;
    bool check_tensors;
    bool use_extra_bufts;
    bool no_host;
    bool no_alloc;
    bool load_mtp;
};

struct llama_context_params {
    uint32_t n_ctx;
    uint32_t n_batch;
    uint32_t n_ubatch;
    uint32_t n_seq_max;
    uint32_t n_rs_seq;
    uint32_t n_outputs_max;
    uint32_t n_outputs_max_per_seq;
    int32_t n_threads;
    int32_t n_threads_batch;
    int32_t ctx_type;
    int32_t rope_scaling_type;
    int32_t pooling_type;
    int32_t attention_type;
    int32_t flash_attn_type;
    float rope_freq_base;
    float rope_freq_scale;
    float yarn_ext_factor;
    float yarn_attn_factor;
    float yarn_beta_fast;
    float yarn_beta_slow;
    uint32_t yarn_orig_ctx;
    float defrag_thold;
    void * cb_eval;
    void * cb_eval_user_data;
    int32_t type_k;
    int32_t type_v;
    size_t moe_cache_size;
    abort_callback abort_callback;
    void * abort_callback_data;
    bool embeddings;
    bool offload_kqv;
    bool no_perf;
    bool op_offload;
    bool swa_full;
    bool kv_unified;
    void * samplers;
    size_t n_samplers;
    void * ctx_other;
};

struct llama_batch {
    int32_t n_tokens;
    llama_token * token;
    float * embd;
    llama_pos * pos;
    int32_t * n_seq_id;
    llama_seq_id ** seq_id;
    int8_t * logits;
};

void llama_log_set(void (*callback)(int32_t level, const char * text, void * data), void * data);
void llama_backend_init(void);
bool llama_supports_gpu_offload(void);

struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
void * llama_model_load_from_file(const char * path, struct llama_model_params params);
void llama_model_free(void * model);
void * llama_init_from_model(void * model, struct llama_context_params params);
void llama_free(void * context);

const void * llama_model_get_vocab(const void * model);
int32_t llama_model_n_ctx_train(const void * model);
int32_t llama_model_n_embd_out(const void * model);
bool llama_model_is_recurrent(const void * model);
bool llama_model_is_hybrid(const void * model);
uint64_t llama_model_size(const void * model);
uint64_t llama_model_n_params(const void * model);
int32_t llama_model_desc(const void * model, char * buffer, size_t size);
int32_t llama_model_meta_val_str(const void * model, const char * key, char * buffer, size_t size);
const char * llama_model_chat_template(const void * model, const char * name);

int32_t llama_pooling_type(const void * context);
void * llama_get_memory(const void * context);
bool llama_memory_seq_rm(void * memory, llama_seq_id sequence, llama_pos from, llama_pos to);
void llama_memory_seq_cp(void * memory, llama_seq_id source, llama_seq_id target,
                         llama_pos from, llama_pos to);
void llama_memory_clear(void * memory, bool data);
size_t llama_state_seq_get_size(void * context, llama_seq_id sequence);
size_t llama_state_seq_get_data(void * context, uint8_t * target, size_t size, llama_seq_id sequence);
size_t llama_state_seq_set_data(void * context, const uint8_t * source, size_t size, llama_seq_id sequence);

struct llama_batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
void llama_batch_free(struct llama_batch batch);
int32_t llama_decode(void * context, struct llama_batch batch);
float * llama_get_logits(void * context);
float * llama_get_embeddings_ith(void * context, int32_t i);
float * llama_get_embeddings_seq(void * context, llama_seq_id sequence);
void llama_set_n_threads(void * context, int32_t n_threads, int32_t n_threads_batch);

void * llama_adapter_lora_init(void * model, const char * path);
int32_t llama_set_adapters_lora(void * context, void ** adapters, size_t n_adapters, float * scales);

int32_t llama_vocab_n_tokens(const void * vocab);
int32_t llama_vocab_get_attr(const void * vocab, llama_token token);
bool llama_vocab_is_eog(const void * vocab, llama_token token);
llama_token llama_vocab_bos(const void * vocab);
llama_token llama_vocab_eos(const void * vocab);
bool llama_vocab_get_add_bos(const void * vocab);
int32_t llama_tokenize(const void * vocab, const char * text, int32_t size, llama_token * tokens,
                       int32_t n_tokens_max, bool add_special, bool parse_special);
int32_t llama_token_to_piece(const void * vocab, llama_token token, char * buffer, int32_t size,
                             int32_t lstrip, bool special);
"""

ffi = FFI()
ffi.cdef(_CDEF)

# What b11549 reports. Pointers are compared with NULL.
_MODEL_DEFAULTS: dict[str, object] = {
    "devices": None,
    "tensor_buft_overrides": None,
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "tensor_split": None,
    "progress_callback": None,
    "progress_callback_user_data": None,
    "kv_overrides": None,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
    "load_mtp": False,
}
_CONTEXT_DEFAULTS: dict[str, object] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_rs_seq": 0,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "ctx_type": 0,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "rope_freq_base": 0.0,
    "rope_freq_scale": 0.0,
    "yarn_ext_factor": -1.0,
    "yarn_attn_factor": -1.0,
    "yarn_beta_fast": -1.0,
    "yarn_beta_slow": -1.0,
    "yarn_orig_ctx": 0,
    "defrag_thold": -1.0,
    "cb_eval": None,
    "cb_eval_user_data": None,
    "type_k": 1,
    "type_v": 1,
    "moe_cache_size": 0,
    "abort_callback": None,
    "abort_callback_data": None,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "samplers": None,
    "n_samplers": 0,
    "ctx_other": None,
}


def packaged_library() -> Path:
    """Return the library inside the installed `xllamacpp` wheel; ConfigError when there is none."""
    spec = importlib.util.find_spec("xllamacpp")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("xllamacpp*.so")):
            return path
    raise ConfigError(
        "no llama.cpp library: the package xllamacpp is not installed or carries none for this"
        " platform; name another one by the model key `library`"
    )


def open_library(path: Path) -> Any:
    """Open a libllama and check that its structs are those declared here.

    Raises ConfigError when it cannot be opened, lacks a function or is another version.
    """
    flags = ffi.RTLD_NOW | ffi.RTLD_LOCAL
    try:
        lib = ffi.dlopen(os.fspath(path), flags)
    except OSError as exc:
        raise ConfigError(f"cannot open the llama.cpp library {path}: {exc}{_hint(str(exc))}") from exc
    _check(lib, path)
    return lib


def _hint(reason: str) -> str:
    if "libgomp" in reason:
        return " (install the system package libgomp1 or libgomp)"
    if sys.platform == "win32":
        return " (on Windows name a libllama built from source by the model key `library`)"
    return ""


def _check(lib: Any, path: Path) -> None:
    for name in (
        "llama_decode",
        "llama_memory_seq_cp",
        "llama_set_adapters_lora",
        "llama_get_embeddings_seq",
    ):
        if not hasattr(lib, name):
            raise ConfigError(f"{path} is not a llama.cpp {LLAMA_CPP_BUILD} library: {name} is missing")
    for found, expected in (
        (lib.llama_model_default_params(), _MODEL_DEFAULTS),
        (lib.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ):
        for key, value in expected.items():
            seen = getattr(found, key)
            if seen != (ffi.NULL if value is None else value):
                raise ConfigError(
                    f"{path} is not llama.cpp {LLAMA_CPP_BUILD}: default parameter {key} is {seen},"
                    f" expected {value}; use the pinned version (`arriero engine build` makes one)"
                )
