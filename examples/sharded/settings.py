"""The settings that the numbers of a run depend on; each is an option of the command line."""

import dataclasses
import math
from typing import Any


def option(default: Any, text: str, choices: tuple[str, ...] | None = None) -> Any:
    """Returns a field with the text that ``--help`` shows."""
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings but the mesh, the number of steps and the folders, which change no number."""

    framework: str = option("linen", "Flax's API for the model", ("linen", "nnx"))
    layers: int = option(3, "number of layers")
    width: int = option(64, "features of a token")
    heads: int = option(4, "heads of attention")
    vocabulary: int = option(64, "number of token ids; the last one is the mask")
    length: int = option(16, "tokens of an example")
    batch: int = option(32, "examples of a step")
    accumulate: int = option(1, "micro-batches of a step, whose gradients are added up")
    dropout: float = option(0.1, "rate of dropout, in attention too")
    drop_path: float = option(0.1, "DropPath's rate in the last layer; it rises from 0")
    masking: float = option(0.15, "rate of tokens to predict")
    smoothing: float = option(0.1, "share of label smoothing")
    optimizer: str = option("adam", "optimizer", ("adam", "sgd"))
    learning_rate: float = option(3e-3, "learning rate after the warm-up")
    warmup: int = option(10, "steps of the warm-up")
    decay: float = option(0.01, "decoupled weight decay of kernels")
    max_norm: float = option(math.inf, "limit of the norm of each unit's weights")
    average: float = option(0.99, "decay of the moving average of the weights")
    sam: float = option(0.0, "radius of sharpness-aware minimization")
    bfloat16: bool = option(False, "compute in bfloat16, with weights and statistics in float32")
    remat: bool = option(True, "compute activations again in the backward pass")
    seed: int = option(0, "seed of weights, masks and data")

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"`heads` must divide `width`, {self.width}, got {self.heads}; change one of them."
            )
        if self.batch % self.accumulate:
            raise ValueError(
                f"`accumulate` must divide `batch`, {self.batch}, got {self.accumulate}; change "
                "one of them."
            )

    @property
    def batch_shape(self) -> tuple[int, int, int]:
        """Micro-batches, examples of each, and tokens of an example."""
        return self.accumulate, self.batch // self.accumulate, self.length
