"""The table behind the advice: one row per statement, with the published work it comes from.

``source`` is the published work behind a row, and ``against`` is what published work says against
it.
"""

from dataclasses import dataclass

from jaxreg.advice import works

TASKS = ("classification", "regression", "sequence", "detection", "style", "generation")
ARCHITECTURES = ("mlp", "cnn", "residual", "rnn", "transformer", "gan")
NEEDS = (
    "sparsity", "correlated_inputs", "calibration", "robustness", "noisy_labels", "fast_training",
    "unknown_epochs", "few_labels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One statement for or against a technique, with its conditions and its source.

    Attributes:
      technique: Name of the technique.
      reason: Reason for or against the technique.
      tasks: Tasks that the statement holds for; empty for any. All conditions must be met.
      architectures: Kinds of models; empty for any.
      rows: ``"small"`` or ``"large"`` data; empty for any.
      batch: ``"small"``, ``"large"`` or ``"variable"`` batches; empty for any.
      need: A further need of the user; empty for none.
      avoid: Whether the statement is against the technique.
      weight: 3 if the technique is standard, 2 if it is usual, 1 if it is worth a try.
      source: Published work.
      against: An objection from published work; empty for none.
    """

    technique: str
    reason: str
    tasks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    rows: str = ""
    batch: str = ""
    need: str = ""
    avoid: bool = False
    weight: int = 2
    source: str = ""
    against: str = ""


ROWS = (
    Row(technique="batch_norm", tasks=("classification",), batch="large", weight=3,
        reason="the norm of classifiers, with batches large enough for its statistics",
        source=works.BATCH_NORM),
    Row(technique="batch_norm", architectures=("cnn", "residual"), batch="large", weight=3,
        reason="standard in convolutional networks, best with large batches",
        source=works.BATCH_NORM,
        against="ConvNeXt is as good with layer norm (Liu et al. 2022, "
        "https://arxiv.org/abs/2201.03545), NFNets without a norm (Brock et al. 2021, "
        "https://arxiv.org/abs/2102.06171)"),
    Row(technique="batch_norm", need="fast_training", architectures=("mlp", "cnn", "residual"),
        batch="large", weight=3,
        reason="faster convergence and mild regularization", source=works.BATCH_NORM,
        against="the gain comes from a smoother loss, not from less covariate shift (Santurkar et "
        "al. 2018, https://arxiv.org/abs/1805.11604)"),
    Row(technique="batch_norm", architectures=("mlp",), rows="large", batch="large",
        reason="stabilizes deep networks on large data", source=works.BATCH_NORM),
    Row(technique="batch_norm", batch="small", avoid=True,
        reason="the statistics of small batches are poor", source=works.GROUP_NORM),
    Row(technique="batch_norm", batch="variable", avoid=True,
        reason="the output of an example depends on the size of its batch",
        source=works.LAYER_NORM),
    Row(technique="batch_norm", architectures=("rnn", "transformer"), avoid=True,
        reason="sequences differ in length, and a batch couples them", source=works.LAYER_NORM),
    Row(technique="layer_norm", tasks=("sequence",), weight=3,
        reason="the norm of sequence models", source=works.LAYER_NORM),
    Row(technique="layer_norm", architectures=("rnn", "transformer"), weight=3,
        reason="the same in training and evaluation, whatever the batch and the length",
        source=works.LAYER_NORM),
    Row(technique="layer_norm", batch="small",
        reason="independent of the batch", source=works.LAYER_NORM),
    Row(technique="layer_norm", batch="variable", weight=3,
        reason="independent of the batch", source=works.LAYER_NORM),
    Row(technique="group_norm", tasks=("detection",), weight=3,
        reason="detectors train with few large images at a time", source=works.GROUP_NORM),
    Row(technique="group_norm", batch="small", architectures=("cnn", "residual"), weight=3,
        reason="a good middle ground that works across batch sizes", source=works.GROUP_NORM),
    Row(technique="instance_norm", tasks=("style",), weight=3,
        reason="removes the contrast of each image, which is its style",
        source=works.INSTANCE_NORM),
    Row(technique="instance_norm", tasks=("classification",), avoid=True,
        reason="the contrast that it removes tells classes apart", source=works.GROUP_NORM),
    Row(technique="weight_norm", batch="small", weight=1,
        reason="conditions the weights without a batch, faster than batch norm",
        source=works.WEIGHT_NORM),
    Row(technique="augment_images", architectures=("cnn", "residual"), weight=3,
        reason="essential for images",
        source=works.IMAGENET),
    Row(technique="augment_images", architectures=("cnn", "residual"), rows="small", weight=3,
        reason="makes more of limited data",
        source=works.IMAGENET),
    Row(technique="mixup", tasks=("classification",), rows="small", weight=1,
        reason="mixes examples and labels where data is limited", source=works.MIXUP),
    Row(technique="augment_text", architectures=("transformer", "rnn"), tasks=("sequence",),
        rows="small", reason="makes more of limited text",
        source=works.EDA),
    Row(technique="dropout", architectures=("mlp",),
        reason="the choice for large fully connected layers", source=works.DROPOUT),
    Row(technique="dropout", architectures=("cnn",),
        reason="in the last, fully connected layers", source=works.DROPOUT),
    Row(technique="dropout", rows="small", architectures=("mlp", "cnn"), weight=1,
        reason="small data needs stronger regularization", source=works.DROPOUT,
        against="no gain on 100 and 500 rows of MNIST (Srivastava et al. 2014, section 7.4)"),
    Row(technique="attention_dropout", architectures=("transformer",), weight=3,
        reason="before each residual sum, and often on the attention weights",
        source=works.TRANSFORMER),
    Row(technique="spatial_dropout", architectures=("cnn", "residual"), weight=1,
        reason="neighboring pixels reveal what an elementwise mask hides",
        source=works.SPATIAL),
    Row(technique="locked_dropout", architectures=("rnn",), weight=3,
        reason="one mask for all time steps keeps the memory intact",
        source=works.LOCKED),
    Row(technique="stochastic_depth", architectures=("residual",),
        reason="for very deep residual networks",
        source=works.DEPTH),
    Row(technique="clipping", architectures=("rnn",), weight=3,
        reason="gradients through time explode",
        source=works.EXPLODING),
    Row(technique="decay", reason="the standard choice for most models", weight=2,
        source=works.ADAMW,
        against="L2 through the gradient of an adaptive optimizer is not decay; decouple it "
        "(Loshchilov and Hutter 2019)"),
    Row(technique="decay", architectures=("transformer",), weight=3,
        reason="important for transformers", source=works.ADAMW),
    Row(technique="decay", rows="small", weight=1,
        reason="small data needs stronger regularization",
        source=works.KROGH),
    Row(technique="l1", need="sparsity", weight=3,
        reason="selects features, and its proximal step makes exact zeros",
        source=works.LASSO),
    Row(technique="elastic_net", need="correlated_inputs", weight=3,
        reason="selects groups of correlated inputs together",
        source=works.ELASTIC_NET),
    Row(technique="early_stopping", reason="a safety net whenever there is a validation set",
        source=works.STOPPING),
    Row(technique="early_stopping", need="unknown_epochs", weight=3,
        reason="finds the number of epochs", source=works.STOPPING),
    Row(technique="label_smoothing", tasks=("classification",),
        reason="prevents overconfidence", source=works.SMOOTHING),
    Row(technique="label_smoothing", tasks=("classification",), need="calibration", weight=3,
        reason="improves calibration", source=works.CALIBRATION,
        against="the model is a worse teacher for distillation afterwards (Müller et al. 2019)"),
    Row(technique="label_smoothing", tasks=("classification",), need="noisy_labels", weight=3,
        reason="for noisy or ambiguous labels",
        source=works.NOISY_LABELS),
    Row(technique="label_smoothing", architectures=("gan",), weight=2,
        reason="keeps the discriminator from being too sure",
        source=works.SALIMANS,
        against="smooth the real examples only: smoothed fake ones attract the generator "
        "(Salimans et al. 2016, section 3.4)"),
    Row(technique="spectral_norm", architectures=("gan",), weight=3,
        reason="bounds the slope of the discriminator and stabilizes training",
        source=works.SPECTRAL_NORM),
    Row(technique="gradient_penalty", architectures=("gan",), weight=3,
        reason="holds the slope of the critic near 1",
        source=works.WGAN_GP),
    Row(technique="batch_norm", architectures=("gan",), avoid=True,
        reason="a gradient penalty holds for single examples, which batch norm couples",
        source=works.WGAN_GP),
    Row(technique="beta_vae", tasks=("generation",), weight=1,
        reason="an information bottleneck for autoencoders",
        source=works.HIGGINS),
    Row(technique="max_norm", architectures=("rnn", "cnn"), weight=1,
        reason="bounds the capacity directly", source=works.DROPOUT),
    Row(technique="jacobian", need="robustness", weight=3,
        reason="makes outputs change little with inputs",
        source=works.JACOBIAN,
        against="costs about one more pass even with a single random projection "
        "(Hoffman et al. 2019)"),
    Row(technique="input_noise", need="robustness", weight=1,
        reason="noise on inputs", source=works.BISHOP),
    Row(technique="graph_laplacian", need="few_labels", tasks=("classification", "regression"),
        weight=3, reason="unlabeled neighbors get similar predictions",
        source=works.GRAPHS),
)  # fmt: skip
