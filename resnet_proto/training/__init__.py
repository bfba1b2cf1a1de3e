"""A net made ready to train: deploy net <-> train_val net, recipe -> solver, launch script."""

from resnet_proto.training.classifier import with_classes
from resnet_proto.training.solver import solvers
from resnet_proto.training.tasks import TASKS
from resnet_proto.training.train_val import is_train_val, only_input, to_deploy, to_train_val

__all__ = [
    "TASKS",
    "is_train_val",
    "only_input",
    "solvers",
    "to_deploy",
    "to_train_val",
    "with_classes",
]
