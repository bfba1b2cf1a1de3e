"""A net made ready to train: deploy net <-> train_val net, recipe -> solver, launch script."""

from resnet_proto.training.solver import solvers
from resnet_proto.training.tasks import TASKS
from resnet_proto.training.train_val import to_deploy, to_train_val

__all__ = ["TASKS", "solvers", "to_deploy", "to_train_val"]
