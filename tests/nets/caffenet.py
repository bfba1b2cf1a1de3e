"""CaffeNet: AlexNet with pooling before normalisation, which then has a quarter of the values.

Jia et al. 2014 (arXiv 1408.5093); Caffe's bvlc_reference_caffenet, whose readme names the change.
"""

from nets.alexnet import drawn

from resnet_proto.net import Net


def net(divisor: int = 1) -> Net:
    """``divisor`` makes every layer but the scores as much narrower."""
    return drawn("CaffeNet", divisor, pool_first=True)
