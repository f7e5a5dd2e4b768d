"""Which top-level members of a request an upstream may see, for each route.

A closed list, since upstreams grow switches that no limit here would know: token ids, priorities, other
adapters, templates, embedded prompts. A member that is on no list is left out of what is sent; an
operator can name more (`Policy.extra_members`). Members with a rule of their own are in `request.py`.
"""

from __future__ import annotations

from arriero.guard.logprobs import FAMILY
from arriero.guard.routes import Route

_ALWAYS = "model user"

_SAMPLING = """
    temperature top_p top_k min_p seed stop stop_token_ids frequency_penalty presence_penalty
    repetition_penalty logit_bias ignore_eos bad_words allowed_token_ids use_beam_search length_penalty
    include_stop_str_in_output skip_special_tokens spaces_between_special_tokens repetition_detection
    truncate_prompt_tokens truncation_side min_tokens add_special_tokens thinking_token_budget
    guided_json guided_regex guided_choice guided_grammar guided_whitespace_pattern
    structured_outputs response_format structural_tag grammar json_schema regex ebnf
    stream stream_options n best_of metadata service_tier store safety_identifier cache_salt
    prompt_cache_key prompt_cache_retention
"""

_PROMPT_LOGPROBS = """
    echo logprobs prompt_logprobs logprob_token_ids return_token_ids return_tokens_as_token_ids
"""

_TEMPLATE = "messages tools chat_template_kwargs add_generation_prompt continue_final_message documents"

_CHAT = """
    tool_choice parallel_tool_calls functions function_call modalities audio prediction reasoning
    reasoning_effort include_reasoning verbosity web_search_options top_logprobs max_tokens
    max_completion_tokens
"""

_RESPONSES = """
    input instructions include max_output_tokens max_tool_calls metadata parallel_tool_calls
    prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier store stream
    stream_options temperature text tool_choice tools top_logprobs top_p truncation cache_salt
    presence_penalty frequency_penalty top_k seed stop ignore_eos skip_special_tokens
    repetition_penalty include_stop_str_in_output structured_outputs
"""

_EMBEDDINGS = """
    input messages encoding_format dimensions truncate_prompt_tokens truncation_side add_special_tokens
    normalize use_activation input_type task
"""

_RERANK = """
    query documents top_n truncate_prompt_tokens truncation_side max_tokens_per_doc max_chunks_per_doc
    return_documents use_activation instruction
"""


def _names(*words: str) -> frozenset[str]:
    return frozenset(" ".join((_ALWAYS, *words)).split())


PASSING = {
    Route.CHAT: _names(_SAMPLING, _PROMPT_LOGPROBS, _TEMPLATE, _CHAT),
    Route.COMPLETIONS: _names(_SAMPLING, _PROMPT_LOGPROBS, "prompt suffix max_tokens"),
    Route.RESPONSES: _names(_RESPONSES),
    Route.EMBEDDINGS: _names(_EMBEDDINGS),
    Route.RERANK: _names(_RERANK),
    Route.TOKENIZE: _names(_TEMPLATE, "prompt add_special_tokens return_token_strs"),
}

# Those that pass without a rule of their own, and those whose rule looks at every request anyhow.
_SPECIAL = FAMILY | {"include", "stream_options", "chat_template_kwargs"}
ORDINARY = {route: names - _SPECIAL for route, names in PASSING.items()}
