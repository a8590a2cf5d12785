"""The catalog of techniques: places, rows, and what follows from the rows and the package."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
from typing import Any

from docs.site.rows import activations, data, images, layers, losses, updates
from docs.site.rows.row import Place, Technique
from jaxreg import linen, nnx
from jaxreg.study.arms import ARMS, Arm

PLACES: tuple[Place, ...] = (
    *activations.PLACES,
    *layers.PLACES,
    *losses.PLACES,
    *updates.PLACES,
    *images.PLACES,
    *data.PLACES,
)
TECHNIQUES: tuple[Technique, ...] = tuple(row for place in PLACES for row in place.techniques)
# Modules of the package whose names users call, in the order of the navigation.
MODULES = (
    "dropout", "noise", "normalization", "reparam", "penalties", "smoothness", "information",
    "targets", "proximal", "projections", "transforms", "masks", "augment", "augment.borders",
    "augment.matrices", "augment.operations", "augment.partners", "augment.sampling",
    "augment.series",
    "augment.tables", "augment.text", "linen", "nnx", "training.early_stopping",
    "training.plateau", "training.schedules", "training.ensembles", "training.statistics",
    "training.digests", "explain", "diagnosis", "advice", "study", "study.arms",
    "testing",
)  # fmt: skip
# The guide of each place.
GUIDES = {
    "activations": "activations", "weights_in": "weights", "reparametrization": "weights",
    "batch_norms": "normalization", "example_norms": "normalization", "penalties": "penalties",
    "activity": "penalties", "predictions": "predictions", "smoothness": "smoothness",
    "proximal": "update", "projections": "update", "decay": "decay", "gradient": "gradients",
    "path": "gradients", "masks": "masks", "geometry": "images", "color": "images",
    "erasing": "images", "mixing": "images", "policies": "images", "following": "labels_follow",
    "series": "series", "tables": "series", "text": "text", "loop": "loop",
}  # fmt: skip
# Names of something that another page documents.
ALIASES = {"study.arms.Arm": "study.Arm"}
FORMS = {"linen": linen, "nnx": nnx}
NAMED = re.compile(r":func:`(?:~)?jaxreg\.([\w.]+)`")


def find(address: str) -> Any:
    """Returns the object at an address below ``jaxreg``."""
    module, _, name = address.rpartition(".")
    return getattr(importlib.import_module(f"jaxreg.{module}"), name)


def public(module: str) -> list[str]:
    """Returns the public names of a module that are not modules themselves."""
    home = importlib.import_module(f"jaxreg.{module}")
    listed = getattr(home, "__all__", [name for name in vars(home) if name.isupper()])
    members = {name: getattr(home, name) for name in listed if not name.startswith("_")}
    return [name for name, member in members.items() if not isinstance(member, types.ModuleType)]


def public_addresses() -> list[str]:
    """Returns the addresses of everything public below ``jaxreg``."""
    return [f"{module}.{name}" for module in MODULES for name in public(module)]


@functools.cache
def _modules_of_functions() -> dict[str, list[str]]:
    """Addresses of modules by the function that the first line of their docstring names."""
    found: dict[str, list[str]] = {}
    for form, home in FORMS.items():
        for name in home.__all__:
            first = (inspect.getdoc(getattr(home, name)) or "").partition("\n")[0]
            if match := NAMED.search(first):
                found.setdefault(match[1], []).append(f"{form}.{name}")
    return found


def modules_of(row: Technique) -> list[str]:
    """Returns the addresses of the modules of a technique, Linen's first."""
    found = [
        address
        for function in row.functions
        for address in _modules_of_functions().get(function, ())
    ]
    found += [
        f"{form}.{name}"
        for form, home in FORMS.items()
        for name in row.modules
        if name in home.__all__
    ]
    return sorted(dict.fromkeys(found), key=lambda address: address.partition(".")[0])


def addresses_of(row: Technique) -> list[str]:
    """Returns the addresses of everything that a page documents."""
    return [*row.functions, *modules_of(row)]


@functools.cache
def pages() -> dict[str, str]:
    """Returns the page of a technique for each address that has one."""
    return {
        address: f"techniques/{row.page}" for row in TECHNIQUES for address in addresses_of(row)
    }


def page_of(address: str) -> str:
    """Returns the page that documents an address."""
    address = ALIASES.get(address, address)
    return pages().get(address) or f"api/{address.rpartition('.')[0]}"


def arms_of(row: Technique) -> list[Arm[Any]]:
    """Returns the arms of the study that measure a technique."""
    own = {f"jaxreg.{address}" for address in addresses_of(row)}
    own.add(f"jaxreg.{row.functions[0].rpartition('.')[0]}")
    return [arm for arm in ARMS.values() if own & set(re.findall(r"jaxreg[\w.]+", arm.source))]
