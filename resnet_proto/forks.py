"""Which Caffe a net needs, and why, where mainline is not enough."""

from __future__ import annotations

from resnet_proto.net import Net

FORKS = {
    "Axpy": "SENet's (github hujie-frank/SENet); OpenCV's dnn runs it too",
    "BN": "segmentation forks, each with fields of its own (github hszhao/PSPNet,"
    " alexgkendall/caffe-segnet)",
    "ConvolutionDepthwise": "github BVLC/caffe #5665; as Convolution with a group for each channel"
    " it runs anywhere",
    "DepthwiseConvolution": "github yonghenglh6/DepthwiseConvolution; as Convolution it runs"
    " anywhere",
    "DetectionOutput": "SSD's (github weiliu89/caffe, branch ssd); OpenCV's dnn runs it too",
    "Interp": "DeepLab's (github xmyqsh/deeplab-v2, hszhao/PSPNet); OpenCV's dnn runs it too",
    "Normalize": "SSD's (github weiliu89/caffe, branch ssd); OpenCV's dnn runs it too",
    "PSROIPooling": "R-FCN's (github daijifeng001/caffe-rfcn); OpenCV's dnn runs it too",
    "Permute": "SSD's (github weiliu89/caffe, branch ssd); OpenCV's dnn runs it too",
    "PriorBox": "SSD's (github weiliu89/caffe, branch ssd); OpenCV's dnn runs it too",
    "Proposal": "forks with it in C++ (github openvinotoolkit/training_toolbox_caffe,"
    " foss-for-synopsys-dwc-arc-processors/synopsys-caffe); OpenCV's dnn runs it too",
    "ROIPooling": "Fast R-CNN's (github rbgirshick/caffe-fast-rcnn); OpenCV's dnn runs it too",
    "ReLU6": "MobileNet's (github chinakook/relu6.caffe); OpenCV's dnn runs it too",
    "ShuffleChannel": "ShuffleNet's (github farmingyard/ShuffleNet); OpenCV's dnn runs it too",
    "SmoothL1Loss": "Fast R-CNN's (github rbgirshick/caffe-fast-rcnn), with four bottoms",
    "Upsample": "SegNet's (github alexgkendall/caffe-segnet, TimoSaemann/caffe-segnet-cudnn5)",
}
"""Layer type -> whose Caffe has it."""
MODULES = {
    "roi_data_layer": "lib/ of github rbgirshick/py-faster-rcnn; for R-FCN YuwenXiong/py-R-FCN",
    "rpn": "the same",
}
"""First part of a Python layer's module -> where it comes from."""


def needs(net: Net) -> tuple[str, ...]:
    """Lines that say which Caffe a net needs; none where mainline will do."""
    types = {layer.type: layer.name for layer in net.layers if layer.type in FORKS}
    modules = {
        str(layer.fields.get("python_param", {}).get("module", "")).split(".")[0]
        for layer in net.layers
        if layer.type == "Python"
    }
    lines = [f"  {type}: {FORKS[type]}" for type in sorted(types)]
    lines += [f"  Python, {name}: {MODULES[name]}" for name in sorted(modules & MODULES.keys())]
    if modules:
        lines.append("  Python layers: a Caffe built with WITH_PYTHON_LAYER := 1")
    head = "This net needs a fork of Caffe. Mainline lacks these layers, or what they import:"
    return (head, *lines) if lines else ()
