"""The layers that every unit is made of, named as the released nets name them.

A blob is named like the convolution that makes it; its BatchNorm, Scale and
ReLU work in place on it.
"""

from __future__ import annotations

from resnet_proto.layers import BatchNorm, Convolution, Layer, ReLU, Scale


def convolution(
    name: str, bottom: str, num_output: int, kernel: int, stride: int = 1, *, bias: bool = False
) -> Convolution:
    """A convolution padded so that stride 1 keeps the size."""
    return Convolution.of(
        name,
        bottom,
        name,
        num_output=num_output,
        bias_term=bias,
        pad=kernel // 2,
        kernel_size=kernel,
        stride=stride,
    )


def batch_norm(blob: str) -> list[Layer]:
    """Normalise a blob in place, then multiply and add: Caffe's two layers for one.

    ``res2a_branch1`` gives ``bn2a_branch1`` and ``scale2a_branch1``; ``conv1`` gives ``bn_conv1``.
    """
    suffix = blob.removeprefix("res") if blob.startswith("res") else f"_{blob}"
    return [
        BatchNorm.of(f"bn{suffix}", blob, blob, use_global_stats=True),
        Scale.of(f"scale{suffix}", blob, blob, bias_term=True),
    ]


def relu(blob: str) -> ReLU:
    """The ReLU of a blob, in place."""
    return ReLU.of(f"{blob}_relu", blob, blob)
