"""The shape of a model: the nine numbers and one switch that decide its parameters, valid from birth."""

from dataclasses import dataclass

from gsm_lab.errors import RecipeError


@dataclass(frozen=True)
class ModelShape:
    """The size of a Qwen2 transformer.

    Raises:
        RecipeError: a size is not a positive whole number, or two sizes do not fit each other.
    """

    vocab_size: int
    """Rows of the embedding table: the tokenizer's padded size, not the number of words in it."""
    layers: int
    width: int
    """Length of the residual vector of one token."""
    heads: int
    """Query heads; `width / heads` is the head's width (32, 64 or 128 suit vLLM)."""
    kv_heads: int
    """Key and value heads; each serves `heads / kv_heads` query heads."""
    ffn: int
    """Hidden width of the SwiGLU feed-forward layer."""
    max_positions: int
    """Longest document, in tokens, prompt and completion together."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-6
    """Added to the mean square before the root in RMSNorm."""
    tied_embeddings: bool = True
    """Whether the output head is the embedding table."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "ffn", "max_positions"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise RecipeError(f"{name} is {size!r}: give a whole number of 1 or more.")
        for name in ("rope_theta", "norm_eps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise RecipeError(f"{name} is {value!r}: give a finite number above 0.")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise RecipeError(
                f"width {self.width} over {self.heads} heads is not an even whole number a head: "
                f"rotary positions turn pairs, so choose a width that is a multiple of {2 * self.heads}."
            )
        if self.heads % self.kv_heads:
            raise RecipeError(
                f"{self.heads} heads cannot share {self.kv_heads} key-value heads evenly: "
                f"choose kv_heads among the divisors of heads."
            )

    @property
    def head_width(self) -> int:
        """Length of one head's query, key or value."""
        return self.width // self.heads

    @property
    def queries_per_kv_head(self) -> int:
        """How many query heads read the same keys and values."""
        return self.heads // self.kv_heads

    @property
    def parameters(self) -> int:
        """How many numbers are trained, a tied head counted once."""
        key_value_width = self.kv_heads * self.head_width
        attention = self.width * (2 * self.width + 2 * key_value_width) + self.width + 2 * key_value_width
        block = attention + 3 * self.width * self.ffn + 2 * self.width
        tables = self.vocab_size * self.width * (1 if self.tied_embeddings else 2)
        return tables + self.layers * block + self.width
