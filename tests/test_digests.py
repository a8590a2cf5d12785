"""Digests: what was loaded is what was saved, to the bit, or an error names the leaf."""

import json
import struct
from typing import NamedTuple

import hypothesis
