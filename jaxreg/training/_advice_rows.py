"""What is known to help where: one row per statement of a table, with where it stands.

``seed`` names the section of the course material that this library began with: S0 is the outline of
techniques, S1 the note on L1, L2 and dropout, S2 the glossary with its comparative table, S3 the
note on multilayer perceptrons, S4 the primer. ``source`` is the published work behind a row, and
``against`` what published work says against it.
"""

from dataclasses import dataclass

TASKS = ("classification", "regression", "sequence", "detection", "style", "generation")
ARCHITECTURES = ("mlp", "cnn", "residual", "rnn", "transformer", "gan")
NEEDS = (
    "sparsity", "correlated_inputs", "calibration", "robustness", "noisy_labels", "fast_training",
    "unknown_epochs", "few_labels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One statement: a technique, where it is for or against it, and who says so.

    Attributes:
      technique: Name of the technique.
      reason: Why.
      seed: Sections of the course material.
      tasks: Tasks it is about; empty for any. Likewise the other conditions; all must hold.
      architectures: Kinds of models.
      rows: ``"small"`` or ``"large"`` data; empty for any.
      batch: ``"small"``, ``"large"`` or ``"variable"`` batches; empty for any.
      need: What is asked for besides; empty for nothing.
      avoid: Whether it is against the technique.
      weight: 3 for what is standard, 2 for what is usual, 1 for what is worth a try.
      source: Published work.
      against: What published work says against the statement; empty for nothing.
    """

    technique: str
    reason: str
    seed: str
    tasks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    rows: str = ""
    batch: str = ""
    need: str = ""
    avoid: bool = False
    weight: int = 2
    source: str = ""
    against: str = ""


BATCH_NORM = "Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167"
LAYER_NORM = "Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450"
GROUP_NORM = "Wu and He 2018, https://arxiv.org/abs/1803.08494"
INSTANCE_NORM = "Ulyanov, Vedaldi and Lempitsky 2016, https://arxiv.org/abs/1607.08022"
WEIGHT_NORM = "Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868"
DROPOUT = "Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html"
ADAMW = "Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101"
SMOOTHING = "Szegedy et al. 2016, https://arxiv.org/abs/1512.00567"
CALIBRATION = "Müller, Kornblith and Hinton 2019, https://arxiv.org/abs/1906.02629"
LASSO = "Tibshirani 1996, https://doi.org/10.1111/j.2517-6161.1996.tb02080.x"
STOPPING = "Prechelt 1998, https://doi.org/10.1007/3-540-49430-8_3"
MIXUP = "Zhang et al. 2018, https://arxiv.org/abs/1710.09412"
TRANSFORMER = "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762"
SHIFT = "Li et al. 2019, https://arxiv.org/abs/1801.05134"

ROWS = (
    Row(technique="batch_norm", tasks=("classification",), batch="large", weight=3,
        reason="the norm of classifiers, with batches large enough for its statistics",
        seed="S0 4.6", source=BATCH_NORM),
    Row(technique="batch_norm", architectures=("cnn", "residual"), batch="large", weight=3,
        reason="standard in convolutional networks, best with large batches",
        seed="S0 4.5, 4.6, 8.3", source=BATCH_NORM,
        against="ConvNeXt is as good with layer norm (Liu et al. 2022, "
        "https://arxiv.org/abs/2201.03545), NFNets without a norm (Brock et al. 2021, "
        "https://arxiv.org/abs/2102.06171)"),
    Row(technique="batch_norm", need="fast_training", architectures=("mlp", "cnn", "residual"),
        batch="large", weight=3,
        reason="faster convergence and mild regularization", seed="S3 table, S4 summary",
        source=BATCH_NORM,
        against="not by a smaller covariate shift, but by a smoother loss (Santurkar et al. 2018, "
        "https://arxiv.org/abs/1805.11604)"),
    Row(technique="batch_norm", architectures=("mlp",), rows="large", batch="large",
        reason="stabilizes deep networks on large data", seed="S2 table, S3 table",
        source=BATCH_NORM),
    Row(technique="batch_norm", batch="small", avoid=True,
        reason="the statistics of small batches are poor", seed="S0 3.6, 4.5, S2 table, S3 table",
        source=GROUP_NORM),
    Row(technique="batch_norm", batch="variable", avoid=True,
        reason="what an example becomes depends on the size of its batch", seed="S0 4.6",
        source=LAYER_NORM),
    Row(technique="batch_norm", architectures=("rnn", "transformer"), avoid=True,
        reason="sequences differ in length, and a batch couples them", seed="S0 4.6, S3 table",
        source=LAYER_NORM,
        against="S2 calls it almost universal; transformers use layer norm"),
    Row(technique="layer_norm", tasks=("sequence",), weight=3,
        reason="the norm of sequence models", seed="S0 4.6", source=LAYER_NORM),
    Row(technique="layer_norm", architectures=("rnn", "transformer"), weight=3,
        reason="the same in training and evaluation, whatever the batch and the length",
        seed="S0 4.5, 4.6, 8.3", source=LAYER_NORM),
    Row(technique="layer_norm", batch="small",
        reason="independent of the batch", seed="S0 4.6", source=LAYER_NORM),
    Row(technique="layer_norm", batch="variable", weight=3,
        reason="independent of the batch", seed="S0 4.6", source=LAYER_NORM),
    Row(technique="group_norm", tasks=("detection",), weight=3,
        reason="detectors train with few large images at a time", seed="S0 4.5, 4.6",
        source=GROUP_NORM),
    Row(technique="group_norm", batch="small", architectures=("cnn", "residual"), weight=3,
        reason="a good middle ground that works across batch sizes", seed="S0 4.5, 4.6",
        source=GROUP_NORM),
    Row(technique="instance_norm", tasks=("style",), weight=3,
        reason="removes the contrast of each image, which is its style", seed="S0 4.3, 4.5, 4.6",
        source=INSTANCE_NORM),
    Row(technique="instance_norm", tasks=("classification",), avoid=True,
        reason="the contrast that it removes tells classes apart", seed="S0 4.5",
        source=GROUP_NORM),
    Row(technique="weight_norm", batch="small", weight=1,
        reason="conditions the weights without a batch, faster than batch norm",
        seed="S0 4.4", source=WEIGHT_NORM),
    Row(technique="augment_images", architectures=("cnn", "residual"), weight=3,
        reason="essential for images", seed="S0 8.3, S1 tip 4, S2 table",
        source="Krizhevsky et al. 2012, https://doi.org/10.1145/3065386"),
    Row(technique="augment_images", architectures=("cnn", "residual"), rows="small", weight=3,
        reason="makes more of limited data", seed="S0 8.7, S4 summary",
        source="Krizhevsky et al. 2012, https://doi.org/10.1145/3065386"),
    Row(technique="mixup", tasks=("classification",), rows="small", weight=1,
        reason="mixes examples and labels where data is limited", seed="S0 6.2, 8.7",
        source=MIXUP),
    Row(technique="augment_text", architectures=("transformer", "rnn"), tasks=("sequence",),
        rows="small", reason="makes more of limited text", seed="S0 6.4, S2 table",
        source="Wei and Zou 2019, https://arxiv.org/abs/1901.11196"),
    Row(technique="dropout", architectures=("mlp",),
        reason="the choice for large fully connected layers", seed="S3 table, S4 summary",
        source=DROPOUT),
    Row(technique="dropout", architectures=("cnn",),
        reason="in the last, fully connected layers", seed="S0 8.3, S2 table", source=DROPOUT),
    Row(technique="dropout", rows="small", architectures=("mlp", "cnn"), weight=1,
        reason="small data need stronger regularization", seed="S0 1.4, S1 interplay",
        source=DROPOUT,
        against="the paper finds no gain on 100 and 500 rows of MNIST (section 7.4)"),
    Row(technique="attention_dropout", architectures=("transformer",), weight=3,
        reason="on the attention weights and the sums of the residual stream", seed="S0 8.3",
        source=TRANSFORMER),
    Row(technique="spatial_dropout", architectures=("cnn", "residual"), weight=1,
        reason="neighboring pixels tell what an elementwise mask hides", seed="S0 2.3, 2.5, S1 3",
        source="Tompson et al. 2015, https://arxiv.org/abs/1411.4280"),
    Row(technique="locked_dropout", architectures=("rnn",), weight=3,
        reason="one mask for all time steps keeps the memory intact", seed="S0 2.5, 8.3",
        source="Gal and Ghahramani 2016, https://arxiv.org/abs/1512.05287"),
    Row(technique="stochastic_depth", architectures=("residual",),
        reason="for very deep residual networks", seed="S0 2.6, S2 table",
        source="Huang et al. 2016, https://arxiv.org/abs/1603.09382"),
    Row(technique="clipping", architectures=("rnn",), weight=3,
        reason="gradients through time explode", seed="S0 8.3",
        source="Pascanu, Mikolov and Bengio 2013, https://arxiv.org/abs/1211.5063"),
    Row(technique="decay", reason="the standard choice for most models", weight=2,
        seed="S1 tip 2, S2 table, S3 table, S4 summary", source=ADAMW,
        against="S3 lets Adam take L2 through the gradient, S0 5.5 too; that is no decay "
        "(Loshchilov and Hutter 2019), so it is decoupled here"),
    Row(technique="decay", architectures=("transformer",), weight=3,
        reason="important for transformers", seed="S0 8.3", source=ADAMW),
    Row(technique="decay", rows="small", weight=1,
        reason="small data need stronger regularization", seed="S0 1.4, S1 interplay",
        source="Krogh and Hertz 1991, "
        "https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization"),
    Row(technique="l1", need="sparsity", weight=3,
        reason="selects features, and its proximal step makes exact zeros",
        seed="S1 tip 1, S2 table, S3 table, S4 summary", source=LASSO),
    Row(technique="elastic_net", need="correlated_inputs", weight=3,
        reason="selects groups of correlated inputs together", seed="S0 5.4, S2 table",
        source="Zou and Hastie 2005, https://doi.org/10.1111/j.1467-9868.2005.00503.x"),
    Row(technique="early_stopping", reason="a safety net wherever there is a validation set",
        seed="S0 8.7, S1 tip 6, S2 table", source=STOPPING),
    Row(technique="early_stopping", need="unknown_epochs", weight=3,
        reason="finds the number of epochs", seed="S4 summary", source=STOPPING),
    Row(technique="label_smoothing", tasks=("classification",),
        reason="prevents overconfidence", seed="S0 7.2, 8.2, S2 table", source=SMOOTHING),
    Row(technique="label_smoothing", tasks=("classification",), need="calibration", weight=3,
        reason="improves calibration", seed="S2 table", source=CALIBRATION,
        against="a model trained so is a worse teacher for distillation (Müller et al. 2019)"),
    Row(technique="label_smoothing", tasks=("classification",), need="noisy_labels", weight=3,
        reason="for noisy or ambiguous labels", seed="S2 table",
        source="Lukasik et al. 2020, https://arxiv.org/abs/2003.02819"),
    Row(technique="label_smoothing", architectures=("gan",), weight=2,
        reason="keeps the discriminator from being too sure", seed="S0 8.3",
        source="Salimans et al. 2016, https://arxiv.org/abs/1606.03498",
        against="for the real examples alone: smoothed fake ones draw the generator to them "
        "(section 3.4 of the paper)"),
    Row(technique="spectral_norm", architectures=("gan",), weight=3,
        reason="bounds the slope of the discriminator and stabilizes training", seed="S0 7.3, 8.3",
        source="Miyato et al. 2018, https://arxiv.org/abs/1802.05957"),
    Row(technique="gradient_penalty", architectures=("gan",), weight=3,
        reason="holds the slope of the critic near 1", seed="S0 7.4, 8.3",
        source="Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028"),
    Row(technique="batch_norm", architectures=("gan",), avoid=True,
        reason="a gradient penalty holds for single examples, which batch norm couples",
        seed="S0 7.4", source="Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028"),
    Row(technique="beta_vae", tasks=("generation",), weight=1,
        reason="an information bottleneck for autoencoders", seed="S0 7.5",
        source="Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl"),
    Row(technique="max_norm", architectures=("rnn", "cnn"), weight=1,
        reason="bounds the capacity directly", seed="S2 table", source=DROPOUT),
    Row(technique="jacobian", need="robustness", weight=3,
        reason="outputs that change little with inputs", seed="S2 table",
        source="Hoffman, Roberts and Yaida 2019, https://arxiv.org/abs/1908.02729",
        against="S2 calls it expensive and rarely used; with one random projection it costs about "
        "one more pass (Hoffman et al. 2019)"),
    Row(technique="input_noise", need="robustness", weight=1,
        reason="noise on inputs", seed="S1 4",
        source="Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108"),
    Row(technique="graph_laplacian", need="few_labels", tasks=("classification", "regression"),
        weight=3, reason="unlabeled neighbors get like predictions", seed="S0 7.6",
        source="Belkin, Niyogi and Sindhwani 2006, "
        "https://jmlr.org/papers/v7/belkin06a.html"),
)  # fmt: skip
