"""The site: it builds without a warning, stays small, its links and its search lead somewhere."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("sphinx", reason='needs pip install -e ".[docs]"')

ROOT = Path(__file__).parents[3]
HTML = ROOT / "docs" / "_build" / "html"
MOST_BYTES = 30 * 2**20
SEARCHES = {
    "droppath": {"techniques/dropout/drop_path"},
    "weight decay mask bias": {"techniques/masks/no_bias_or_norm", "techniques/masks/kernels"},
    "label smoothing mixup": {
        "techniques/targets/smoothed_cross_entropy",
        "techniques/targets/mixed_cross_entropy",
    },
    "stochastic depth per layer rate scan": {"techniques/dropout/drop_path"},
    "max norm constraint": {"techniques/projections/max_norm"},
    "spectral norm gan": {"techniques/reparam/spectral_norm"},
    "early stopping jit": {"techniques/training/early_stopping"},
    "nnx dropout eval": {"techniques/dropout/dropout", "start/nnx"},
    "ema": {"techniques/transforms/exponential_average"},
    "randaugment jax": {"techniques/augment/rand_augment"},
}


@pytest.fixture(scope="module")
def html():
    build = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(HTML.parent / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *build, "docs", str(HTML)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return HTML


def test_the_site_is_small(html):
    assert sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) < MOST_BYTES


class Links(HTMLParser):
    """Links, anchors and sources of pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.targets = set()
        self.anchors = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given.get("id"), given.get("name")}
        target = given.get({"a": "href", "img": "src"}.get(tag, ""))
        if target and not re.match(r"[a-z]+:|//", target):
            self.targets.add(unquote(target))


def test_links_inside_the_site_lead_somewhere(html):
    pages = {path.resolve(): Links(path.read_text()) for path in html.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            name, _, anchor = target.partition("#")
            there = (path.parent / name.partition("?")[0]).resolve() if name else path
            if not there.exists() or (
                anchor and there in pages and anchor not in pages[there].anchors
            ):
                broken.append(f"{path.relative_to(html.resolve())}: {target}")
    assert not broken


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_searches_of_a_newcomer_find_the_page(html):
    script = Path(__file__).with_name("search.cjs")
    command = ["node", str(script), str(html), *SEARCHES]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    wrong = {}
    for query, wanted in SEARCHES.items():
        first = [result.partition(" | ")[0] for result in found[query]]
        if not wanted & set(list(dict.fromkeys(first))[:3]):
            wrong[query] = found[query]
    assert not wrong
