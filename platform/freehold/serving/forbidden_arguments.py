"""Why vLLM's other arguments cannot be set by customers, in words. Whatever is not allowed is refused; this says why.

Names are vLLM 0.32's flags with underscores. Pure: no Django.
"""

from __future__ import annotations

from typing import Final

_CODE: Final = "it would run code that comes with the weights or with the request"
_NETWORK: Final = "how the engine is reached is the platform's, which also checks who asks"
_PATHS: Final = "it names a file or address, and an engine reads the weights it was given and nothing else"
_PINNED: Final = "it follows from the model and revision that the endpoint pins"
_HARDWARE: Final = "it follows from the flavor: choose another flavor"
_LOGS: Final = "prompts and answers are never logged"

_EXACT: Final = {
    **dict.fromkeys(
        (
            "trust_remote_code", "middleware", "logits_processors", "logits_processor_pattern", "worker_cls",
            "worker_extension_cls", "scheduler_cls", "model_class_overrides", "model_impl", "hf_overrides",
            "additional_config", "compilation_config", "trust_request_chat_template", "trust_request_mm_kwargs",
            "speculative_config", "spec_model", "enable_prompt_embeds", "enable_mm_embeds",
        ),
        _CODE,
    ),
    **dict.fromkeys(
        (
            "host", "port", "uds", "api_key", "root_path", "headless", "grpc", "grpc_port", "allow_credentials",
            "allowed_headers", "allowed_methods", "allowed_origins", "tool_server", "nnodes", "node_rank",
            "enable_offline_docs", "enable_tokenizer_info_endpoint", "enable_sleep_mode", "enable_elastic_ep",
            "api_server_count", "shutdown_timeout", "disable_fastapi_docs",
        ),
        _NETWORK,
    ),
    **dict.fromkeys(
        (
            "chat_template", "config", "generation_config", "hf_config_path", "lora_modules", "download_dir",
            "hf_token", "allowed_local_media_path", "allowed_media_domains", "logging_config",
            "model_loader_extra_config", "media_io_kwargs", "mm_processor_kwargs", "default_mm_loras",
            "otlp_traces_endpoint", "json_arg",
        ),
        _PATHS,
    ),
    **dict.fromkeys(
        (
            "model", "served_model_name", "tokenizer", "revision", "code_revision", "tokenizer_revision",
            "quantization", "quantization_config", "runner", "task", "convert",
        ),
        _PINNED,
    ),
    **dict.fromkeys(
        (
            "tensor_parallel_size", "pipeline_parallel_size", "decode_context_parallel_size",
            "prefill_context_parallel_size", "distributed_executor_backend", "gpu_memory_utilization", "device_ids",
            "device_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "cpu_offload_gb",
            "swap_space", "kv_offloading_size", "device",
        ),
        _HARDWARE,
    ),
    **dict.fromkeys(
        (
            "enable_log_requests", "enable_log_outputs", "enable_log_deltas", "max_log_len", "log_level",
            "uvicorn_log_level",
        ),
        _LOGS,
    ),
}  # fmt: skip
_BEGINNINGS: Final = (
    ("ssl_", _NETWORK),
    ("master_", _NETWORK),
    ("data_parallel_", _HARDWARE),
    ("enable_log", _LOGS),
    ("lora_", _PATHS),
)
_PARTS: Final = (
    ("plugin", _CODE),
    ("path", _PATHS),
    ("_dir", _PATHS),
    ("_file", _PATHS),
    ("_url", _PATHS),
    ("address", _NETWORK),
    ("transfer_config", _NETWORK),
    ("events_config", _NETWORK),
)


def reason_of(name: str) -> str:
    """Why the argument is not for customers; empty for one of which nothing particular is to be said.

    `name` is in lower case with underscores; `no_…`, as vLLM's switches are turned off, is the same argument.
    """
    plain = name.removeprefix("no_")
    if plain in _EXACT:
        return _EXACT[plain]
    for beginning, reason in _BEGINNINGS:
        if plain.startswith(beginning):
            return reason
    return next((reason for part, reason in _PARTS if part in plain), "")
