"""What the guide says about communication is what the table has."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false
import pytest

from docs.site import catalog, measured, pages

SENT = measured.communication()
# They sum over a batch, a kernel or a neighborhood.
SUMMING = {"dropout.concrete_dropout_penalty", "dropout.variational_dropout_kl"}
ALONE = {
    *(a for a in SENT if a.startswith(("dropout.", "noise.")) and a not in SUMMING),
    "normalization.layer_norm", "normalization.rms_norm", "normalization.instance_norm",
    "proximal.l1", "proximal.l2", "proximal.elastic_net", "proximal.box",
    "transforms.proximal", "transforms.decoupled_decay", "transforms.independent_decay",
    "transforms.cautious_decay", "transforms.layerwise_scale", "transforms.exponential_average",
    "transforms.stochastic_weight_average", "transforms.lookahead",
}  # fmt: skip


def on_a_batch(address):
    """The counts on a mesh of eight devices over which the batch is spread."""
    return [count for count in SENT[address] if count.mesh == "8"]


@pytest.mark.parametrize("address", sorted(ALONE))
def test_most_techniques_send_nothing(address):
    assert len(ALONE) > 40
    assert {(count.collectives, count.sometimes) for count in on_a_batch(address)} == {("", "")}


@pytest.mark.parametrize("address", ["normalization.batch_norm", "normalization.batch_renorm"])
def test_batch_norm_sends_one_sum_each_way(address):
    for count in on_a_batch(address):
        assert count.collectives == f"{1 + (count.program == 'with gradient')} all-reduce"


def test_norms_of_split_units_and_sam_send_two_sums():
    for address in ("transforms.project", "transforms.sam", "transforms.asam"):
        assert {count.collectives for count in on_a_batch(address)} == {"2 all-reduce"}
    for address in ("projections.max_norm", "projections.unit_norm", "proximal.group_lasso"):
        for count in on_a_batch(address):
            assert count.collectives == f"{2 + (count.program == 'with gradient')} all-reduce"


def test_a_cross_entropy_sends_its_sum_and_its_count():
    for count in on_a_batch("targets.smoothed_cross_entropy"):
        assert (count.collectives, count.elements) == ("1 all-reduce", 2)


def test_pages_show_the_counts():
    shown = {row.functions[0]: "\n".join(pages._communication(row)) for row in catalog.TECHNIQUES}
    assert "No communication" in shown["dropout.dropout"]
    assert (
        "| 8, Auto | 1 all-reduce: 16 numbers; rarely 2 all-reduce |"
        in shown["normalization.batch_norm"]
    )
    assert "4 gather" in shown["augment.gaussian_blur"]


# Each array on an Explicit mesh has one sharding, where the compiler of an Auto mesh may choose
# another one for a step of a function. The guide names these.
SENDS_MORE = {
    "augment.embedding_interpolation", "augment.random_cutmix", "augment.random_mixup",
    "augment.sample_mixture", "dropout.drop_block", "information.jensen_shannon",
    "penalties.decorrelation", "penalties.orthogonality", "smoothness.gradient_penalty",
    "smoothness.jacobian", "smoothness.jacobian_exact", "smoothness.jacobian_projected",
    "smoothness.zero_centered_penalty", "training.class_uncertainty",
}  # fmt: skip


def test_explicit_meshes_send_what_auto_meshes_do():
    more = set()
    for address, counts in SENT.items():
        modes = {"Auto": [], "Explicit": []}
        for count in counts:
            modes[count.mode].append(count)
        for auto, explicit in zip(*modes.values(), strict=True):
            assert (auto.mesh, auto.program) == (explicit.mesh, explicit.program)
            if explicit.elements > 1.02 * auto.elements + 2:
                more.add(address)
    assert more == SENDS_MORE
