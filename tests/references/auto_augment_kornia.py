"""Makes ``auto_augment_kornia.json``: the policies of AutoAugment as kornia has them, as digests.

Usage: ``python auto_augment_kornia.py > auto_augment_kornia.json`` with kornia 0.9.0.
"""

import collections
import hashlib
import importlib
import json
import sys


def digest(rows):
    """A fingerprint of a table: a hash of all rows in order, and counts of operations.

    Args:
      rows: Pairs of (name, probability, magnitude), the magnitude None where it is not read.
    """
    text = json.dumps(rows)
    names = collections.Counter(name for row in rows for name, _, _ in row)
    return {
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "operations": dict(sorted(names.items())),
        "probability": round(sum(p for row in rows for _, p, _ in row), 6),
        "magnitude": sum(m or 0 for row in rows for _, _, m in row),
    }


def main():
    tables = importlib.import_module("kornia.augmentation.auto.autoaugment.autoaugment")
    named = {
        name: digest([[list(step) for step in row] for row in getattr(tables, name)])
        for name in ("cifar10_policy", "imagenet_policy", "svhn_policy")
    }
    json.dump(
        {"kornia": importlib.import_module("kornia").__version__, **named}, sys.stdout, indent=1
    )
    print()


if __name__ == "__main__":
    main()
