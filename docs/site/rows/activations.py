"""Techniques that act on activations, and on weights on their way into a layer."""

from docs.site.rows.row import Place, Technique

DROPOUT = (
    Technique(
        page="dropout/dropout",
        title="Dropout",
        functions=("dropout.dropout", "dropout.fold_in_axis"),
        also=("PyTorch `nn.Dropout(p)`, `F.dropout`", "Keras `Dropout(rate)`", "Flax `Dropout`",
              "Haiku `hk.dropout(key, rate, x)`", "Equinox `eqx.nn.Dropout(p)`",
              "attention dropout, hidden dropout, residual dropout"),
        risks=("Evaluation needs `deterministic=True`, or `model.eval()` in NNX. Otherwise "
               "predictions are random.",
               "Under plain `jax.jit`, an NNX module repeats the masks of its first call, because "
               "the stream of keys does not advance. Use `nnx.jit`.",
               "Dropout before a batch norm shifts the variance that the norm averages. Drop after "
               "the last batch norm.",
               "The rate is the probability of *dropping*. Papers from before 2015, and JAX code "
               "with `keep_prob`, mean the probability of keeping."),
        work=("dropout 0.1",),
    ),
    Technique(
        page="dropout/classical_dropout",
        title="Classical dropout",
        functions=("dropout.classical_dropout", "dropout.classical_scale"),
        also=("standard dropout", "vanilla dropout", "dropout without rescaling",
              "Hinton et al. 2012, Srivastava et al. 2014"),
        risks=("Evaluation has to multiply by `1 - rate`. Without `classical_scale`, or with its "
               "rate different from training, activations are too large.",),
        work=("classical dropout",),
    ),
    Technique(
        page="dropout/spatial_dropout",
        title="Spatial dropout",
        functions=("dropout.spatial_dropout",),
        also=("PyTorch `nn.Dropout1d`, `nn.Dropout2d`, `nn.Dropout3d`",
              "Keras `SpatialDropout1D`, `SpatialDropout2D`, `SpatialDropout3D`",
              "channel dropout", "feature map dropout"),
        risks=("The last axis holds the channels, as in Flax. Arrays `[batch, channels, ...]` of "
               "PyTorch have to be transposed.",),
        work=("spatial dropout",),
    ),
    Technique(
        page="dropout/gaussian_dropout",
        title="Gaussian dropout",
        functions=("dropout.gaussian_dropout",),
        also=("Keras `GaussianDropout`", "multiplicative Gaussian noise"),
        risks=("The noise can be negative and change the sign of an activation. Above a rate of "
               "0.5 the variance of the noise exceeds 1.",),
        work=("Gaussian dropout",),
    ),
    Technique(
        page="dropout/alpha_dropout",
        title="Alpha dropout",
        functions=("dropout.alpha_dropout",),
        also=("PyTorch `nn.AlphaDropout`", "Keras `AlphaDropout`", "SELU dropout"),
        risks=("Mean and variance are preserved only for activations with mean 0 and variance 1, "
               "as after SELU. After ReLU use ordinary dropout.",),
        work=("alpha dropout",),
    ),
    Technique(
        page="dropout/feature_alpha_dropout",
        title="Feature alpha dropout",
        functions=("dropout.feature_alpha_dropout",),
        also=("PyTorch `nn.FeatureAlphaDropout`",),
        risks=("Channels are on the last axis. Like alpha dropout, it belongs after SELU.",),
        work=("feature alpha dropout",),
    ),
    Technique(
        page="dropout/drop_block",
        title="DropBlock",
        functions=("dropout.drop_block",),
        also=("torchvision `DropBlock2d`, `drop_block2d`, `DropBlock3d`", "timm `DropBlock2d`",
              "KerasCV `DropBlock2D`", "block dropout"),
        risks=("`block_size` counts positions of the map that it gets. On the small maps of late "
               "layers, a block of the paper's size covers most of the map.",),
        work=("DropBlock",),
    ),
    Technique(
        page="dropout/drop_path",
        title="DropPath",
        functions=("dropout.drop_path", "dropout.drop_path_rates"),
        also=("timm `DropPath`, `drop_path_rate`",
              "torchvision `StochasticDepth(p, mode=\"row\")`",
              "stochastic depth per example, stochastic depth per layer with a rate for each layer "
              "of a scan", "droppath, drop_path, drop connect of EfficientNet", "LayerDrop"),
        risks=("Apply it to the branch, before the sum: `x + drop_path(key, branch(x), rate=...)`. "
               "Around the sum it drops the shortcut too.",
               "`drop_path_rates` starts at 0, as in timm; the paper's rule drops the first block "
               "as well.",
               "A stack of layers under `nn.scan` or `nnx.scan` needs one rate for each layer: "
               "pass the rates as scanned inputs, as in [strengths](../../strengths.md)."),
        work=("DropPath",),
    ),
    Technique(
        page="dropout/stochastic_depth",
        title="Stochastic depth",
        functions=("dropout.stochastic_depth", "dropout.full_depth"),
        also=("torchvision `StochasticDepth(p, mode=\"batch\")`", "layer dropout, LayerDrop",
              "Huang et al. 2016"),
        risks=("Under `jax.vmap` over examples the block is always computed, and nothing is saved.",
               "On CPU, XLA computes convolutions in a conditional slowly, so a network of "
               "convolutions becomes slower, not faster."),
        work=("stochastic depth",),
    ),
    Technique(
        page="dropout/locked_dropout",
        title="Locked dropout",
        functions=("dropout.locked_dropout",),
        modules=("LockedDropoutCell",),
        also=("variational dropout of recurrent networks", "fastai `RNNDropout`",
              "AWD-LSTM `LockedDropout`", "Keras `dropout` and `recurrent_dropout` of `LSTM`"),
        risks=("`time_axis` is 1 by default: arrays `[batch, time, features]`. For "
               "`[time, batch, features]` pass `time_axis=0`.",
               "Inside a scan over time, a layer that draws anew at each step is ordinary dropout. "
               "`LockedDropoutCell` draws its masks once for the sequence."),
        work=("locked dropout",),
    ),
    Technique(
        page="dropout/zoneout",
        title="Zoneout",
        functions=("dropout.zoneout", "dropout.zoneout_mean"),
        modules=("ZoneoutCell",),
        also=("recurrent zoneout", "Krueger et al. 2017"),
        risks=("Evaluation mixes old and new state in expectation, so use `zoneout_mean` there.",),
        work=("zoneout",),
    ),
    Technique(
        page="dropout/patch_dropout",
        title="PatchDropout",
        functions=("dropout.patch_dropout", "dropout.every_patch"),
        also=("timm `PatchDropout`, `patch_drop_rate`", "token dropping",
              "masking of patches, as in masked autoencoders (MAE)"),
        risks=("The result is shorter than the input, so the rate has to be a Python number, and "
               "position embeddings have to be added before.",),
        work=("patch dropout",),
    ),
    Technique(
        page="dropout/concrete_dropout",
        title="Concrete dropout",
        functions=("dropout.concrete_dropout", "dropout.concrete_dropout_penalty",
                   "dropout.concrete_dropout_logit"),
        also=("learned dropout rate", "Gal, Hron and Kendall 2017"),
        risks=("Without the penalty, the rate goes to zero.",
               "Leave the logit out of weight decay, which would pull the rate toward one half."),
        work=("concrete dropout",),
    ),
    Technique(
        page="dropout/hard_concrete",
        title="Hard concrete gates",
        functions=("dropout.hard_concrete", "dropout.hard_concrete_inference",
                   "penalties.hard_concrete_l0"),
        also=("L0 regularization", "stochastic gates", "Louizos, Welling and Kingma 2018"),
        risks=("Use the same `temperature`, `low` and `high` in the gates and in the penalty.",),
    ),
)  # fmt: skip
NOISE = (
    Technique(
        page="noise/gaussian_noise",
        title="Gaussian noise",
        functions=("noise.gaussian_noise",),
        also=("Keras `GaussianNoise(stddev)`", "additive noise", "input noise", "jitter",
              "torchvision `v2.GaussianNoise`"),
        risks=("The standard deviation is in units of the data: standardize inputs first.",),
        work=("Gaussian noise",),
    ),
    Technique(
        page="noise/uniform_noise",
        title="Uniform noise",
        functions=("noise.uniform_noise",),
        also=("additive uniform noise",),
        risks=("`limit` is the largest change; the standard deviation is `limit / sqrt(3)`.",),
        work=("uniform noise",),
    ),
    Technique(
        page="noise/salt_and_pepper",
        title="Salt and pepper noise",
        functions=("noise.salt_and_pepper",),
        also=("impulse noise", "scikit-image `random_noise(mode=\"s&p\")`", "masking noise"),
        risks=("`low` and `high` are 0 and 1. For standardized images pass their real extremes.",),
        work=("salt and pepper",),
    ),
)  # fmt: skip
WEIGHTS = (
    Technique(
        page="dropout/drop_connect",
        title="DropConnect",
        functions=("dropout.drop_connect",),
        also=("weight dropout", "fastai `WeightDropout`", "AWD-LSTM weight drop"),
        risks=("One mask of the weights holds for the whole batch, so gradients are noisier than "
               "with dropout of activations.",
               "EfficientNet calls stochastic depth of branches \"drop connect\"; that is "
               "[DropPath](drop_path.md)."),
        work=("DropConnect",),
    ),
    Technique(
        page="dropout/embedding_dropout",
        title="Embedding dropout",
        functions=("dropout.embedding_dropout",),
        also=("word dropout", "fastai `EmbeddingDropout`", "AWD-LSTM"),
        risks=("Pass the table, not the looked-up rows: a word is dropped at all of its "
               "occurrences.",),
        work=("embedding dropout",),
    ),
    Technique(
        page="dropout/variational_dropout",
        title="Variational dropout",
        functions=("dropout.variational_dropout", "dropout.variational_dropout_kl"),
        also=("Kingma, Salimans and Welling 2015", "Gaussian dropout with a learned rate"),
        risks=("Without the KL divergence in the loss, the noise goes to zero.",
               "\"Variational dropout\" of recurrent networks is [locked dropout]"
               "(locked_dropout.md)."),
        work=("variational dropout",),
    ),
    Technique(
        page="dropout/variational_dense",
        title="Sparse variational dense layer",
        functions=("dropout.variational_dense", "dropout.variational_dense_inference",
                   "dropout.variational_log_alpha", "dropout.variational_prune"),
        also=("sparse variational dropout", "Molchanov, Ashukha and Vetrov 2017",
              "Bayesian dense layer", "local reparametrization"),
        risks=("Raise the weight of the KL divergence slowly from 0. With its full weight from the "
               "start, all weights may be pruned before the model has learned anything.",),
        work=("variational dense layer",),
    ),
    Technique(
        page="noise/perturb",
        title="Weight noise",
        functions=("noise.perturb",),
        also=("parameter noise", "weight perturbation", "Graves 2011"),
        risks=("The same standard deviation acts on all leaves. Weights of layers with many inputs "
               "are small, and suffer more from it.",),
    ),
)  # fmt: skip
PLACES = (
    Place("activations", "Activations", "Functions of a key and activations, for training.",
          DROPOUT + NOISE),
    Place("weights_in", "Weights on the way in",
          "Functions that change weights while a layer is called, and leave parameters alone.",
          WEIGHTS),
)  # fmt: skip
