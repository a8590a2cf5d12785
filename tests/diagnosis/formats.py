"""Histories as programs write them: each function returns the texts of files by their names.

The forms of Keras, Lightning, transformers, TensorBoard and skorch are copied from files which
these programs wrote; those of Weights and Biases, MLflow, fastai, timm, Ultralytics, LightGBM and
XGBoost follow their documents. pandas writes its own.
"""

import json
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas

EPOCHS = 20


class Format(NamedTuple):
    """A form of histories: its writer, and what is known of the numbers that it holds."""

    write: Any  # (train, validation) -> {name of a file: text or bytes}
    first: float = 0  # number of the first epoch
    step: float = 1  # from one epoch to the next
    counter: str = "epoch"
    options: Any = MappingProxyType({})  # for `read`
    keeps_nan: bool = True
    seen: Any = list  # validation losses -> those that were measured, None for the others


def table(head, *columns, mark=","):
    """Text of a table with full precision; None is empty."""
    rows = zip(*columns, strict=True)
    lines = [mark.join("" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([head, *lines]) + "\n"


def frame(train, validation, names=("train_loss", "validation_loss")):
    return pandas.DataFrame(dict(zip(names, (train, validation), strict=True)))


def accuracies(size):
    return [0.5 + 0.01 * epoch for epoch in range(size)]


def keras_log(train, validation, mark=","):
    head = mark.join(("epoch", "accuracy", "loss", "val_accuracy", "val_loss"))
    own = accuracies(train.size)
    return {"log.csv": table(head, range(train.size), own, train, own, validation, mark=mark)}


def keras_log_semicolons(train, validation):
    return keras_log(train, validation, ";")


def keras_log_resumed(train, validation):
    """A first training of ten epochs, of which the sixth was the last that was saved."""
    epochs = [*range(10), *range(6, EPOCHS)]
    worse = [*train[:6], *(train[6:10] + 5), *train[6:]]
    return {
        "log.csv": table("epoch,loss,val_loss", epochs, worse, [*validation[:10], *validation[6:]])
    }


def keras_log_killed(train, validation):
    """Keras writes NA for what a training that stopped itself did not measure."""
    cells = ["NA" if value is None else value for value in all_but_the_last(validation)]
    return {"log.csv": table("epoch,loss,val_loss", range(EPOCHS), train, cells)}


def keras_history(train, validation):
    own = accuracies(train.size)
    columns = {"accuracy": own, "loss": [*train], "val_accuracy": own, "val_loss": [*validation]}
    return {"history.json": json.dumps(columns)}


def keras_callback(train, validation):
    columns = {"loss": [*train], "val_loss": [*validation]}
    value = {
        "params": {"epochs": EPOCHS, "steps": 3},
        "epoch": [*range(EPOCHS)],
        "history": columns,
    }
    return {"history.json": json.dumps(value)}


def keras_tensorboard(train, validation):
    return {
        "run-train-tag-epoch_loss.csv": scalars(train),
        "run-validation-tag-epoch_loss.csv": scalars(validation),
    }


def lightning(train, validation):
    """A row of validation and a row of training per epoch, then a row of the test."""
    rows = []
    for epoch, (own, other) in enumerate(zip(train, validation, strict=True)):
        rows += [(epoch, 8 * epoch + 7, "", "", other), (epoch, 8 * epoch + 7, "", own, "")]
    rows.append((EPOCHS, 8 * EPOCHS, 0.9, "", ""))
    return {
        "metrics.csv": table("epoch,step,test_loss,train_loss,val_loss", *zip(*rows, strict=True))
    }


def lightning_steps(train, validation):
    """Losses of single steps and their means, with rows of the learning rate between them."""
    rows = []
    for epoch, (own, other) in enumerate(zip(train, validation, strict=True)):
        rows += [("", 4 * epoch, 0.1, "", "", "")]
        rows += [
            (epoch, 4 * epoch + 1, "", "", 3 * own, ""),
            (epoch, 4 * epoch + 3, "", "", own, ""),
        ]
        rows += [(epoch, 4 * epoch + 3, "", "", "", other), (epoch, 4 * epoch + 3, "", own, "", "")]
    head = "epoch,step,lr-Adam,train_loss_epoch,train_loss_step,val_loss"
    return {"metrics.csv": table(head, *zip(*rows, strict=True))}


def lightning_steps_alone(train, validation):
    """The training loss of every second step, which nobody averaged."""
    rows = []
    for epoch, (own, other) in enumerate(zip(train, validation, strict=True)):
        rows += [(epoch, 4 * epoch + 1, 0.75 * own, ""), (epoch, 4 * epoch + 3, 1.25 * own, "")]
        rows += [(epoch, 4 * epoch + 3, "", other)]
    return {"metrics.csv": table("epoch,step,train_loss,val_loss", *zip(*rows, strict=True))}


def trainer(rows):
    state = {"best_metric": None, "epoch": 20.0, "global_step": 200, "is_world_process_zero": True,
             "log_history": rows, "logging_steps": 5, "trial_name": None}  # fmt: skip
    return {"trainer_state.json": json.dumps(state, indent=2)}


def transformers_epochs(train, validation):
    rows = []
    for epoch, (own, other) in enumerate(zip(train, validation, strict=True), 1):
        where = {"epoch": float(epoch), "step": 10 * epoch}
        rows.append({"grad_norm": 1.5, "learning_rate": 1e-3, "loss": own} | where)
        rows.append({"eval_loss": other, "eval_runtime": 0.1, "eval_accuracy": 0.5} | where)
    rows.append({"epoch": 20.0, "step": 200, "total_flos": 0.0, "train_loss": 9.0,
                 "train_runtime": 3.2})  # fmt: skip
    return trainer(rows)


def transformers_steps(train, validation):
    """Training is logged twice before each evaluation, which comes every quarter of an epoch."""
    rows = []
    for index, (own, other) in enumerate(zip(train, validation, strict=True)):
        for part, value in ((1, 0.5 * own), (2, 1.5 * own)):
            step = 10 * index + 5 * part
            rows.append({"epoch": step / 40, "loss": value, "step": step})
        rows.append({"epoch": (index + 1) / 4, "eval_loss": other, "step": 10 * index + 10})
    return trainer(rows)


def scalars(values, gap=1):
    """TensorBoard's CSV of one scalar."""
    times = [1.7e9 + index for index in range(len(values))]
    return table("Wall time,Step,Value", times, range(0, gap * len(values), gap), values)


def tensorboard_csv(train, validation):
    return {"run-.-tag-loss_train.csv": scalars(train, 50),
            "run-.-tag-loss_val.csv": scalars(validation, 50)}  # fmt: skip


def tensorboard_json(train, validation):
    names = {"run-.-tag-Loss_train.json": train, "run-.-tag-Loss_validation.json": validation}
    return {
        name: json.dumps([[1.7e9 + i, i, value] for i, value in enumerate(values)])
        for name, values in names.items()
    }


def tensorboard_frame(train, validation):
    """Scalars of the event files of Keras in one table, as pandas writes it: NaN is empty."""
    runs = ["fit/train"] * EPOCHS + ["fit/validation"] * EPOCHS
    tags = ["epoch_loss"] * 2 * EPOCHS
    steps = [*range(EPOCHS)] * 2
    values = [None if value != value else value for value in (*train, *validation)]
    return {"scalars.csv": table("run,tag,step,value", runs, tags, steps, values)}


def wandb_panel(train, validation):
    head = ",".join(
        f'"{name}"'
        for name in ("Step", *(f"glad-sun-1 - {loss}{end}" for loss in ("train_loss", "val_loss")
                               for end in ("", "__MIN", "__MAX")))
    )  # fmt: skip
    columns = [[f'"{value}"' for value in curve] for curve in (train, validation)]
    steps = [f'"{step}"' for step in range(EPOCHS)]
    return {"wandb_export.csv": table(head, steps, *[columns[0]] * 3, *[columns[1]] * 3)}


def wandb_two_panels(train, validation):
    texts = [
        table(
            f'"epoch","glad-sun-1 - {loss}","glad-sun-1 - {loss}__MIN"', range(EPOCHS), curve, curve
        )
        for loss, curve in (("train/loss", train), ("val/loss", validation))
    ]
    return {"wandb_export_1.csv": texts[0], "wandb_export_2.csv": texts[1]}


def wandb_history(train, validation):
    """The history of a run as a data frame: a row for every call of `log`."""
    rows = []
    for epoch, (own, other) in enumerate(zip(train, validation, strict=True)):
        for part, cells in enumerate(({"train/loss": own}, {"val/loss": other})):
            step = 2 * epoch + part
            rows.append({"_step": step, "_runtime": 0.5 * step, "epoch": epoch} | cells)
    # Without a text for NaN, pandas writes it like a gap.
    return {"history.csv": pandas.DataFrame(rows).to_csv()}


def wandb_rows(train, validation):
    rows = [
        {"_step": step, "_timestamp": 1.7e9, "train_loss": own, "val_loss": other}
        for step, (own, other) in enumerate(zip(train, validation, strict=True))
    ]
    return {"history.jsonl": "\n".join(json.dumps(row) for row in rows)}


def mlflow(train, validation):
    rows = [
        ("3f", name, step, 1700000000, value)
        for name, curve in (("train_loss", train), ("val_loss", validation))
        for step, value in enumerate(curve)
    ]
    return {"metrics.csv": table("run,metric,step,timestamp,value", *zip(*rows, strict=True))}


def pandas_orient(orient, **options):
    def write(train, validation):
        return {"frame.json": frame(train, validation).to_json(
            orient=orient, double_precision=15, **options)}  # fmt: skip

    return write


def pandas_values(train, validation):
    columns = frame(train, validation).reset_index()
    return {"frame.json": columns.to_json(orient="values", double_precision=15)}


def pandas_csv(train, validation):
    return {"frame.csv": frame(train, validation).to_csv(na_rep="nan")}


def pandas_european(train, validation):
    return {"frame.csv": frame(train, validation).to_csv(sep=";", decimal=",", na_rep="nan")}


def pandas_tabs(train, validation):
    return {"frame.tsv": frame(train, validation).to_csv(sep="\t", index=False, na_rep="nan")}


def pandas_text(train, validation):
    columns = frame(train, validation)
    return {"frame.txt": columns.to_string(index=False, float_format=str, na_rep="nan")}


def excel(train, validation):
    """A file of Excel in Europe: a byte-order mark, semicolons and decimal commas."""
    text = table("Epoch;Train Loss;Val Loss", range(1, EPOCHS + 1), train, validation, mark=";")
    return {"book.csv": b"\xef\xbb\xbf" + text.replace(".", ",").replace("\n", "\r\n").encode()}


def excel_unicode(train, validation):
    text = table("Epoch\tTrain Loss\tVal Loss", range(1, EPOCHS + 1), train, validation, mark="\t")
    return {"book.txt": ("\ufeff" + text).encode("utf-16-le")}


def excel_delimiter(train, validation):
    return {"book.csv": "sep=;\n" + table("loss;val_loss", train, validation, mark=";")}


def blanks_in_names(train, validation):
    text = table("Epoch, Training loss, Validation loss", range(1, EPOCHS + 1), train, validation)
    return {"log.csv": text.replace(",", ", ")}


def capital_letters(train, validation):
    return {"log.csv": table("EPOCH,trainLoss,valLoss", range(EPOCHS), train, validation)}


def newest_first(train, validation):
    epochs = range(EPOCHS, 0, -1)
    return {"log.csv": table("epoch,train_loss,val_loss", epochs, train[::-1], validation[::-1])}


def percent(train, validation):
    columns = [[f"{100 * value}%" for value in curve] for curve in (train, validation)]
    return {"log.csv": table("epoch,train_error,val_error", range(EPOCHS), *columns)}


def every_other(values):
    return [value if epoch % 2 else None for epoch, value in enumerate(values)]


def all_but_the_last(values):
    return [*values[:-1], None]


def gaps(text):
    """A training whose validation loss was measured in every other epoch."""

    def write(train, validation):
        cells = [text if value is None else value for value in every_other(validation)]
        return {"log.csv": table("epoch,train_loss,val_loss", range(EPOCHS), train, cells)}

    return write


def study(train, validation):
    """Two seeds of an arm, which differ from their mean by as much."""
    rows = [
        ("dropout", epoch, seed, own + sign * 0.01, other - sign * 0.01)
        for epoch, (own, other) in enumerate(zip(train, validation, strict=True), 1)
        for seed, sign in ((0, 1), (1, -1))
    ]
    head = "arm,epoch,seed,train_loss,validation_loss"
    return {"history.csv": table(head, *zip(*rows, strict=True))}


def timm(train, validation):
    own = accuracies(train.size)
    head = "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr"
    return {"summary.csv": table(head, range(EPOCHS), train, validation, own, own, own)}


def fastai(train, validation):
    times = ["00:12"] * EPOCHS
    head = "epoch,train_loss,valid_loss,accuracy,time"
    own = accuracies(train.size)
    return {"history.csv": table(head, range(EPOCHS), train, validation, own, times)}


def skorch(train, validation):
    rows = [
        {"batches": [{"train_loss": 9.0, "train_batch_size": 64}], "epoch": epoch, "dur": 0.1,
         "train_loss": own, "train_loss_best": True, "valid_loss": other, "valid_acc": 0.5}
        for epoch, (own, other) in enumerate(zip(train, validation, strict=True), 1)
    ]  # fmt: skip
    return {"history.json": json.dumps(rows)}


def lightgbm(train, validation):
    value = {"training": {"binary_logloss": [*train]}, "valid_1": {"binary_logloss": [*validation]}}
    return {"evals.json": json.dumps(value)}


def xgboost(train, validation):
    value = {"train": {"logloss": [*train]}, "eval": {"logloss": [*validation]}}
    return {"evals.json": json.dumps(value)}


def ultralytics(train, validation):
    head = "epoch, train/box_loss, train/cls_loss, val/box_loss, val/cls_loss, lr/pg0"
    ones = [1.0] * EPOCHS
    columns = (range(1, EPOCHS + 1), train, ones, validation, ones, ones)
    return {"results.csv": table(head, *columns)}


def nested_rows(train, validation):
    rows = [
        {"epoch": epoch, "train": {"loss": own}, "valid": {"loss": other}, "lr": 0.1}
        for epoch, (own, other) in enumerate(zip(train, validation, strict=True))
    ]
    return {"log.json": json.dumps({"name": "run", "epochs": rows})}


def json_lines_cut_off(train, validation):
    rows = [
        json.dumps({"epoch": epoch, "train_loss": own, "test_loss": other})
        for epoch, (own, other) in enumerate(zip(train, validation, strict=True))
    ]
    return {"log.jsonl": "\n".join([*rows, '{"epoch": 20, "train_lo'])}


def numpy_text(train, validation):
    return {"log.txt": table("# epoch loss val_loss", range(EPOCHS), train, validation, mark=" ")}


def without_names(train, validation):
    return {"log.csv": table("", range(EPOCHS), train, validation)}


def repeated_heads(train, validation):
    head = "epoch,loss,val_loss"
    half = EPOCHS // 2
    parts = [range(half), range(half, EPOCHS)]
    texts = [table(head, part, train[part], validation[part]) for part in parts]
    return {"log.csv": "".join(texts)}


def markdown(train, validation):
    text = table("| epoch | train loss | val loss |\n|---|---:|---:|", [""] * EPOCHS,
                 range(EPOCHS), train, validation, [""] * EPOCHS, mark="|")  # fmt: skip
    return {"log.md": text}


def names_of_ones_own(train, validation):
    return {"log.csv": table("runde,fit,probe", range(EPOCHS), train, validation)}


FORMATS = {
    "Keras' CSVLogger": Format(keras_log),
    "Keras' CSVLogger, semicolons": Format(keras_log_semicolons),
    "Keras' CSVLogger, appended": Format(keras_log_resumed),
    "Keras' CSVLogger, stopped": Format(keras_log_killed, seen=all_but_the_last),
    "Keras' History, its dictionary": Format(keras_history, 1),
    "Keras' History, its fields": Format(keras_callback),
    "Keras' TensorBoard": Format(keras_tensorboard, counter="step"),
    "Lightning": Format(lightning),
    "Lightning, steps and epochs": Format(lightning_steps),
    "Lightning, steps alone": Format(lightning_steps_alone),
    "transformers, by epoch": Format(transformers_epochs, 1),
    "transformers, by step": Format(transformers_steps, 0.25, 0.25),
    "TensorBoard, CSV": Format(tensorboard_csv, 0, 50, "step"),
    "TensorBoard, JSON": Format(tensorboard_json, counter="step"),
    "TensorBoard, data frame": Format(tensorboard_frame, counter="step"),
    "Weights and Biases, panel": Format(wandb_panel, counter="step"),
    "Weights and Biases, two panels": Format(wandb_two_panels),
    "Weights and Biases, history": Format(wandb_history, keeps_nan=False),
    "Weights and Biases, JSON lines": Format(wandb_rows, counter="step"),
    "MLflow": Format(mlflow, counter="step"),
    "pandas, columns": Format(pandas_orient("columns"), 1, keeps_nan=False),
    "pandas, index": Format(pandas_orient("index"), 1, keeps_nan=False),
    "pandas, records": Format(pandas_orient("records"), 1, keeps_nan=False),
    "pandas, split": Format(pandas_orient("split"), 1, keeps_nan=False),
    "pandas, table": Format(pandas_orient("table"), 1, keeps_nan=False),
    "pandas, lines": Format(pandas_orient("records", lines=True), 1, keeps_nan=False),
    "pandas, values": Format(
        pandas_values, options={"train": "2", "validation": "3", "epoch": "1"}, keeps_nan=False
    ),
    "pandas, CSV": Format(pandas_csv, 1),
    "pandas, decimal commas": Format(pandas_european, 1),
    "pandas, tabs": Format(pandas_tabs, 1),
    "pandas, text": Format(pandas_text, 1),
    "Excel, UTF-8": Format(excel, 1),
    "Excel, Unicode text": Format(excel_unicode, 1),
    "Excel, its delimiter": Format(excel_delimiter, 1),
    "blanks in names": Format(blanks_in_names, 1),
    "capital letters": Format(capital_letters),
    "newest first": Format(newest_first, 1),
    "percent": Format(percent),
    "gaps": Format(gaps(""), seen=every_other),
    "gaps, NA": Format(gaps("NA"), seen=every_other),
    "gaps, null": Format(gaps("null"), seen=every_other),
    "a study": Format(study, 1),
    "timm": Format(timm),
    "fastai": Format(fastai),
    "skorch": Format(skorch, 1),
    "LightGBM": Format(lightgbm, 1),
    "XGBoost": Format(xgboost, 1),
    "Ultralytics": Format(
        ultralytics, 1, options={"train": "train/box_loss", "validation": "val/box_loss"}
    ),
    "nested rows": Format(nested_rows),
    "JSON lines, cut off": Format(json_lines_cut_off),
    "NumPy's text": Format(numpy_text),
    "without names": Format(
        without_names, options={"train": "2", "validation": "3", "epoch": "1"}
    ),
    "repeated heads": Format(repeated_heads),
    "Markdown": Format(markdown),
    "names of one's own": Format(
        names_of_ones_own, options={"train": "fit", "validation": "probe", "epoch": "runde"}
    ),
}  # fmt: skip
