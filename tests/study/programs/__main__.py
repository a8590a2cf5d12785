"""Writes the programs."""

from tests.study.programs import STORED, path, program

for name in STORED:
    path(name).write_text(program(name), encoding="utf-8")
