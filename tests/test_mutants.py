"""The seeded faults of ``tests/mutants`` fit the sources that they are seeded into."""

from tests import mutants
from tests.mutants.row import Mutant
from tests.mutants.trial import own_commands


def test_every_seeded_fault_fits_its_source_and_every_package_has_some():
    assert mutants.check() == []


def test_a_fault_is_tried_on_the_tests_that_bear_the_name_of_its_module(tmp_path):
    package = tmp_path / "tests" / "dropout"
    package.mkdir(parents=True)
    (package / "test_block.py").touch()
    (tmp_path / "tests" / "test_bits.py").touch()
    contract = "tests/test_contract.py"

    def commands(path, *further):
        return own_commands(Mutant(path, "", "", "", further), tmp_path)

    assert commands("dropout/block.py") == [
        ("tests/dropout/test_block.py",),
        (contract, "-k", "[dropout.block. or -dropout.block."),
    ]
    assert commands("dropout/_private.py") == [
        ("tests/dropout",),
        (contract, "-k", "[dropout. or -dropout."),
    ]
    assert commands("_bits.py", "tests/dropout/test_block.py") == [
        ("tests/test_bits.py", "tests/dropout/test_block.py"),
        (contract, "-k", "[dropout.block. or -dropout.block."),
    ]
