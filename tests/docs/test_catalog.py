"""Every public name is on one page of the site, and every technique's page is complete."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false
import inspect
import re
from pathlib import Path

import pytest

from benchmarks.measuring import Row
from docs.site import catalog, measured, pages
from docs.site.pictures import PICTURES
from docs.site.record import Record
from jaxreg.study.arms import ARMS
from tests import cases
from tests.cases.modules import MODULES
from tests.test_cases import NAMES

DOCS = Path(catalog.__file__).parents[1]
# Functions that regularize nothing by themselves: their entries are on the page of their module.
HELPERS = {
    "augment.matrices", "augment.sampling", "penalties.total", "targets.mean_of_all",
    "targets.per_example",
}  # fmt: skip
# Modules that lift a function of the user's.
OWN = {"linen.Stochastic", "nnx.Stochastic"}
RECORD = Record(("x", "result"), ("call(x)",), "")


def test_every_public_name_is_in_the_api():
    listed = {f"jaxreg.{address}" for address in catalog.public_addresses()}
    assert set(NAMES) <= listed, f"missing in `catalog.MODULES`: {set(NAMES) - listed}"


def test_every_name_has_one_page():
    addresses = [a for row in catalog.TECHNIQUES for a in catalog.addresses_of(row)]
    assert len(addresses) == len(set(addresses))
    assert set(addresses) <= set(catalog.public_addresses())


def test_every_function_with_a_row_is_a_technique():
    for case in [*cases.FUNCTIONS, *cases.TRANSFORMATIONS]:
        function = getattr(case, "function", None) or case.factory
        places = [a.removeprefix("jaxreg.") for a, member in NAMES.items() if member is function]
        known = any(
            place in catalog.pages() or place.startswith(tuple(HELPERS)) for place in places
        )
        assert known, f"{places} has no page: add it to a row in docs/site/rows"


def test_every_technique_has_a_picture():
    rows = [row.page for row in catalog.TECHNIQUES]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(PICTURES)


def test_every_module_is_on_a_page_in_both_frameworks():
    for form, home in catalog.FORMS.items():
        for name in home.__all__:
            assert f"{form}.{name}" in {*catalog.pages(), *OWN}
    for module in MODULES:
        assert catalog.page_of(f"linen.{module.kind}") == catalog.page_of(f"nnx.{module.kind}")


def test_every_page_has_its_parts():
    for group in catalog.PLACES:
        for row in group.techniques:
            text = pages.technique(row, group, RECORD)
            heads = re.findall(r"^## (.+)$", text, re.M)
            wanted = ["Function", "Cost", "What can go wrong", "Source"]
            assert [head for head in heads if head in wanted] == wanted
            assert ("Optax" in heads) == bool(row.chain)
            assert row.risks
            assert all(risk.endswith(".") for risk in row.risks)
            for form in ("linen", "nnx"):
                has = any(a.startswith(f"{form}.") for a in catalog.modules_of(row))
                assert (pages.FORMS[form] in heads) == has


def test_links_of_rows_lead_somewhere():
    known = {row.page for row in catalog.TECHNIQUES}
    for row in catalog.TECHNIQUES:
        here = (DOCS / "techniques" / row.page).parent
        for target in re.findall(r"\]\(([^)]+)\)", " ".join(row.risks)):
            path = Path(*(here / target).parts)
            resolved = Path(*_without_dots(path.parts)).relative_to(DOCS)
            page = (
                str(resolved.relative_to("techniques"))[:-3]
                if resolved.parts[0] == ("techniques")
                else ""
            )
            assert page in known or (DOCS / resolved).exists(), f"{row.page} links to {target}"


def _without_dots(parts):
    kept = []
    for part in parts:
        if part == "..":
            kept.pop()
        else:
            kept.append(part)
    return kept


def test_every_place_has_a_guide():
    for group in catalog.PLACES:
        assert (DOCS / "guides" / f"{catalog.GUIDES[group.name]}.md").exists()
        assert "[guide]" in pages.place(group)


def test_other_names_are_keywords():
    row = next(row for row in catalog.TECHNIQUES if row.page == "dropout/drop_path")
    assert {"DropPath", "timm DropPath, drop_path_rate", "StochasticDepth"} <= {
        *pages.keywords(row)
    }


def test_every_measured_work_is_in_the_benchmarks():
    works = [row.work for row in measured.costs()]
    for row in catalog.TECHNIQUES:
        for beginning in row.work:
            assert any(work.startswith(beginning) for work in works), beginning


def test_costs_are_multiples_of_the_other():
    row = Row("step", "plain", 3.0, 2.0, 2.0, "ms")
    assert measured.is_bound(row)
    assert not measured.is_bound(row._replace(peer="flax.linen"))
    step = measured.costs_of(("adam, decay, L1, max-norm: time",))
    assert measured.is_bound(step[0])
    assert not measured.is_bound(step[-1])


def test_every_arm_of_the_study_is_on_a_page():
    shown = {arm.name for row in catalog.TECHNIQUES for arm in catalog.arms_of(row)}
    assert {arm.name for arm in ARMS.values() if "jaxreg." in arm.source} <= shown


def test_measured_digits_are_read(tmp_path):
    path = tmp_path / "digits.csv"
    path.write_text(
        "arm,metric,strength,test,difference,difference_low,difference_high,verdict\n"
        "baseline,accuracy,,0.9,0.0,0.0,0.0,reference\n"
        "l2,accuracy,1.0,0.95,0.05,0.01,0.09,better\n"
    )
    found = measured.digits(path)
    assert found["l2"] == ("l2", "1.0", 0.95, 0.05, 0.01, 0.09, "better")
    assert pages.to_markdown(":func:`jaxreg.dropout.dropout`, ``x`` and :math:`y`") == (
        "`dropout.dropout`, `x` and {math}`y`"
    )


@pytest.mark.parametrize("address", ["dropout.dropout", "linen.Dropout", "testing.contract"])
def test_sources_are_files_of_the_package(address):
    assert (measured.ROOT / pages.source_file(address)).read_text()


def test_a_page_without_a_docstring_would_show():
    for address in catalog.public_addresses():
        member = catalog.find(address)
        if inspect.isclass(member) or callable(member):
            assert pages.summary(address), address
