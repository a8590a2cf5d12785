"""The address of each technique in code, a call of it, and the range of its initial strength."""

from dataclasses import dataclass

from jaxreg.advice import works


@dataclass(frozen=True, kw_only=True)
class Start:
    """Address of a technique in code, a call of it, and the range of its initial strength.

    Attributes:
      address: Address of the code, in jaxreg or in Optax.
      call: Expression that calls it, with ``{0}`` in place of the strength. The names in it, such
        as ``key``, ``x`` or ``train``, are values of a training step; ``nn`` is ``flax.linen``.
      argument: Argument that holds the strength; empty if the strength is a factor of the result,
        or if there is none to choose.
      low: Smallest value to start with.
      high: Largest value to start with; 0 if there is no strength to choose.
      note: A remark on the use.
      source: Published work that the range or the note comes from.
    """

    address: str
    call: str = ""
    argument: str = ""
    low: float = 0.0
    high: float = 0.0
    note: str = ""
    source: str = ""

    @property
    def strength(self) -> str:
        """The range as text, such as ``rate 0.1 to 0.5``; empty if there is none."""
        if not self.high:
            return ""
        ends = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{self.argument or 'factor'} {ends}"


STARTS = {
    "batch_norm": Start(address="jaxreg.linen.BatchNorm",
        call="jaxreg.linen.BatchNorm(use_running_average=not train, momentum={0})",
        argument="momentum", low=0.9, high=0.99,
        note="before the nonlinearity; dropout only after the last batch norm",
        source=f"defaults of torch (0.9) and Flax (0.99); for dropout {works.SHIFT}"),
    "layer_norm": Start(address="jaxreg.linen.LayerNorm", call="jaxreg.linen.LayerNorm()",
        note="before each block", source=works.PRE_NORM),
    "group_norm": Start(address="jaxreg.linen.GroupNorm",
        call="jaxreg.linen.GroupNorm(num_groups={0})", argument="num_groups", low=16, high=32,
        note="at least 16 channels in each group; use fewer groups if needed",
        source=works.GROUP_NORM),
    "instance_norm": Start(address="jaxreg.linen.InstanceNorm",
        call="jaxreg.linen.InstanceNorm()", source=works.INSTANCE_NORM),
    "weight_norm": Start(address="jaxreg.linen.WeightNorm",
        call="jaxreg.linen.WeightNorm(nn.Dense(64))", source=works.WEIGHT_NORM),
    "augment_images": Start(address="jaxreg.augment.random_crop",
        call="jaxreg.augment.random_crop(key, images, size=(28, 28))",
        note="crops and flips that keep the label; then color",
        source=f"section 4.1 of {works.IMAGENET}"),
    "mixup": Start(address="jaxreg.augment.random_mixup",
        call="jaxreg.augment.random_mixup(key, x, labels, alpha={0}, num_classes=10)",
        argument="alpha", low=0.1, high=0.4,
        note="train on the mixed labels with jaxreg.targets.smoothed_cross_entropy, which may "
        "smooth them too, as timm does", source=f"section 3.1 of {works.MIXUP}"),
    "augment_text": Start(address="jaxreg.augment.text.random_deletion",
        call="jaxreg.augment.text.random_deletion(key, tokens, rate={0}, pad_id=0)",
        argument="rate", low=0.05, high=0.1, source=works.EDA),
    "dropout": Start(address="jaxreg.linen.Dropout",
        call="jaxreg.linen.Dropout(rate={0}, deterministic=not train)",
        argument="rate", low=0.2, high=0.5,
        note="on hidden units; 0.1 to 0.2 on inputs, 0.1 to 0.3 after convolutions; the "
        "paper's 0.5 to 0.8 is the probability of keeping a unit",
        source=f"appendix A.4 of {works.DROPOUT}"),
    "attention_dropout": Start(address="jaxreg.dropout.dropout",
        call="jaxreg.dropout.dropout(key, x, rate={0})", argument="rate", low=0.1, high=0.3,
        note="in Flax's attention the argument is dropout_rate",
        source=f"section 5.4 of {works.TRANSFORMER}"),
    "spatial_dropout": Start(address="jaxreg.linen.SpatialDropout",
        call="jaxreg.linen.SpatialDropout(rate={0}, deterministic=not train)",
        argument="rate", low=0.1, high=0.3, source=works.OURS),
    "locked_dropout": Start(address="jaxreg.linen.LockedDropoutCell",
        call="jaxreg.linen.LockedDropoutCell(nn.LSTMCell(64), input_rate={0}, state_rate={0}, "
        "deterministic=not train)",
        argument="state_rate", low=0.1, high=0.5, note="and the same input_rate",
        source=works.LOCKED),
    "stochastic_depth": Start(address="jaxreg.linen.StochasticDepth",
        call="jaxreg.linen.StochasticDepth(block, rate={0}, deterministic=not train)",
        argument="rate", low=0.1, high=0.5,
        note="the rate of the last block; it grows linearly from the first: "
        "jaxreg.dropout.drop_path_rates",
        source=f"{works.DEPTH} (0.5); {works.DEIT} (0.1)"),
    "clipping": Start(address="optax.clip_by_global_norm",
        call="optax.clip_by_global_norm(max_norm={0})", argument="max_norm", low=1, high=10,
        source=f"{works.ZAREMBA} (5 and 10); {works.GPT3} (1)"),
    "decay": Start(address="jaxreg.transforms.decoupled_decay",
        call="jaxreg.transforms.decoupled_decay(weight={0}, learning_rate=learning_rate)",
        argument="weight", low=0.01, high=0.1,
        note="after the optimizer; not on biases and scales, which it leaves out by default. "
        "Search further up if data is small: the study of 300 digits, with Adam, chooses 1",
        source=f"default of torch (0.01); {works.GPT3} (0.1)"),
    "l1": Start(address="jaxreg.transforms.proximal",
        call="optax.masked(jaxreg.transforms.proximal(jaxreg.proximal.l1, weight={0}, "
        "learning_rate=learning_rate), jaxreg.masks.kernels)",
        argument="weight", low=1e-4, high=1e-2, note="after the optimizer", source=works.OURS),
    "elastic_net": Start(address="jaxreg.transforms.proximal",
        call="optax.masked(jaxreg.transforms.proximal(functools.partial("
        "jaxreg.proximal.elastic_net, l1=0.5, l2=0.5), weight={0}, learning_rate=learning_rate), "
        "jaxreg.masks.kernels)",
        argument="weight", low=1e-4, high=1e-2, note="after the optimizer", source=works.OURS),
    "early_stopping": Start(address="jaxreg.training.early_stopping.update",
        call="jaxreg.training.early_stopping.update(state, validation_loss, params, patience={0})",
        argument="patience", low=5, high=10, source=works.OURS),
    "label_smoothing": Start(address="jaxreg.targets.smoothed_cross_entropy",
        call="jaxreg.targets.smoothed_cross_entropy(logits, labels, alpha={0})",
        argument="alpha", low=0.05, high=0.2,
        note="not in a teacher; mixup smooths the labels already",
        source=f"section 7 of {works.SMOOTHING} (0.1)"),
    "spectral_norm": Start(address="jaxreg.linen.SpectralNorm",
        call="jaxreg.linen.SpectralNorm(nn.Dense(64), n_steps={0}, update_stats=train)",
        argument="n_steps", low=1, high=1,
        note="around every layer of the discriminator", source=works.SPECTRAL_NORM),
    "gradient_penalty": Start(address="jaxreg.smoothness.gradient_penalty",
        call="{0} * jaxreg.smoothness.gradient_penalty(critic, real, fake, key=key)",
        low=10, high=10, note="no batch norm in the critic", source=works.WGAN_GP),
    "beta_vae": Start(address="jaxreg.information.beta_vae_loss",
        call="jaxreg.information.beta_vae_loss(distortion, mean, log_var, beta={0})",
        argument="beta", low=1, high=10, source=works.HIGGINS),
    "max_norm": Start(address="jaxreg.projections.max_norm",
        call="optax.masked(jaxreg.transforms.project(functools.partial("
        "jaxreg.projections.max_norm, radius={0})), jaxreg.masks.kernels)",
        argument="radius", low=3, high=4, note="last in the chain of the optimizer",
        source=f"appendix A.3 of {works.DROPOUT}"),
    "jacobian": Start(address="jaxreg.smoothness.jacobian",
        call="{0} * jaxreg.smoothness.jacobian(model, x, key=key)", low=1e-3, high=1e-1,
        source=f"{works.JACOBIAN} (0.01, of half of ours)"),
    "input_noise": Start(address="jaxreg.noise.gaussian_noise",
        call="jaxreg.noise.gaussian_noise(key, x, stddev={0})",
        argument="stddev", low=0.05, high=0.2, note="for inputs with standard deviation 1",
        source=works.OURS),
    "graph_laplacian": Start(address="jaxreg.smoothness.graph_laplacian",
        call="{0} * jaxreg.smoothness.graph_laplacian(predictions, affinity) / len(x) ** 2",
        low=1e-2, high=1.0, note="a factor of the mean over the pairs of a batch",
        source=works.OURS),
}  # fmt: skip
