"""What a path takes, and a request that was understood: the nouns that the rest of this package is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from freehold.gateway.errors import Shape

Body = dict[str, Any]

_LARGEST_IMAGE: Final = 16_384  # tokens: what the largest image becomes in the models that vLLM serves


class Call:
    """A request that may be forwarded, as soon as its model is known.

    Attributes:
        model: public name asked for.
        body: for the engine; `model`, `cache_salt` and perhaps the tokens granted are still to be set.
        stream: whether the client wants events.
        show_usage: whether the client asked for the final usage frame.
        show_every_usage: whether it asked for usage on every frame.
        logprobs: whether it asked for those; its frames then have the model's tokens as keys.
        prompts: how many prompts the request has (completions only; else 1).
        choices: answers to each prompt.
        outputs: answers that tokens are generated for: prompts × choices; 0 where nothing is generated.
        max_tokens: what the client allows each answer; 0: it did not say.
        default_max_tokens: what the engine allows each where the client does not say; 0: what the context leaves.
        max_tokens_field: where it is said.
        bytes_bound: tokens that the text can be at most: its bytes, and a margin for the template.
        sequences: prompts that the engine reads, none longer than its context (a reranker reads one for each pair).
        media: images and sounds, whose tokens do not follow from their bytes.
        prefix: the body as encoded, which begins with what stands first in the prompt; for routing alike to alike.
            Empty until then.
        prompt_guess: tokens of the prompt as its size lets one guess; billed (as an estimate) only where the engine
            was cut off before it said, and cannot be asked either.
    """

    __slots__ = (
        "body",
        "bytes_bound",
        "choices",
        "default_max_tokens",
        "logprobs",
        "max_tokens",
        "max_tokens_field",
        "media",
        "model",
        "outputs",
        "prefix",
        "prompt_guess",
        "prompts",
        "sequences",
        "show_every_usage",
        "show_usage",
        "stream",
    )

    def __init__(
        self,
        model: str,
        body: Body | msgspec.Struct,
        *,
        stream: bool = False,
        show_usage: bool = False,
        show_every_usage: bool = False,
        logprobs: bool = False,
        prompts: int = 1,
        choices: int = 1,
        outputs: int = 1,
        max_tokens: int = 0,
        default_max_tokens: int = 0,
        max_tokens_field: str = "max_tokens",
        bytes_bound: int = 0,
        sequences: int = 1,
        media: int = 0,
        prefix: bytes = b"",
        prompt_guess: int = 1,
    ) -> None:
        self.model = model
        self.body = body
        self.stream = stream
        self.show_usage = show_usage
        self.show_every_usage = show_every_usage
        self.logprobs = logprobs
        self.prompts = prompts
        self.choices = choices
        self.outputs = outputs
        self.max_tokens = max_tokens
        self.default_max_tokens = default_max_tokens
        self.max_tokens_field = max_tokens_field
        self.bytes_bound = bytes_bound
        self.sequences = sequences
        self.media = media
        self.prefix = prefix
        self.prompt_guess = prompt_guess

    def guess(self, max_model_len: int) -> int:
        """`prompt_guess`, and where the engine's context is known (not 0) never more than `prompt_bound` says."""
        return min(self.prompt_guess, self.prompt_bound(max_model_len)) if max_model_len else self.prompt_guess

    def forget(self) -> None:
        """Lets go of the body, once it is encoded."""
        self.body = {}

    def prompt_bound(self, max_model_len: int) -> int:
        """Tokens that the prompt has at most; `max_model_len` is the engine's context, 0 where not known."""
        if max_model_len:
            longest = max_model_len * self.sequences
            return longest if self.media or self.bytes_bound > longest else self.bytes_bound
        return self.bytes_bound + self.media * _LARGEST_IMAGE


class Extent:
    """How much the contents of a body can make an engine read.

    Attributes:
        margin: tokens that the template adds at most, or that are read more than once.
        sequences, media: see Call.
    """

    __slots__ = ("margin", "media", "sequences")

    def __init__(self, margin: int, sequences: int = 1, media: int = 0) -> None:
        self.margin = margin
        self.sequences = sequences
        self.media = media


class Surface:
    """One path and what may be sent to it.

    Attributes:
        path: here.
        engine_path: at the engine; begin: of a request there, up to the value of its Host header.
        shape: of errors.
        task: of the routes it can call.
        required: fields without which it is a 400.
        allowed: fields that are copied.
        dropped: fields that the API has and an engine has no use for.
        refused: known fields that are a 400 unless null or false, with the remedy.
        check: the fields' contents; may change the body.
        first: fields whose contents are the prompt, in its order; they are encoded first.
        max_tokens: fields that say how much may be generated, the one that prevails first; none: nothing is generated.
        default_max_tokens: see Call.
        salted: whether the engine takes a `cache_salt`.
        billed: whether it costs anything. What does not has no usage, and its answer no model.
    """

    __slots__ = (
        "allowed",
        "begin",
        "billed",
        "check",
        "default_max_tokens",
        "dropped",
        "engine_path",
        "first",
        "max_tokens",
        "path",
        "refused",
        "required",
        "salted",
        "shape",
        "task",
    )

    def __init__(
        self,
        *,
        path: str,
        shape: Shape,
        task: str,
        required: tuple[str, ...],
        allowed: frozenset[str],
        dropped: frozenset[str],
        refused: dict[str, str],
        check: Callable[[Body], Extent],
        first: tuple[str, ...],
        engine_path: str = "",
        max_tokens: tuple[str, ...] = (),
        default_max_tokens: int = 0,
        salted: bool = True,
        billed: bool = True,
    ) -> None:
        self.path = path
        self.shape = shape
        self.task = task
        self.required = required
        self.allowed = allowed
        self.dropped = dropped
        self.refused = refused
        self.check = check
        self.first = first
        self.engine_path = engine_path or path
        self.max_tokens = max_tokens
        self.default_max_tokens = default_max_tokens
        self.salted = salted
        self.billed = billed
        self.begin = b"POST %s HTTP/1.1\r\nhost: " % self.engine_path.encode()

    def at(self, path: str) -> Surface:
        """The same at another path here."""
        return Surface(
            path=path,
            shape=self.shape,
            task=self.task,
            required=self.required,
            allowed=self.allowed,
            dropped=self.dropped,
            refused=self.refused,
            check=self.check,
            first=self.first,
            engine_path=self.engine_path,
            max_tokens=self.max_tokens,
            default_max_tokens=self.default_max_tokens,
            salted=self.salted,
            billed=self.billed,
        )
