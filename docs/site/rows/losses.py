"""Techniques in the loss."""

from docs.site.rows.row import THREADS, Place, Technique


def _chain(penalty: str, weight: str = "1e-4") -> str:
    return (
        f"penalty = transforms.add_penalty_gradient({penalty}, {weight})\n"
        "optimizer = optax.chain(optax.masked(penalty, masks.kernels), optax.sgd(0.1))"
    )


ADAPTIVE = (
    "Before Adam, its gradient is divided by the size of past gradients, and the strength loses "
    "its meaning. Use {} after the optimizer instead."
)
WEIGHTS = (
    Technique(
        page="penalties/l1",
        title="L1 penalty",
        functions=("penalties.l1",),
        also=("lasso", "Keras `regularizers.L1`", "sparsity penalty"),
        risks=("Gradient descent does not reach exact zeros; "
               "[the proximal step](../proximal/l1.md) does.",
               ADAPTIVE.format("[the proximal step in Adam's metric]"
                               "(../transforms/preconditioned_proximal.md)")),
        chain=_chain("penalties.l1"),
    ),
    Technique(
        page="penalties/l2",
        title="L2 penalty",
        functions=("penalties.l2",),
        also=("ridge", "Tikhonov regularization", "PyTorch `weight_decay` of SGD and Adam",
              "Keras `regularizers.L2`, with twice its weight"),
        risks=("It has a factor of one half, and Keras has none: Keras's weight 0.01 is 0.02 here.",
               ADAPTIVE.format("[decoupled decay](../transforms/decoupled_decay.md)")),
        chain=_chain("penalties.l2"),
    ),
    Technique(
        page="penalties/elastic_net",
        title="Elastic net penalty",
        functions=("penalties.elastic_net",),
        also=("Keras `regularizers.L1L2`", "scikit-learn `ElasticNet(alpha, l1_ratio)` with "
              "`l1=alpha * l1_ratio` and `l2=alpha * (1 - l1_ratio)`", "Zou and Hastie 2005"),
        risks=("Gradient descent does not reach exact zeros; "
               "[the proximal step](../proximal/elastic_net.md) does.",),
        chain=_chain("partial(penalties.elastic_net, l1=0.5, l2=0.5)"),
    ),
    Technique(
        page="penalties/group_lasso",
        title="Group lasso penalty",
        functions=("penalties.group_lasso",),
        also=("structured sparsity", "filter pruning", "L2,1 norm", "Yuan and Lin 2006"),
        risks=("By default a group is everything that leads into one unit: all axes but the last. "
               "Pass `axis=-1` for the weights of one input.",
               "Gradient descent does not reach exact zeros; "
               "[the proximal step](../proximal/group_lasso.md) does."),
        chain=_chain("penalties.group_lasso"),
    ),
    Technique(
        page="penalties/distance",
        title="Distance to a starting point",
        functions=("penalties.distance",),
        also=("L2-SP", "fine-tuning toward pretrained weights", "FedProx", "Li et al. 2018"),
        risks=("Leave new layers out with a mask: their start has no meaning.",),
    ),
    Technique(
        page="penalties/orthogonality",
        title="Orthogonality penalty",
        functions=("penalties.orthogonality",),
        also=("soft orthogonality", "PyTorch `parametrizations.orthogonal` (exact, other method)",
              "Keras `OrthogonalRegularizer`", "BigGAN"),
        risks=("The penalty grows with the fourth power of the weights: begin with a small weight.",
               "It pulls columns toward length 1, which decay pulls toward 0."),
        chain=_chain("penalties.orthogonality"),
    ),
    Technique(
        page="penalties/spectral",
        title="Spectral penalty",
        functions=("penalties.spectral",),
        also=("spectral norm regularization", "Lipschitz penalty", "Yoshida and Miyato 2017"),
        risks=("An eigenvalue decomposition in every step takes long for large kernels; "
               "[spectral norm](../reparam/spectral_norm.md) uses a few products.", THREADS),
        chain=_chain("penalties.spectral"),
    ),
    Technique(
        page="penalties/nuclear",
        title="Nuclear norm penalty",
        functions=("penalties.nuclear",),
        also=("trace norm", "low-rank regularization", "Schatten 1-norm"),
        risks=("A singular value decomposition in every step takes long for large kernels.",
               THREADS),
        chain=_chain("penalties.nuclear"),
    ),
    Technique(
        page="penalties/total_variation",
        title="Total variation",
        functions=("penalties.total_variation", "penalties.isotropic_total_variation"),
        also=("`tf.image.total_variation`", "fused lasso", "TV denoising, "
              "scikit-image `denoise_tv_chambolle`"),
        risks=("It is a sum, so its size grows with the image; divide by the number of pixels to "
               "compare images.",),
    ),
)  # fmt: skip
ACTIVATIONS = (
    Technique(
        page="penalties/activity",
        title="Activity penalty",
        functions=("penalties.activity", "penalties.per_example"),
        modules=("Penalty", "pop_penalties", "with_penalties"),
        also=("Keras `activity_regularizer`, `ActivityRegularization`", "sparse activations",
              "sparse autoencoder"),
        risks=("A penalty such as L1 sums over the batch. Wrap it in `per_example` for a mean over "
               "examples, which Keras takes silently.",
               "In Linen, take the penalty out of the variables with `pop_penalties`, or it is "
               "carried to the next step."),
    ),
    Technique(
        page="penalties/decorrelation",
        title="Decorrelation of features",
        functions=("penalties.decorrelation",),
        also=("DeCov", "Cogswell et al. 2016", "covariance term of VICReg"),
        risks=("Covariances of a batch smaller than the number of features are noisy.",),
    ),
)  # fmt: skip
PREDICTIONS = (
    Technique(
        page="targets/smoothed_cross_entropy",
        title="Label smoothing",
        functions=("targets.smoothed_cross_entropy", "targets.smooth_labels",
                   "targets.smooth_labels_excluding", "targets.weighted_mean",
                   "targets.sum_and_count"),
        also=("PyTorch `CrossEntropyLoss(label_smoothing=)`",
              "Keras `CategoricalCrossentropy(label_smoothing=)`", "`optax.smooth_labels`",
              "timm `LabelSmoothingCrossEntropy`, `SoftTargetCrossEntropy`",
              "fairseq `label_smoothed_cross_entropy`", "label smoothing with mixup"),
        risks=("fairseq's `eps` goes to the other classes only: pass "
               "`alpha = eps * K / (K - 1)`.",
               "Mixup smooths labels by itself. Smoothing on top of it is what timm does, and "
               "loses confidence twice.",
               "A smoothed teacher is a worse teacher for distillation."),
    ),
    Technique(
        page="targets/mixed_cross_entropy",
        title="Cross entropy of mixed labels",
        functions=("targets.mixed_cross_entropy",),
        also=("`lam * ce(a) + (1 - lam) * ce(b)` of mixup code",
              "timm `SoftTargetCrossEntropy`", "label smoothing with mixup and CutMix"),
        risks=("`share` belongs to `labels_a`. CutMix has to pass the share of the area that was "
               "really pasted, which `augment.cutmix` returns.",),
    ),
    Technique(
        page="targets/flood",
        title="Flooding",
        functions=("targets.flood",),
        also=("flood level", "Ishida et al. 2020"),
        risks=("The level belongs to the mean loss of the whole batch. With gradient accumulation "
               "or several devices, average the loss first.",),
    ),
    Technique(
        page="information/confidence_penalty",
        title="Confidence penalty",
        functions=("information.confidence_penalty",),
        also=("entropy regularization", "Pereyra et al. 2017", "entropy bonus"),
        risks=("It is the *negative* entropy: add it with a positive weight.",),
    ),
    Technique(
        page="information/symmetric_kl",
        title="Symmetric KL divergence",
        functions=("information.symmetric_kl",),
        also=("R-Drop", "consistency of two passes with dropout", "Liang et al. 2021"),
        risks=("The two passes need different keys; with the same key the penalty is zero.",),
    ),
    Technique(
        page="information/jensen_shannon",
        title="Jensen-Shannon divergence",
        functions=("information.jensen_shannon",),
        also=("consistency loss of AugMix",),
        risks=("Give it logits, not probabilities. The first axis holds the views.",),
    ),
    Technique(
        page="information/categorical_kl",
        title="KL divergence of class probabilities",
        functions=("information.categorical_kl",),
        also=("PyTorch `F.kl_div(log_q, p)`", "knowledge distillation",
              "Keras `KLDivergence`", "`optax.losses.kl_divergence`"),
        risks=("The true distribution comes first here, and second in PyTorch.",),
    ),
    Technique(
        page="information/gaussian_kl",
        title="KL divergence of normal distributions",
        functions=("information.gaussian_kl", "information.sample_gaussian"),
        also=("KL term of a variational autoencoder (VAE)", "reparametrization trick",
              "PyTorch `Normal.rsample`, `kl_divergence(Normal, Normal)`"),
        risks=("It takes the logarithm of the variance, not of the standard deviation.",
               "It sums over the latent axis and keeps the batch: take the mean over examples."),
    ),
    Technique(
        page="information/free_bits",
        title="Free bits",
        functions=("information.free_bits",),
        also=("Kingma et al. 2016", "KL threshold, against posterior collapse"),
        risks=("The level is in nats for each group, not for the whole latent vector.",),
    ),
    Technique(
        page="information/beta_vae_loss",
        title="Beta-VAE loss",
        functions=("information.beta_vae_loss",),
        also=("evidence lower bound (ELBO) with `beta=1`", "Higgins et al. 2017"),
        risks=("The distortion has to be summed over the pixels of an example. With a mean over "
               "pixels, `beta` is larger than it seems by their number.",),
    ),
    Technique(
        page="information/bottleneck_loss",
        title="Information bottleneck",
        functions=("information.bottleneck_loss",),
        also=("deep variational information bottleneck (VIB)", "Alemi et al. 2017"),
        risks=("Typical values of `beta` are 1e-4 to 1e-2; near 1 nothing passes.",),
    ),
)  # fmt: skip
SMOOTHNESS = (
    Technique(
        page="smoothness/jacobian",
        title="Jacobian penalty",
        functions=("smoothness.jacobian", "smoothness.jacobian_exact",
                   "smoothness.jacobian_projected"),
        also=("Jacobian regularization", "`JacobianReg` of Hoffman et al. for PyTorch",
              "contractive penalty"),
        risks=("`JacobianReg(n)` for PyTorch is half of ours.",
               "The function has to treat examples one by one: no batch norm in training mode.",
               "It costs about one more pass through the model."),
        work=("LeNet step, Jacobian",),
    ),
    Technique(
        page="smoothness/gradient_penalty",
        title="Gradient penalty",
        functions=("smoothness.gradient_penalty",),
        also=("WGAN-GP", "DRAGAN", "Gulrajani et al. 2017"),
        risks=("A critic with batch norm couples examples, and the penalty means something else. "
               "Use layer norm.",
               "The paper's weight is 10."),
    ),
    Technique(
        page="smoothness/zero_centered_penalty",
        title="Zero-centered gradient penalty",
        functions=("smoothness.zero_centered_penalty",),
        also=("R1 and R2 regularization", "StyleGAN", "Mescheder, Geiger and Nowozin 2018"),
        risks=("Papers write `gamma / 2` before it. With lazy regularization every k steps, "
               "multiply the weight by k.",),
    ),
    Technique(
        page="smoothness/virtual_adversarial",
        title="Virtual adversarial training",
        functions=("smoothness.virtual_adversarial",),
        also=("VAT", "local distributional smoothness", "Miyato et al. 2018"),
        risks=("The function has to be deterministic: close over a fixed key for dropout.",
               "`radius` is a length over all axes of an example, so it grows with their number."),
    ),
    Technique(
        page="smoothness/graph_laplacian",
        title="Graph Laplacian penalty",
        functions=("smoothness.graph_laplacian", "smoothness.rbf_affinity",
                   "smoothness.knn_affinity", "smoothness.Neighbors"),
        also=("manifold regularization", "Laplacian regularization", "label propagation"),
        risks=("It is a sum over all pairs. Divide by the squared number of rows to keep its size "
               "when the batch changes.",),
    ),
)  # fmt: skip
PLACES = (
    Place("penalties", "The loss, from weights", "Functions of weights that return a number.",
          WEIGHTS),
    Place("activity", "The loss, from activations",
          "Functions of a layer's output that return a number.", ACTIVATIONS),
    Place("predictions", "The loss, from predictions",
          "Functions of predictions, and of labels or other predictions.", PREDICTIONS),
    Place("smoothness", "The loss, from the slope of the model",
          "Functions of the model itself and of its inputs.", SMOOTHNESS),
)  # fmt: skip
