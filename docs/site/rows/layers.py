"""Techniques in place of parameters, and norms."""

from docs.site.rows.row import Place, Technique

REPARAM = (
    Technique(
        page="reparam/weight_norm",
        title="Weight norm",
        functions=("reparam.weight_norm", "reparam.weight_norm_scale"),
        also=("PyTorch `torch.nn.utils.parametrizations.weight_norm`", "Flax `WeightNorm`",
              "Equinox `eqx.nn.WeightNorm`", "weight normalization"),
        risks=("The output axis is the last one here, and the first one in PyTorch.",
               "Decay of the directions changes the effective learning rate, not the function."),
    ),
    Technique(
        page="reparam/spectral_norm",
        title="Spectral norm",
        functions=("reparam.spectral_norm", "reparam.spectral_norm_sigma",
                   "reparam.spectral_norm_vector", "reparam.output_axes"),
        also=("PyTorch `torch.nn.utils.parametrizations.spectral_norm`",
              "Keras `SpectralNormalization`", "Flax `SpectralNorm`", "Haiku `hk.SpectralNorm`",
              "Equinox `eqx.nn.SpectralNorm`", "SN-GAN: spectral norm of a GAN's discriminator"),
        risks=("The norm is the kernel's as a matrix. A convolution with padding or overlapping "
               "windows may still amplify more.",
               "The vector is state: update it in training only, or evaluation depends on its "
               "history."),
    ),
    Technique(
        page="reparam/weight_standardization",
        title="Weight standardization",
        functions=("reparam.weight_standardization", "reparam.weight_standardization_scale"),
        also=("timm `StdConv2d`, `ScaledStdConv2d`", "scaled weight standardization of NFNets",
              "Flax example `StdConv` of ViT and BiT"),
        risks=("A unit with one incoming weight becomes zero. Leave depthwise kernels of size 1 "
               "out.",),
    ),
)  # fmt: skip
BATCH = (
    Technique(
        page="normalization/batch_norm",
        title="Batch norm",
        functions=("normalization.batch_norm", "normalization.batch_norm_inference",
                   "normalization.init_stats", "normalization.moments"),
        also=("PyTorch `nn.BatchNorm1d`, `nn.BatchNorm2d`, `nn.BatchNorm3d`, `nn.SyncBatchNorm`",
              "Keras `BatchNormalization`", "Flax `BatchNorm`", "Haiku `hk.BatchNorm`",
              "Equinox `eqx.nn.BatchNorm`"),
        risks=("`momentum` is the weight of the *past*, as in Flax and Keras: PyTorch's 0.1 is 0.9 "
               "here.",
               "Running variances are biased by default; PyTorch's are not (`ddof=1`).",
               "Inside `shard_map`, name the mesh axis with `axis_name`; under plain `jit` the "
               "statistics of a sharded batch are global.",
               "Elements outside a mask are normalized too: set padding to zero again before a "
               "convolution reads it."),
        work=("BatchNorm",),
    ),
    Technique(
        page="normalization/ghost_batch_norm",
        title="Ghost batch norm",
        functions=("normalization.ghost_batch_norm",),
        also=("Hoffer, Hubara and Soudry 2017", "virtual batch size", "TabNet"),
        risks=("`ghost_batch_size` has to divide the size of the batch on each device.",),
    ),
    Technique(
        page="normalization/batch_renorm",
        title="Batch renorm",
        functions=("normalization.batch_renorm",),
        also=("Keras `BatchNormalization(renorm=True)` of TensorFlow 1", "Ioffe 2017"),
        risks=("Begin with `r_max=1` and `d_max=0`, which is batch norm, and raise both slowly. "
               "Early running statistics are poor.",),
    ),
    Technique(
        page="normalization/fold_batch_norm",
        title="Folding of batch norm",
        functions=("normalization.fold_batch_norm",),
        modules=("FoldedBatchNorm",),
        also=("PyTorch `fuse_conv_bn_eval`, `torch.ao.quantization.fuse_modules`",
              "BN fusion"),
        risks=("Fold for evaluation only: a folded model has no statistics to train on.",
               "A convolution with padding is exact only because the norm comes after it. A norm "
               "before a padded convolution cannot be folded."),
    ),
)  # fmt: skip
EXAMPLE = (
    Technique(
        page="normalization/layer_norm",
        title="Layer norm",
        functions=("normalization.layer_norm",),
        also=("PyTorch `nn.LayerNorm`", "Keras `LayerNormalization`", "Flax `LayerNorm`",
              "Haiku `hk.LayerNorm`", "Equinox `eqx.nn.LayerNorm`"),
        risks=("`eps` is 1e-6, as in Flax; PyTorch has 1e-5 and Keras 1e-3.",),
        work=("LayerNorm",),
    ),
    Technique(
        page="normalization/rms_norm",
        title="RMS norm",
        functions=("normalization.rms_norm",),
        also=("PyTorch `nn.RMSNorm`", "Flax `RMSNorm`", "Haiku `hk.RMSNorm`",
              "Equinox `eqx.nn.RMSNorm`", "T5 layer norm", "Gemma `1 + gamma` (`scale_offset=1`)"),
        risks=("`eps` differs between models: PyTorch's default depends on the dtype, Llama has "
               "1e-5 or 1e-6.",),
        work=("RMSNorm",),
    ),
    Technique(
        page="normalization/group_norm",
        title="Group norm",
        functions=("normalization.group_norm",),
        also=("PyTorch `nn.GroupNorm`", "Keras `GroupNormalization`", "Flax `GroupNorm`",
              "Haiku `hk.GroupNorm`", "Equinox `eqx.nn.GroupNorm`"),
        risks=("The default of 32 groups needs channels that 32 divides.",
               "`eps` is 1e-6, as in Flax; PyTorch has 1e-5."),
        work=("GroupNorm",),
    ),
    Technique(
        page="normalization/instance_norm",
        title="Instance norm",
        functions=("normalization.instance_norm",),
        also=("PyTorch `nn.InstanceNorm1d`, `nn.InstanceNorm2d`, `nn.InstanceNorm3d`",
              "Flax `InstanceNorm`", "Haiku `hk.InstanceNorm`"),
        risks=("It removes the contrast of each image, which often tells classes apart.",
               "With one position for each channel, the result is zero."),
    ),
    Technique(
        page="normalization/adaptive_instance_norm",
        title="Adaptive instance norm",
        functions=("normalization.adaptive_instance_norm",),
        also=("AdaIN", "Huang and Belongie 2017", "StyleGAN"),
        risks=("It takes a standard deviation, not a variance.",),
    ),
    Technique(
        page="normalization/filter_response_norm",
        title="Filter response norm",
        functions=("normalization.filter_response_norm",),
        also=("FRN with TLU", "TensorFlow Addons `FilterResponseNormalization`",
              "timm `FilterResponseNormTlu2d`"),
        risks=("It comes with its own activation, the learned threshold: do not add a ReLU.",),
    ),
    Technique(
        page="normalization/l2_normalize",
        title="L2 normalization",
        functions=("normalization.l2_normalize",),
        also=("PyTorch `F.normalize`", "Keras `UnitNormalization`",
              "`tf.math.l2_normalize`", "cosine similarity"),
        risks=("There is no small constant: a vector of any length but 0 gets length 1.",),
    ),
)  # fmt: skip
PLACES = (
    Place("reparametrization", "Weights in place of parameters",
          "Functions that compute a layer's weights from its parameters.", REPARAM),
    Place("batch_norms", "Activations with statistics",
          "Norms over the batch, which keep running statistics for evaluation.", BATCH),
    Place("example_norms", "Activations within an example",
          "Norms of each example by itself, the same in training and evaluation.", EXAMPLE),
)  # fmt: skip
