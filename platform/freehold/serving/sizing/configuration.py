"""A config.json read with suspicion: sizing's only way to a number in it. Called by the other modules of sizing.

What is uploaded is untrusted: a count may be missing, negative, a word, or so large that arithmetic on it is an attack.
Nothing is guessed here: a number that sizing needs and cannot read is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from freehold.common.errors import Refused

MOST: Final = 2**32
MOST_LAYERS: Final = 1024

# Where configurations for several modalities keep their language model (transformers' get_text_config).
_TEXT_PARTS = ("text_config", "language_config", "llm_config", "language_model_config")

_DTYPE_BYTES: Final[Mapping[str, int]] = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 2, "float": 2}


@dataclass(frozen=True)
class ModelConfig:
    """A config.json and its part for the language model (the same object where there is one modality).

    Attributes:
        whole: as uploaded.
        text: the language model's part; every count below comes from here.
    """

    whole: Mapping[str, Any]
    text: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelConfig:
        """Raises Refused where the configuration is empty."""
        if not config:
            raise Refused("The model has no config.json that can be read, so its memory cannot be computed.")
        return cls(whole=config, text=_text_part(config))

    @property
    def model_type(self) -> str:
        """transformers' word for the language model, such as `qwen3_moe`; empty where none is given."""
        found = self.text.get("model_type") or self.whole.get("model_type")
        return found if isinstance(found, str) else ""

    @property
    def architecture(self) -> str:
        """The first of `architectures`, or the model type, for people to read."""
        for part in (self.whole, self.text):
            names = part.get("architectures")
            if isinstance(names, Sequence) and not isinstance(names, str) and names and isinstance(names[0], str):
                return names[0]
        return self.model_type or "unknown"

    @property
    def layers(self) -> int:
        """Decoder layers. Raises Refused where it is missing or beyond all sense."""
        count = self.count("num_hidden_layers", "n_layer", "num_layers", "n_layers")
        if count > MOST_LAYERS:
            raise Refused(f"config.json names {count:,} layers; more than {MOST_LAYERS:,} are not sized.")
        return count

    @property
    def dtype_bytes(self) -> int:
        """Bytes of a number that is not quantized. float32 is served as a 16-bit type (vLLM, _resolve_auto_dtype)."""
        for part in (self.whole, self.text):
            for key in ("dtype", "torch_dtype"):
                found = part.get(key)
                if isinstance(found, str):
                    return _DTYPE_BYTES.get(found.removeprefix("torch."), 2)
        return 2

    def count(self, *names: str, default: int | None = None) -> int:
        """The first positive whole number under `names`. Raises Refused where there is none and no default."""
        found = self.optional(*names)
        if found is not None:
            return found
        if default is None:
            raise Refused(
                f"config.json of {self.architecture} has no usable {names[0]}, which its memory depends on. "
                "Take the file of the published model."
            )
        return default

    def optional(self, *names: str) -> int | None:
        """The same, or None. Zero, negative, true and false, and more than 2^32 count as missing."""
        return next((value for name in names if (value := whole_number(self.text.get(name)))), None)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A truth value; anything else is the default."""
        value = self.text.get(name)
        return value if isinstance(value, bool) else default

    def words(self, name: str) -> tuple[str, ...]:
        """A list of words such as `layer_types`, empty where it is missing or no list of words."""
        value = self.text.get(name)
        if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value):
            return tuple(value)
        return ()

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers, empty where it is missing or something else."""
        value = self.text.get(name)
        if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, int) for item in value):
            return tuple(int(item) for item in value)
        return ()

    def part(self, name: str) -> Mapping[str, Any]:
        """A nested object of the language model, or of the whole; empty where it is missing."""
        for holder in (self.text, self.whole):
            value = holder.get(name)
            if isinstance(value, Mapping):
                return value
        return {}


def whole_number(value: object) -> int | None:
    """A positive whole number up to 2^32, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST else None


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _TEXT_PARTS:
        part = config.get(name)
        if isinstance(part, Mapping) and part:
            return part
    thinker = config.get("thinker_config")
    return _text_part(thinker) if isinstance(thinker, Mapping) and thinker else config
