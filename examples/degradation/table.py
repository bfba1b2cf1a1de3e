"""Logs of run.sh -> a table: mean and spread over the seeds of what each net came to."""

import re
import sys
from pathlib import Path
from statistics import mean, stdev

from resnet_proto.training_log import TRAIN, read_log

NETS = ("plain-20", "plain-56", "resnet-20", "resnet-56")


def came_to(folder):
    """Training loss over the last tenth, training error and test error in percent."""
    with (folder / "train.log").open(errors="replace") as file:
        run = read_log(file, str(folder))
    losses = run.outputs(TRAIN)["loss"]
    last = [value for at, value in losses if at >= 0.9 * losses[-1][0]]
    errors = [error(folder / f"{data}-error.log") for data in ("train", "test")]
    return mean(last), *errors


def error(path):
    """Percent, of what `caffe test` says."""
    text = path.read_text(errors="replace")
    return 100 * (1 - float(re.search(r"caffe\.cpp:\d+\] accuracy_top1 = (\S+)", text)[1]))


def main(root):
    """Print the table."""
    print("net        seeds        training loss  training error %    test error %")
    for net in NETS:
        rows = [came_to(folder) for folder in sorted(root.glob(f"{net}-seed-*"))]
        cells = [
            f"{mean(column):.{digits}f} +- {stdev(column) if len(column) > 1 else 0:.{digits}f}"
            for column, digits in zip(zip(*rows, strict=True), (4, 2, 2), strict=True)
        ]
        print(f"{net:<10} {len(rows):>5} {cells[0]:>20} {cells[1]:>17} {cells[2]:>15}")


main(Path(sys.argv[1]))
