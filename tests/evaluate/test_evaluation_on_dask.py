"""Nets judged by the workers of a Dask cluster, which are in other folders."""

import os

from test_dask import cluster, distributed, limit  # noqa: F401 - fixtures
from test_evaluation import GREY, database, net_of, same, weights_of  # noqa: F401

from resnet_proto import Classifier
from resnet_proto.evaluate.evaluation import evaluate


def test_the_same_rows_as_here(cluster, database, monkeypatch):  # noqa: F811
    """From a relative path; with weights of a file, and with some that are in memory only."""
    _, _, address = cluster
    path, _ = database
    monkeypatch.chdir(path.parent)
    nets = [
        Classifier(net_of(), weights_of(), image=GREY),
        Classifier(net_of(11, 9), weights_of(4), image=GREY),
    ]

    there = evaluate(nets, os.path.relpath(path), dask=address)

    assert same(there, evaluate(nets, path))
    assert 0 < there.wrong() < len(there)
