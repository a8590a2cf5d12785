"""Optimizers of Optax with a weight decay, and the decay that their formulas have."""

import numpy as np
import optax

RATE = 0.01
WEIGHT = 0.1
COUPLED = "penalty through the optimizer's scaling"


def _plain(_w, _g):
    return RATE * WEIGHT


def _share(move, w):
    """The part of the weights that the mean of two moves removes."""
    return -np.vdot(w, move) / np.vdot(w, w)


def _of_lamb(w, g):
    """The first step of Adam is the sign of the gradient, before the trust ratio."""
    return _of_layers(w, g, 1.0)


def _of_lars(w, g):
    return _of_layers(w, g, 0.001)


def _of_layers(w, g, trust):
    moves = []
    for sign in (1, -1):
        step = sign * g + WEIGHT * w
        moves.append(-RATE * trust * np.linalg.norm(w) / np.linalg.norm(step) * step)
    return _share(np.mean(moves, axis=0), w)


def _of_first_estimate(_w, _g):
    """Decay by the first estimate of the learning rate, 1e-6, times Adam's bias correction."""
    return RATE * WEIGHT * 1e-6 * np.sqrt(1 - 0.999) / (1 - 0.9)


def _implicit(_w, _g):
    return RATE * WEIGHT / (1 + RATE * WEIGHT)


# Name, optimizer, and its decay as a function of the weights and gradients; None if an adaptive
# scale divides it.
DECAYS = {
    "adamw": (optax.adamw(RATE, weight_decay=WEIGHT), _plain),
    "nadamw": (optax.nadamw(RATE, weight_decay=WEIGHT), _plain),
    "adamaxw": (optax.adamaxw(RATE, weight_decay=WEIGHT), _plain),
    "adan": (optax.adan(RATE, weight_decay=WEIGHT), _plain),
    "lion": (optax.lion(RATE, weight_decay=WEIGHT), _plain),
    "novograd": (optax.novograd(RATE, weight_decay=WEIGHT), _plain),
    "adafactor": (optax.adafactor(RATE, weight_decay_rate=WEIGHT), lambda w, g: WEIGHT),
    "fromage": (optax.fromage(RATE), lambda w, g: 1 - 1 / np.sqrt(1 + RATE**2)),
    "lamb": (optax.lamb(RATE, weight_decay=WEIGHT), _of_lamb),
    "lars": (optax.lars(RATE, weight_decay=WEIGHT), _of_lars),
    "adadelta": (optax.adadelta(RATE, weight_decay=WEIGHT), None),
    "acprop": (optax.contrib.acprop(RATE, weight_decay=WEIGHT), _plain),
    "ademamix": (optax.contrib.ademamix(RATE, weight_decay=WEIGHT), _plain),
    "simplified ademamix": (
        optax.contrib.simplified_ademamix(RATE, weight_decay=WEIGHT), _plain
    ),
    "galore": (optax.contrib.galore(RATE, rank=2, weight_decay=WEIGHT), _plain),
    "muon": (
        optax.contrib.muon(RATE, weight_decay=WEIGHT, adam_weight_decay=WEIGHT), _plain
    ),
    "sophia": (optax.contrib.sophia(RATE, weight_decay=WEIGHT), _plain),
    "momo": (optax.contrib.momo(RATE, weight_decay=WEIGHT), _implicit),
    "momo_adam": (optax.contrib.momo_adam(RATE, weight_decay=WEIGHT), _implicit),
    "prodigy": (optax.contrib.prodigy(RATE, weight_decay=WEIGHT), _of_first_estimate),
    "dadapt_adamw": (optax.contrib.dadapt_adamw(RATE, weight_decay=WEIGHT), _of_first_estimate),
    "schedule_free_adamw": (
        optax.contrib.schedule_free_adamw(RATE, weight_decay=WEIGHT), _plain
    ),
    "schedule_free_sgd": (optax.contrib.schedule_free_sgd(RATE, weight_decay=WEIGHT), _plain),
    "mechanize": (
        optax.contrib.mechanize(optax.adamw(RATE, weight_decay=WEIGHT), s_init=0.5),
        lambda w, g: 0.5 * RATE * WEIGHT,
    ),
    "madgrad": (optax.contrib.madgrad(RATE, weight_decay=WEIGHT), None),
    "cocob": (optax.contrib.cocob(weight_decay=WEIGHT), None),
}  # fmt: skip

PLAIN = {
    "adabelief": optax.adabelief(RATE),
    "adadelta": optax.adadelta(RATE),
    "adafactor": optax.adafactor(RATE),
    "adagrad": optax.adagrad(RATE),
    "adam": optax.adam(RATE),
    "adamax": optax.adamax(RATE),
    "adopt": optax.contrib.adopt(RATE),
    "amsgrad": optax.amsgrad(RATE),
    "cocob": optax.contrib.cocob(),
    "dog": optax.contrib.dog(),
    "dowg": optax.contrib.dowg(),
    "lbfgs": optax.lbfgs(RATE),
    "mechanize": optax.contrib.mechanize(optax.adam(RATE)),
    "muon": optax.contrib.muon(RATE),
    "noisy_sgd": optax.noisy_sgd(RATE, key=0),
    "optimistic_adam_v2": optax.optimistic_adam_v2(RATE),
    "optimistic_gradient_descent": optax.optimistic_gradient_descent(RATE),
    "polyak_sgd": optax.polyak_sgd(),
    "dpsgd": optax.chain(
        optax.contrib.differentially_private_aggregate(1.0, 0.1, 0), optax.sgd(RATE)
    ),
    "radam": optax.radam(RATE),
    "rmsprop": optax.rmsprop(RATE, momentum=0.9, centered=True),
    "rprop": optax.rprop(RATE),
    "schedule_free_sgd": optax.contrib.schedule_free_sgd(RATE),
    "sgd": optax.sgd(RATE, momentum=0.9, nesterov=True),
    "sign_sgd": optax.sign_sgd(RATE),
    "signum": optax.signum(RATE),
    "sm3": optax.sm3(RATE),
}
