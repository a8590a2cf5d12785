"""Commands in this process, and the history of a run in a file."""

import numpy as np

from jaxreg.cli.main import main

EPOCHS = 12
TIME = np.linspace(0, 1, EPOCHS)
TRAIN = np.exp(-5 * TIME)
VALIDATION = 0.4 + 0.6 * np.exp(-12 * TIME) + 0.5 * TIME**2


def run_command(capsys, *arguments):
    status = main(list(map(str, arguments)))
    streams = capsys.readouterr()
    assert (status, streams.err) == (0, "")
    return streams.out


def write_csv(path, train=TRAIN, validation=VALIDATION):
    lines = [f"{i},{a},{b}" for i, (a, b) in enumerate(zip(train, validation, strict=True), 1)]
    path.write_text("\n".join(["epoch,train_loss,validation_loss", *lines]))
