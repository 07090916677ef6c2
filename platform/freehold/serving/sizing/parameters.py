"""How many weights a model has, from its config.json alone: catalog entries are sized before a byte of them is here.

Called by weights.py; docs/sizing.md compares it with published figures. Names and shapes are those of transformers'
models. A family that is not known here is counted like Llama's and `exact` is false.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from freehold.serving.sizing.configuration import ModelConfig, whole_number
from freehold.serving.sizing.layers import ENCODERS, Layers, layers_of
from freehold.serving.sizing.projections import attention_of, expert_layers, mlp_of, state_weights
from freehold.serving.sizing.states import stateful_layers


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """Weights of one decoder layer.

    Attributes:
        divided: split over tensor-parallel ranks; `replicated`: norms, routers, latent projections, whole on each.
        key_value: of `divided`, keys and values: repeated where there are more ranks than KV heads.
        experts: of all routed experts; `active_experts`: of those that one token uses.
    """

    divided: int
    replicated: int
    key_value: int = 0
    experts: int = 0
    active_experts: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.divided + self.replicated + self.experts


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights of a model.

    Attributes:
        embedding: the input's table; `head`: the output's, 0 where they are one.
        other: encoders of images and sound, with what joins them to the language model.
        draft: of layers that only draft (multi-token prediction): not in `total`, as vLLM leaves them out unless asked.
        exact: false where the family is not known here.
    """

    embedding: int
    head: int
    layers: tuple[LayerWeights, ...]
    final: int
    other: int
    draft: int
    exact: bool
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All weights that are served."""
        return self.embedding + self.head + self.final + self.other + sum(layer.total for layer in self.layers)

    @property
    def experts(self) -> int:
        """Weights of routed experts."""
        return sum(layer.experts for layer in self.layers)

    @property
    def active(self) -> int:
        """Weights that one token of text uses, both tables included."""
        return self.total - self.other - sum(layer.experts - layer.active_experts for layer in self.layers)


_KNOWN: Final = frozenset(
    {"llama", "mistral", "mistral3", "ministral3", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"}
    | {"qwen3_next", "phi3", "phimoe", "gemma", "gemma2", "gemma3_text", "deepseek_v2", "deepseek_v3"}
    | {"deepseek_v32", "kimi_k2", "glm4_moe", "glm4", "gpt_oss", "minimax_m2", "olmo2", "olmo3", "olmoe"}
    | {"granite", "seed_oss", "llama4_text", "granitemoehybrid", "falcon_h1", "mamba2", "lfm2", "jamba"}
    | {"bert", "roberta", "xlm-roberta", "opt", "gpt2", "mamba", "smollm3", "cohere2", "qwen3_vl_text"}
    | {"qwen2_vl", "qwen3_vl_moe_text", "nemotron_h", "qwen2_5_vl"}
)  # fmt: skip
# Tied unless the configuration says otherwise (defaults of transformers' configuration classes).
_TIED: Final = frozenset({"gemma", "gemma2", "gemma3_text", "cohere2", "opt", "gpt2", "lfm2", "mamba"})
_POSITIONS: Final = frozenset({"opt", "gpt2", "bert", "roberta", "xlm-roberta"})
_FOUR_NORMS: Final = frozenset({"gemma2", "gemma3_text", "glm4"})
_ONE_NORM: Final = frozenset({"cohere2", "nemotron_h", "mamba", "mamba2", "falcon_mamba"})
_BIASED_NORMS: Final = frozenset({"opt", "gpt2", "bert", "roberta", "xlm-roberta", "starcoder2", "phi", "phimoe"})


def parameters_of(config: ModelConfig) -> Parameters:
    """Counts the weights. Raises Refused naming the count that config.json lacks."""
    layers, hidden = layers_of(config), config.count("hidden_size", "n_embd", "d_model")
    model, vocabulary = config.model_type, config.count("vocab_size")
    norm = hidden * (2 if model in _BIASED_NORMS else 1)
    tables, final = vocabulary * hidden, norm
    if model in _POSITIONS:
        tables += (config.count("max_position_embeddings", "n_positions") + 2 * (model == "opt")) * hidden
    if model in ENCODERS:
        tables += config.count("type_vocab_size", default=1) * hidden
        final += hidden * hidden + hidden  # a pooler; the norm follows the embedding
    stateful, sparse = stateful_layers(config) or frozenset(), expert_layers(config)
    weights = tuple(
        _layer(config, layers, number, norm, stateful=number in stateful, sparse=number in sparse)
        for number in range(config.layers)
    )
    other, notes = _other(config, hidden)
    exact = model in _KNOWN and layers.exact and not notes
    if model not in _KNOWN:
        notes.append(f"The weights of {config.architecture} are counted like Llama's: an estimate.")
    tied = config.flag("tie_word_embeddings", default=_tied_by_default(config))
    head = 0 if tied or model in ENCODERS else vocabulary * hidden
    return Parameters(
        embedding=tables,
        head=head,
        layers=weights,
        final=final,
        other=other,
        draft=_draft(config, weights, hidden, vocabulary),
        exact=exact,
        notes=tuple(notes),
    )


def _tied_by_default(config: ModelConfig) -> bool:
    stated = config.whole.get("tie_word_embeddings")
    return stated if isinstance(stated, bool) else config.model_type in _TIED


def _layer(
    config: ModelConfig, layers: Layers, number: int, norm: int, *, stateful: bool, sparse: bool
) -> LayerWeights:
    model = config.model_type
    norms = norm * (4 if model in _FOUR_NORMS else 1 if model in _ONE_NORM else 2)
    divided = key_value = 0
    replicated = norms
    if stateful:
        divided += state_weights(config)
    if not stateful or model == "falcon_h1":
        found = attention_of(config, layers, number)
        divided, key_value, replicated = divided + found.divided, found.key_value, replicated + found.replicated
    alone = config.text.get("hybrid_override_pattern")
    if model == "nemotron_h" and isinstance(alone, str):  # each layer is one thing
        if alone[number] == "M":
            return LayerWeights(divided=state_weights(config), replicated=norm)
        if alone[number] == "*":
            return LayerWeights(divided=divided, replicated=replicated, key_value=key_value)
        divided = key_value = 0
        replicated = norm
    if model in ("mamba", "mamba2", "falcon_mamba"):
        return LayerWeights(divided=divided, replicated=replicated)
    mlp = mlp_of(config, number, sparse=sparse)
    return LayerWeights(
        divided=divided + mlp.divided,
        replicated=replicated + mlp.replicated,
        key_value=key_value,
        experts=mlp.experts,
        active_experts=mlp.active_experts,
    )


def _draft(config: ModelConfig, layers: tuple[LayerWeights, ...], hidden: int, vocabulary: int) -> int:
    """A drafting layer is like the last one, with a projection of two inputs, norms, and tables of its own."""
    count = config.optional("num_nextn_predict_layers") or 0
    return count * (layers[-1].total + 2 * hidden * hidden + 3 * hidden + 2 * vocabulary * hidden)


def _other(config: ModelConfig, hidden: int) -> tuple[int, list[str]]:
    vision = config.whole.get("vision_config")
    if config.text is config.whole or not isinstance(vision, dict):
        return 0, []
    width, depth = _number(vision, "hidden_size"), _number(vision, "num_hidden_layers", "depth")
    inner, patch = _number(vision, "intermediate_size"), _number(vision, "patch_size")
    if not (width and depth and inner and patch):
        return 0, ["The encoder of images is left out: config.json does not describe it in words known here."]
    siglip = vision.get("model_type") == "siglip_vision_model"
    layer = 4 * width * width + (2 if siglip else 3) * width * inner
    layer += 9 * width + inner if siglip else 2 * width
    table = 3 * patch * patch * width + width
    table += (_number(vision, "image_size") // patch) ** 2 * width + 2 * width if siglip else 0
    joined = width * hidden + width
    notes = [] if siglip and config.whole.get("model_type") == "gemma3" else ["The encoder of images is estimated."]
    return depth * layer + table + joined, notes


def _number(part: dict[str, Any], *names: str) -> int:
    return next((value for name in names if (value := whole_number(part.get(name)))), 0)
