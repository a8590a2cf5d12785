"""The known conflicts and practices with a price: the reason, the source and the fix."""

from typing import NamedTuple


class Known(NamedTuple):
    """A known conflict between regularizers, or a practice that has a price."""

    what: str
    why: str
    source: str
    fix: str


SHIFT = Known(
    "dropout before batch norm",
    "the statistics that the norm averages in training include the extra variance from dropout, "
    "which is absent at evaluation",
    "Li et al. 2019, https://arxiv.org/abs/1801.05134",
    "drop after the last batch norm, or recalibrate with jaxreg.training.statistics",
)
SKIPPED = Known(
    "stochastic depth before batch norm",
    "the sum behind a branch that is skipped at random has another variance in training than at "
    "evaluation; it is common practice, since the branch that is kept carries most of it",
    "Huang et al. 2016, https://arxiv.org/abs/1603.09382, section 3; Li et al. 2019, "
    "https://arxiv.org/abs/1801.05134",
    "keep it, with rates that grow from zero (jaxreg.dropout.drop_path_rates); at high rates "
    "recalibrate with jaxreg.training.statistics",
)
COUPLED = Known(
    "L2 through the scaling of the optimizer",
    "an adaptive optimizer divides the gradient of a penalty by the size of past gradients: "
    "weights with large gradients hardly decay, and the strength loses its meaning",
    "Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101",
    "jaxreg.transforms.decoupled_decay after the optimizer; for L1 jaxreg.transforms.proximal",
)
SCALES = Known(
    "decay on biases or scales of norms",
    "they hardly contribute to overfitting, and a scale that decays shrinks all activations",
    "Goodfellow, Bengio and Courville 2016, section 7.1; He et al. 2019, "
    "https://arxiv.org/abs/1812.01187, section 3.1",
    "mask=jaxreg.masks.kernels, the default of jaxreg.transforms.decoupled_decay",
)
INVARIANT = Known(
    "decay on weights before a norm",
    "a norm undoes their scale: decay does not shrink the function, it raises the effective "
    "learning rate",
    "van Laarhoven 2017, https://arxiv.org/abs/1706.05350; Zhang et al. 2019, "
    "https://arxiv.org/abs/1810.12281",
    "keep it if that is intended, and tune it together with the learning rate; otherwise mask them",
)
SCALED_AFTER = Known(
    "something scales the update after a proximal step or a projection",
    "only a part of the step is taken: zeros are not exact, and weights violate the constraint",
    "Parikh and Boyd 2014, section 4.2, https://web.stanford.edu/~boyd/papers/prox_algs.html",
    "move jaxreg.transforms.proximal and project after every scale, and pass the learning rate to "
    "proximal",
)
NOT_LAST = Known(
    "something moves the weights after a proximal step or a projection",
    "zeros are not exact, and weights leave the constraint",
    "Parikh and Boyd 2014, section 4.2, https://web.stanford.edu/~boyd/papers/prox_algs.html",
    "chain the decay first, then jaxreg.transforms.proximal, then jaxreg.transforms.project",
)
MINI_STEPS = Known(
    "a regularizer outside gradient accumulation",
    "it acts in every mini-step: a decay is stronger by their number, an average forgets sooner",
    "the order of optax.chain and optax.MultiSteps, "
    "https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html",
    "put the whole chain inside optax.MultiSteps",
)
SOFT_TARGETS = Known(
    "label smoothing of targets that are soft already",
    "mixed or distilled targets hold the confidence already; smoothing them again loses it",
    "Müller, Kornblith and Hinton 2019, https://arxiv.org/abs/1906.02629 (distillation); "
    "Carratino et al. 2022, https://arxiv.org/abs/2006.06049 (mixup smooths labels by itself)",
    "keep it if both were tuned together, as in timm's recipes; otherwise alpha=0 in "
    "jaxreg.targets.smoothed_cross_entropy",
)
STACKED = Known(
    "a stack of layers taken for one kernel",
    "its first axis probably holds the layers, and norms, singular values or means run over it: "
    "all layers share one bound or one threshold",
    "the parameters of a scan, https://flax.readthedocs.io/en/latest/api_reference/flax.linen/"
    "transformations.html",
    'stacked=jaxreg.masks.match("name"), as docs/stacked.md shows, or jax.vmap of the function',
)
UNUSED_ROWS = Known(
    "a proximal step on rows without gradients",
    "the metric of an adaptive optimizer is almost zero without gradients: rows of a table become "
    "zero before their tokens occur",
    "Yun, Lozano and Yang 2020, https://arxiv.org/abs/2007.07484, equation 3",
    "mask=jaxreg.masks.all_of(masks.kernels, masks.negate(masks.match('embedding')))",
)
UNCALLED = Known(
    "the model was not called",
    "without a batch nobody can tell what acts inside its calls, what stands before a norm, and "
    "which functions of jaxreg it calls",
    "help(jaxreg.explain.explain)",
    "pass a batch: explain(model, optimizer, params, x), with None for the params of an NNX module",
)
UNTRIED = Known(
    "the optimizer was not given",
    "decay, clipping and averages are part of it, and so are most conflicts",
    "help(jaxreg.explain.explain)",
    "pass it: explain(model, optimizer)",
)
IDLE = Known(
    "modules that are off",
    "they drew no random numbers when the model was called, as in evaluation",
    "https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/stochastic.html",
    "model.train() for an NNX module; for a Linen module pass `call` with its argument for "
    "training",
)
