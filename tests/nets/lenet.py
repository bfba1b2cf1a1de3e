"""LeNet as Caffe's MNIST example has it. LeCun et al. 1998, section II.B, with changes.

The paper's LeNet-5 has 6 and 16 maps, learned subsampling and a sigmoid after each layer. The
example has 20 and 50 maps, MAX pooling and one ReLU; it is followed here. Its input is one digit
of 28 x 28 grey values.
"""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net


def net() -> Net:
    pen = Pen("LeNet", 1, 1, 28, 28)
    blob = "data"
    for number, maps in enumerate((20, 50), 1):
        blob = pen.conv(f"conv{number}", blob, maps, 5)
        blob = pen.max_pool(f"pool{number}", blob, 2, 2)
    blob = pen.relu("ip1", pen.inner("ip1", blob, 500))
    pen.put(Softmax, "prob", pen.inner("ip2", blob, 10))
    return pen.net
