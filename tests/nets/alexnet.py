"""AlexNet. Krizhevsky et al. 2012, section 3 and figure 2, in one tower.

The paper's two GPUs see each other's maps in conv3 and in the inner products only: group 2 in
conv2, conv4 and conv5. Responses are normalised before they are pooled (sections 3.3 to 3.5), as
in Caffe's bvlc_alexnet; CaffeNet has it the other way round. No padding makes the figure's 55 x 55
of its 224 x 224: Caffe's users crop 227 x 227.
"""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net

CONVOLUTIONS = (  # num_output, kernel, fields; whether normalisation and pooling follow
    (96, 11, {"stride": 4}, True, True),
    (256, 5, {"pad": 2, "group": 2}, True, True),
    (384, 3, {"pad": 1}, False, False),
    (384, 3, {"pad": 1, "group": 2}, False, False),
    (256, 3, {"pad": 1, "group": 2}, False, True),
)


def net(divisor: int = 1) -> Net:
    """``divisor`` makes every layer but the scores as much narrower."""
    return drawn("AlexNet", divisor, pool_first=False)


def drawn(name: str, divisor: int, *, pool_first: bool) -> Net:
    """The net in one of two orders; shapes differ between them, parameters and MACs do not."""
    pen = Pen(name, 1, 3, 227, 227)
    blob = "data"
    for number, (maps, kernel, values, norm, pool) in enumerate(CONVOLUTIONS, 1):
        blob = pen.conv_relu(f"conv{number}", blob, maps // divisor, kernel, **values)
        if pool and pool_first:
            blob = pen.max_pool(f"pool{number}", blob, 3, 2)
        if norm:
            blob = pen.lrn(f"norm{number}", blob)
        if pool and not pool_first:
            blob = pen.max_pool(f"pool{number}", blob, 3, 2)
    for number in (6, 7):
        name = f"fc{number}"
        blob = pen.relu(name, pen.inner(name, blob, 4096 // divisor))
        blob = pen.dropout(f"drop{number}", blob)
    pen.put(Softmax, "prob", pen.inner("fc8", blob, 1000))
    return pen.net
