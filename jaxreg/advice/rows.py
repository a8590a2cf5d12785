"""The table behind the advice: one row per statement, with the published work it comes from.

``source`` is the published work behind a row, and ``against`` is what published work says against
it.
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

ROWS = (
    Row(technique="batch_norm", tasks=("classification",), batch="large", weight=3,
        reason="the norm of classifiers, with batches large enough for its statistics",
        source=BATCH_NORM),
    Row(technique="batch_norm", architectures=("cnn", "residual"), batch="large", weight=3,
        reason="standard in convolutional networks, best with large batches",
        source=BATCH_NORM,
        against="ConvNeXt is as good with layer norm (Liu et al. 2022, "
        "https://arxiv.org/abs/2201.03545), NFNets without a norm (Brock et al. 2021, "
        "https://arxiv.org/abs/2102.06171)"),
    Row(technique="batch_norm", need="fast_training", architectures=("mlp", "cnn", "residual"),
        batch="large", weight=3,
        reason="faster convergence and mild regularization", source=BATCH_NORM,
        against="the gain comes from a smoother loss, not from less covariate shift (Santurkar et "
        "al. 2018, https://arxiv.org/abs/1805.11604)"),
    Row(technique="batch_norm", architectures=("mlp",), rows="large", batch="large",
        reason="stabilizes deep networks on large data", source=BATCH_NORM),
    Row(technique="batch_norm", batch="small", avoid=True,
        reason="the statistics of small batches are poor", source=GROUP_NORM),
    Row(technique="batch_norm", batch="variable", avoid=True,
        reason="the output of an example depends on the size of its batch", source=LAYER_NORM),
    Row(technique="batch_norm", architectures=("rnn", "transformer"), avoid=True,
        reason="sequences differ in length, and a batch couples them", source=LAYER_NORM),
    Row(technique="layer_norm", tasks=("sequence",), weight=3,
        reason="the norm of sequence models", source=LAYER_NORM),
    Row(technique="layer_norm", architectures=("rnn", "transformer"), weight=3,
        reason="the same in training and evaluation, whatever the batch and the length",
        source=LAYER_NORM),
    Row(technique="layer_norm", batch="small",
        reason="independent of the batch", source=LAYER_NORM),
    Row(technique="layer_norm", batch="variable", weight=3,
        reason="independent of the batch", source=LAYER_NORM),
    Row(technique="group_norm", tasks=("detection",), weight=3,
        reason="detectors train with few large images at a time", source=GROUP_NORM),
    Row(technique="group_norm", batch="small", architectures=("cnn", "residual"), weight=3,
        reason="a good middle ground that works across batch sizes", source=GROUP_NORM),
    Row(technique="instance_norm", tasks=("style",), weight=3,
        reason="removes the contrast of each image, which is its style", source=INSTANCE_NORM),
    Row(technique="instance_norm", tasks=("classification",), avoid=True,
        reason="the contrast that it removes tells classes apart", source=GROUP_NORM),
    Row(technique="weight_norm", batch="small", weight=1,
        reason="conditions the weights without a batch, faster than batch norm",
        source=WEIGHT_NORM),
    Row(technique="augment_images", architectures=("cnn", "residual"), weight=3,
        reason="essential for images",
        source="Krizhevsky et al. 2012, https://doi.org/10.1145/3065386"),
    Row(technique="augment_images", architectures=("cnn", "residual"), rows="small", weight=3,
        reason="makes more of limited data",
        source="Krizhevsky et al. 2012, https://doi.org/10.1145/3065386"),
    Row(technique="mixup", tasks=("classification",), rows="small", weight=1,
        reason="mixes examples and labels where data is limited", source=MIXUP),
    Row(technique="augment_text", architectures=("transformer", "rnn"), tasks=("sequence",),
        rows="small", reason="makes more of limited text",
        source="Wei and Zou 2019, https://arxiv.org/abs/1901.11196"),
    Row(technique="dropout", architectures=("mlp",),
        reason="the choice for large fully connected layers", source=DROPOUT),
    Row(technique="dropout", architectures=("cnn",),
        reason="in the last, fully connected layers", source=DROPOUT),
    Row(technique="dropout", rows="small", architectures=("mlp", "cnn"), weight=1,
        reason="small data needs stronger regularization", source=DROPOUT,
        against="the paper finds no gain on 100 and 500 rows of MNIST (section 7.4)"),
    Row(technique="attention_dropout", architectures=("transformer",), weight=3,
        reason="on the attention weights and before each residual sum", source=TRANSFORMER),
    Row(technique="spatial_dropout", architectures=("cnn", "residual"), weight=1,
        reason="neighboring pixels reveal what an elementwise mask hides",
        source="Tompson et al. 2015, https://arxiv.org/abs/1411.4280"),
    Row(technique="locked_dropout", architectures=("rnn",), weight=3,
        reason="one mask for all time steps keeps the memory intact",
        source="Gal and Ghahramani 2016, https://arxiv.org/abs/1512.05287"),
    Row(technique="stochastic_depth", architectures=("residual",),
        reason="for very deep residual networks",
        source="Huang et al. 2016, https://arxiv.org/abs/1603.09382"),
    Row(technique="clipping", architectures=("rnn",), weight=3,
        reason="gradients through time explode",
        source="Pascanu, Mikolov and Bengio 2013, https://arxiv.org/abs/1211.5063"),
    Row(technique="decay", reason="the standard choice for most models", weight=2,
        source=ADAMW,
        against="L2 through the gradient of an adaptive optimizer is not decay; decouple it "
        "(Loshchilov and Hutter 2019)"),
    Row(technique="decay", architectures=("transformer",), weight=3,
        reason="important for transformers", source=ADAMW),
    Row(technique="decay", rows="small", weight=1,
        reason="small data needs stronger regularization",
        source="Krogh and Hertz 1991, "
        "https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization"),
    Row(technique="l1", need="sparsity", weight=3,
        reason="selects features, and its proximal step makes exact zeros",
        source=LASSO),
    Row(technique="elastic_net", need="correlated_inputs", weight=3,
        reason="selects groups of correlated inputs together",
        source="Zou and Hastie 2005, https://doi.org/10.1111/j.1467-9868.2005.00503.x"),
    Row(technique="early_stopping", reason="a safety net whenever there is a validation set",
        source=STOPPING),
    Row(technique="early_stopping", need="unknown_epochs", weight=3,
        reason="finds the number of epochs", source=STOPPING),
    Row(technique="label_smoothing", tasks=("classification",),
        reason="prevents overconfidence", source=SMOOTHING),
    Row(technique="label_smoothing", tasks=("classification",), need="calibration", weight=3,
        reason="improves calibration", source=CALIBRATION,
        against="the model is a worse teacher for distillation afterwards (Müller et al. 2019)"),
    Row(technique="label_smoothing", tasks=("classification",), need="noisy_labels", weight=3,
        reason="for noisy or ambiguous labels",
        source="Lukasik et al. 2020, https://arxiv.org/abs/2003.02819"),
    Row(technique="label_smoothing", architectures=("gan",), weight=2,
        reason="keeps the discriminator from being too sure",
        source="Salimans et al. 2016, https://arxiv.org/abs/1606.03498",
        against="smooth the real examples only: smoothed fake ones attract the generator "
        "(section 3.4 of the paper)"),
    Row(technique="spectral_norm", architectures=("gan",), weight=3,
        reason="bounds the slope of the discriminator and stabilizes training",
        source="Miyato et al. 2018, https://arxiv.org/abs/1802.05957"),
    Row(technique="gradient_penalty", architectures=("gan",), weight=3,
        reason="holds the slope of the critic near 1",
        source="Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028"),
    Row(technique="batch_norm", architectures=("gan",), avoid=True,
        reason="a gradient penalty holds for single examples, which batch norm couples",
        source="Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028"),
    Row(technique="beta_vae", tasks=("generation",), weight=1,
        reason="an information bottleneck for autoencoders",
        source="Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl"),
    Row(technique="max_norm", architectures=("rnn", "cnn"), weight=1,
        reason="bounds the capacity directly", source=DROPOUT),
    Row(technique="jacobian", need="robustness", weight=3,
        reason="makes outputs change little with inputs",
        source="Hoffman, Roberts and Yaida 2019, https://arxiv.org/abs/1908.02729",
        against="costs about one more pass even with a single random projection "
        "(Hoffman et al. 2019)"),
    Row(technique="input_noise", need="robustness", weight=1,
        reason="noise on inputs", source="Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108"),
    Row(technique="graph_laplacian", need="few_labels", tasks=("classification", "regression"),
        weight=3, reason="unlabeled neighbors get similar predictions",
        source="Belkin, Niyogi and Sindhwani 2006, "
        "https://jmlr.org/papers/v7/belkin06a.html"),
)  # fmt: skip
