"""Techniques in the update, the gradient, the path and the selection of parameters."""

from docs.site.rows.row import THREADS, Place, Technique


def _prox(prox: str, weight: str = "1e-3") -> str:
    return (
        f"step = transforms.proximal({prox}, {weight}, learning_rate=0.1)\n"
        "optimizer = optax.chain(optax.sgd(0.1), optax.masked(step, masks.kernels))"
    )


def _project(projection: str) -> str:
    return (
        f"ball = transforms.project({projection})\n"
        "optimizer = optax.chain(optax.adam(1e-3), optax.masked(ball, masks.kernels))"
    )


def _mask(mask: str) -> str:
    return (
        "decay = transforms.independent_decay(1e-4, mask=None)\n"
        f"optimizer = optax.chain(optax.adam(1e-3), optax.masked(decay, {mask}))"
    )


LAST = (
    "Chain it after everything that scales or moves the weights. Otherwise zeros are not exact, or "
    "weights leave the set."
)
UNITS = "A unit's incoming weights are all axes but the last; pass `axis` for other layouts."
SVD = "A singular value decomposition in every step takes long for large kernels."
PROXIMAL = (
    Technique(
        page="proximal/l1", title="Soft thresholding", functions=("proximal.l1",),
        also=("proximal operator of L1", "ISTA", "lasso, scikit-learn `Lasso`",
              "jaxopt `prox_lasso`"),
        risks=(LAST, "After Adam, use [its metric](../transforms/preconditioned_proximal.md): the "
               "plain step solves another problem than the loss with the penalty."),
        chain=_prox("proximal.l1"),
        work=("adam, decay, L1: ", "adam, decay, L1, max-norm: "),
    ),
    Technique(
        page="proximal/l2", title="Proximal step of L2", functions=("proximal.l2",),
        also=("implicit weight decay", "shrinkage", "jaxopt `prox_ridge`"),
        risks=(LAST,), chain=_prox("proximal.l2"),
    ),
    Technique(
        page="proximal/elastic_net", title="Proximal step of the elastic net",
        functions=("proximal.elastic_net",),
        also=("scikit-learn `ElasticNet`", "jaxopt `prox_elastic_net`"),
        risks=("scikit-learn's loss is *half* the mean of squares; with the mean itself, double "
               "the weights.", LAST),
        chain=_prox("partial(proximal.elastic_net, l1=0.5, l2=0.5)"),
    ),
    Technique(
        page="proximal/group_lasso", title="Block soft thresholding",
        functions=("proximal.group_lasso",),
        also=("proximal operator of the group lasso", "structured pruning of units",
              "jaxopt `prox_group_lasso`"),
        risks=(UNITS, LAST), chain=_prox("proximal.group_lasso"),
    ),
    Technique(
        page="proximal/sparse_group_lasso", title="Proximal step of the sparse group lasso",
        functions=("proximal.sparse_group_lasso",),
        also=("Simon et al. 2013",),
        risks=(UNITS, LAST),
        chain=_prox("partial(proximal.sparse_group_lasso, l1_share=0.5)"),
    ),
    Technique(
        page="proximal/nuclear", title="Singular value thresholding",
        functions=("proximal.nuclear",),
        also=("proximal operator of the nuclear norm", "SVT", "low-rank layers"),
        risks=(SVD, THREADS, LAST), chain=_prox("proximal.nuclear"),
    ),
    Technique(
        page="proximal/l0", title="Hard thresholding", functions=("proximal.l0",),
        also=("iterative hard thresholding", "magnitude pruning"),
        risks=("The penalty is not convex, so the result depends on the start.", LAST),
        chain=_prox("proximal.l0", "1e-5"),
    ),
    Technique(
        page="proximal/box", title="Clipping to a box", functions=("proximal.box",),
        also=("weight clipping, as in WGAN", "bound constraints"),
        risks=(LAST,), chain=_prox("partial(proximal.box, low=-1.0, high=1.0)"),
    ),
)  # fmt: skip
PROJECTIONS = (
    Technique(
        page="projections/max_norm", title="Max-norm constraint",
        functions=("projections.max_norm",),
        also=("Keras `MaxNorm(max_value)`, `max_norm` kernel constraint", "PyTorch `torch.renorm`",
              "max norm regularization", "Srivastava et al. 2014"),
        risks=(UNITS, LAST), chain=_project("partial(projections.max_norm, radius=3.0)"),
        work=("adam, decay, L1, max-norm", "adam, decay, L1, then max-norm"),
    ),
    Technique(
        page="projections/unit_norm", title="Unit norm", functions=("projections.unit_norm",),
        also=("Keras `UnitNorm`", "weights on a sphere"),
        risks=("A unit of zeros stays zero.", UNITS), chain=_project("projections.unit_norm"),
    ),
    Technique(
        page="projections/min_max_norm", title="Min-max norm",
        functions=("projections.min_max_norm",), also=("Keras `MinMaxNorm`",),
        risks=("Keras calls the relaxation `rate`.", UNITS),
        chain=_project("partial(projections.min_max_norm, low=0.5, high=2.0)"),
    ),
    Technique(
        page="projections/l1_ball", title="L1 ball", functions=("projections.l1_ball",),
        also=("`optax.projections.projection_l1_ball`", "Duchi et al. 2008"),
        risks=(UNITS, LAST), chain=_project("partial(projections.l1_ball, radius=3.0)"),
    ),
    Technique(
        page="projections/simplex", title="Probability simplex",
        functions=("projections.simplex",),
        also=("`optax.projections.projection_simplex`", "sparsemax", "weights of a mixture"),
        risks=("`axis` is required: one simplex for each row along it.",),
        chain=_project("partial(projections.simplex, axis=0)"),
    ),
    Technique(
        page="projections/spectral_ball", title="Spectral ball",
        functions=("projections.spectral_ball",),
        also=("clipping of singular values", "Lipschitz constraint"),
        risks=(SVD, THREADS, LAST),
        chain=_project("partial(projections.spectral_ball, radius=1.0)"),
    ),
    Technique(
        page="projections/non_negative", title="Nonnegative weights",
        functions=("projections.non_negative",),
        also=("Keras `NonNeg`", "`optax.keep_params_nonnegative`",
              "`optax.projections.projection_non_negative`"),
        risks=(LAST,), chain=_project("projections.non_negative"),
    ),
)  # fmt: skip
DECAY = (
    Technique(
        page="transforms/decoupled_decay", title="Decoupled weight decay",
        functions=("transforms.decoupled_decay",),
        also=("AdamW: PyTorch `AdamW(weight_decay=)`, `optax.adamw`, Keras `weight_decay`, timm",
              "weight decay with a mask that leaves out biases and norms"),
        risks=("Biases and the scales of norms do not decay by default. `mask=None` decays "
               "everything, as `optax.adamw` does.",
               "\"Weight decay 0.1\" has many meanings; see [which decay is it]"
               "(../../guides/decay.md)."),
        chain="optimizer = optax.chain(\n    optax.adam(1e-3),\n"
        "    transforms.decoupled_decay(0.1, learning_rate=1e-3),\n)",
        work=("adam, decay, L1: ",),
    ),
    Technique(
        page="transforms/independent_decay", title="Independent weight decay",
        functions=("transforms.independent_decay",),
        also=("big_vision `wd`", "MosaicML `DecoupledAdamW`", "`optax.adafactor` "
              "`weight_decay_rate`", "fully decoupled weight decay"),
        risks=("The share does not fall with the learning rate. At the end of a schedule, decay is "
               "as strong as at its start.",),
        chain="optimizer = optax.chain(optax.adam(1e-3), transforms.independent_decay(1e-4))",
    ),
    Technique(
        page="transforms/cautious_decay", title="Cautious weight decay",
        functions=("transforms.cautious_decay",),
        also=("Chen et al. 2025", "sign-selective weight decay"),
        risks=("Chain it after the optimizer, because it compares signs with the update so far.",),
        chain="optimizer = optax.chain(\n    optax.adam(1e-3),\n"
        "    transforms.cautious_decay(0.1, learning_rate=1e-3),\n)",
    ),
    Technique(
        page="transforms/add_penalty_gradient", title="Gradient of a penalty",
        functions=("transforms.add_penalty_gradient",),
        also=("PyTorch `weight_decay` of `SGD` and `Adam`", "`optax.add_decayed_weights` before "
              "the optimizer", "coupled L2"),
        risks=("Before Adam it is not decay: Adam divides the gradient of the penalty by the size "
               "of past gradients. Use [decoupled decay](decoupled_decay.md).",),
        chain="optimizer = optax.chain(\n    transforms.add_penalty_gradient(penalties.l2, 1e-4),\n"
        "    optax.sgd(0.1, momentum=0.9),\n)",
    ),
    Technique(
        page="transforms/proximal", title="Proximal steps in a chain",
        functions=("transforms.proximal",),
        also=("proximal gradient descent", "ISTA", "FOBOS"),
        risks=(LAST, "Pass the learning rate of the optimizer, also if it is a schedule."),
        chain=_prox("proximal.l1"),
        work=("adam, decay, L1: ",),
    ),
    Technique(
        page="transforms/preconditioned_proximal",
        title="Proximal steps in an optimizer's metric",
        functions=("transforms.preconditioned_proximal", "transforms.adam_metric",
                   "transforms.rmsprop_metric", "transforms.adagrad_metric"),
        also=("ProxGen", "sparse training with Adam", "Yun, Lozano and Yang 2020"),
        risks=("Rows of an embedding without gradients in a batch have almost no metric, and "
               "become zero in one step. Mask embeddings.",
               "Pass the betas and epsilon of the optimizer to the metric."),
        chain="optimizer = transforms.preconditioned_proximal(\n    optax.adam(1e-3), proximal.l1, "
        "1e-3, 1e-3,\n    metric=transforms.adam_metric(), mask=masks.kernels,\n)",
    ),
    Technique(
        page="transforms/project", title="Projections in a chain",
        functions=("transforms.project",),
        also=("projected gradient descent", "Keras `kernel_constraint`"),
        risks=(LAST,), chain=_project("partial(projections.max_norm, radius=3.0)"),
    ),
    Technique(
        page="transforms/compensate_rounding", title="Compensated rounding",
        functions=("transforms.compensate_rounding", "transforms.own_iterates"),
        also=("Kahan summation of parameters", "bfloat16 training", "master weights"),
        risks=("Put the whole chain inside. Nothing that changes updates may follow it.",),
        chain="optimizer = transforms.compensate_rounding(\n    optax.chain(optax.adam(1e-3), "
        "transforms.independent_decay(1e-4))\n)",
    ),
)  # fmt: skip
GRADIENT = (
    Technique(
        page="transforms/sam", title="Sharpness-aware minimization (SAM)",
        functions=("transforms.sam", "transforms.sam_perturbation"),
        also=("`optax.contrib.sam`", "Foret et al. 2021"),
        risks=("Each step computes two gradients.",
               "Put everything that changes gradients or moves parameters inside, and pass "
               "`grad_fn` to the update."),
        chain="optimizer = transforms.sam(optax.sgd(0.1), radius=0.05)",
    ),
    Technique(
        page="transforms/asam", title="Adaptive SAM (ASAM)",
        functions=("transforms.asam", "transforms.asam_perturbation"),
        also=("Kwon et al. 2021",),
        risks=("Its radius is in relative units: about ten times SAM's.",
               "Each step computes two gradients."),
        chain="optimizer = transforms.asam(optax.sgd(0.1), radius=0.5)",
    ),
    Technique(
        page="transforms/centralize", title="Gradient centralization",
        functions=("transforms.centralize",),
        also=("`optax.centralize`", "Yong et al. 2020"),
        risks=("The mean is over all axes but the last. Optax's is over all but the first, which "
               "is another mean for Flax's kernels.",),
        chain="optimizer = optax.chain(transforms.centralize(), optax.sgd(0.1))",
    ),
    Technique(
        page="transforms/layerwise_scale", title="Layer-wise learning rates",
        functions=("transforms.layerwise_scale",),
        also=("timm `layer_decay`, `param_groups_layer_decay`", "layer-wise learning rate decay "
              "(LLRD)", "discriminative fine-tuning", "BEiT, ELECTRA"),
        risks=("Write out the order of the layers, from the input to the output.",
               "A decay before it is scaled too, and one after it is not."),
        chain='depth = partial(masks.depth, order=("dense", "head"))\n'
        "optimizer = optax.chain(optax.adam(1e-3), transforms.layerwise_scale(0.75, depth))",
    ),
)  # fmt: skip
PATH = (
    Technique(
        page="transforms/exponential_average",
        title="Exponential moving average of parameters (EMA)",
        functions=("transforms.exponential_average", "transforms.read_average",
                   "transforms.AverageState"),
        also=("timm `ModelEmaV2`, `ModelEmaV3`", "PyTorch `swa_utils.get_ema_multi_avg_fn`",
              "`optax.ema` of updates (not of parameters)", "Keras `use_ema=True`",
              "Polyak averaging"),
        risks=("Put it last in the chain: it averages the parameters that the updates before it "
               "lead to.",
               "Running statistics of batch norm are not parameters. Recalibrate them for the "
               "average, or keep them with the newest weights."),
        chain="optimizer = optax.chain(optax.adam(1e-3), transforms.exponential_average(0.999))",
    ),
    Technique(
        page="transforms/stochastic_weight_average", title="Stochastic weight averaging (SWA)",
        functions=("transforms.stochastic_weight_average",),
        also=("PyTorch `swa_utils.AveragedModel`", "Lightning `StochasticWeightAveraging`",
              "Izmailov et al. 2018"),
        risks=("Recalibrate the statistics of batch norm for the average "
               "([recalibrate](../training/recalibrate.md)).",
               "`start` and `period` count steps, not epochs."),
        chain="optimizer = optax.chain(\n    optax.sgd(0.1),\n"
        "    transforms.stochastic_weight_average(start=1000, period=100),\n)",
    ),
    Technique(
        page="transforms/lookahead", title="Lookahead",
        functions=("transforms.lookahead", "transforms.LookaheadState"),
        also=("`optax.lookahead`", "TensorFlow Addons `Lookahead`", "timm `Lookahead`",
              "Zhang et al. 2019"),
        risks=("The parameters are the fast weights. Evaluate the slow ones, from "
               "`read_average`.",),
        chain="optimizer = transforms.lookahead(optax.adam(1e-3), period=6, step_size=0.5)",
    ),
)  # fmt: skip
MASKS = (
    Technique(
        page="masks/kernels", title="Mask of kernels, for weight decay",
        functions=("masks.kernels",),
        also=("weight decay mask without biases and norms", "timm `param_groups_weight_decay`",
              "Keras `exclude_from_weight_decay`"),
        risks=("Embeddings count as kernels. Leave them out with "
               "`masks.all_of(masks.kernels, masks.negate(masks.match(\"embedding\")))`.",
               "A stack of layers has one axis more; name it with `stacked`."),
        chain=_mask("masks.kernels"),
    ),
    Technique(
        page="masks/no_bias_or_norm", title="Mask without biases and norms, for weight decay",
        functions=("masks.no_bias_or_norm",),
        also=("weight decay mask for biases and norms",),
        risks=("It goes by names. A vector with a name of your own is selected, and decays.",
               "Class tokens and position embeddings are selected too. For what timm's "
               "`no_weight_decay` names, see [Coming from timm](../../coming_from/timm.md)."),
        chain=_mask("masks.no_bias_or_norm"),
    ),
    Technique(
        page="masks/match", title="Masks by name",
        functions=("masks.match", "masks.all_of", "masks.any_of", "masks.negate"),
        also=("Keras `exclude_from_weight_decay`", "parameter groups", "layer freezing",
              "`optax.masked`, `optax.partition`"),
        risks=("An expression has to match whole names along the path: `Dense_1` is not "
               "`Dense_10`.",),
        chain=_mask('masks.negate(masks.match("bias"))'),
    ),
    Technique(
        page="masks/multipliers", title="Multipliers by name", functions=("masks.multipliers",),
        also=("big_vision `wd_mults`, `lr_mults`", "different weight decay for each layer"),
        risks=("The first expression that matches the whole path counts; other parameters get "
               "`otherwise`, which is 0.",),
        chain="optimizer = optax.chain(\n    optax.adam(1e-3),\n"
        "    transforms.decoupled_decay(\n        0.1, learning_rate=1e-3, mask=None,\n"
        '        multipliers=masks.multipliers([(".*/kernel", 1.0)]),\n    ),\n)',
    ),
    Technique(
        page="masks/depth", title="Depth of parameters", functions=("masks.depth",),
        also=("timm `group_matcher`, `layer_decay`",),
        risks=("A parameter that no expression matches raises an error, which names it.",),
        chain='depth = partial(masks.depth, order=("dense", "head"))\n'
        "optimizer = optax.chain(optax.adam(1e-3), transforms.layerwise_scale(0.75, depth))",
    ),
)  # fmt: skip
PLACES = (
    Place("proximal", "The update: proximal operators",
          "Functions of weights that solve a small problem: exact zeros, low rank, bounds.",
          PROXIMAL),
    Place("projections", "The update: projections",
          "Functions that return the nearest weights in a set.", PROJECTIONS),
    Place("decay", "The update: decay and lifts to Optax",
          "Transformations of Optax that move the weights.", DECAY),
    Place("gradient", "The gradient", "Transformations of Optax that change gradients.", GRADIENT),
    Place("path", "The path of the parameters",
          "Transformations of Optax that average parameters over time.", PATH),
    Place("masks", "Which parameters",
          "Functions that select parameters, for Optax and for penalties.", MASKS),
)  # fmt: skip
