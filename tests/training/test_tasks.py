"""Train nets of the tasks: data, losses and what is frozen."""

from dataclasses import replace

import pytest

from resnet_proto.build import deploy_net
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.generate import generate
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.recipe import Training
from resnet_proto.spec import DETECTION, TASKS, ResNetSpec, for_task
from resnet_proto.text_format import parse
from resnet_proto.training.tasks import FINISH
from resnet_proto.training.train_val import to_deploy, to_train_val

SMALL = ResNetSpec("small", (1, 1, 1), "bottleneck", width=(4,), stem_width=4)
ZERO = {"lr_mult": 0.0, "decay_mult": 0.0}


def specs_and_net(task, base=SMALL, training=None, **values):
    spec = for_task(base, task)
    spec = replace(spec, **values, training=replace(spec.training, **(training or {})))
    return spec, to_train_val(deploy_net(spec), spec.training, FINISH[task])


def train_net(*args, **values):
    return specs_and_net(*args, **values)[1]


def find(net, type):
    return [layer for layer in net.layers if layer.type == type]


def shapes_of(net, phase):
    return {
        top: shape
        for step in net.walk(phase)
        for top, shape in zip(step.layer.tops, step.tops, strict=True)
    }


def test_every_task_has_a_train_net():
    assert tuple(FINISH) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_text_round_trip(task):
    for name in ("resnet-50", "resnet-101"):
        net = train_net(task, PRESETS[name].spec)

        assert read_prototxt(to_prototxt(net)) == net


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_localization(phase):
    """Predictions and targets are weighted before they are compared."""
    net = train_net("localization", training={"data": "dummy", "batch": 6}, classes=7)

    shapes = shapes_of(net, phase)

    assert shapes["bbox_pred_weighted"] == shapes["bbox_targets_weighted"] == (6, 28)
    assert shapes["label"] == (6,)
    assert shapes["loss_bbox"] == shapes["loss"] == ()
    first, last = find(net, "Eltwise")[-2:]
    assert first.bottoms == ("bbox_pred", "bbox_weights")
    assert last.bottoms == ("bbox_targets", "bbox_weights")
    assert {layer.operation for layer in (first, last)} == {"PROD"}
    assert find(net, "EuclideanLoss")[0].bottoms == first.tops + last.tops


def test_localization_takes_its_data_from_hdf5():
    train, test = find(train_net("localization", training={"test_images": 90}), "HDF5Data")

    assert train.tops == test.tops == ("data", "label", "bbox_targets", "bbox_weights")
    assert train.param == {"source": "train_h5.txt", "batch_size": 32, "shuffle": True}
    assert test.param == {"source": "val_h5.txt", "batch_size": 45}
    assert test.fields["include"] == ({"phase": "TEST"},)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_segmentation(phase):
    net = train_net("segmentation", training={"data": "dummy", "batch": 3}, input_size=37)

    shapes = shapes_of(net, phase)

    assert (shapes["score_crop"], shapes["label"]) == ((3, 21, 37, 37), (3, 1, 37, 37))
    (loss,) = find(net, "SoftmaxWithLoss")
    assert (loss.bottoms, loss.ignore_label) == (("score_crop", "label"), 255)
    assert ("accuracy" in shapes) == (phase == "TEST")
    (up,) = find(net, "Deconvolution")
    assert (up.fields["param"], up.weight_filler) == ((ZERO,), {"type": "bilinear"})
    (score,) = [layer for layer in find(net, "Convolution") if layer.name == "score"]
    assert score.fields["param"] == ({"lr_mult": 10.0, "decay_mult": 1.0},) * 2


@pytest.mark.parametrize("task", ["localization", "segmentation"])
def test_the_way_back_gives_the_deploy_net(task):
    spec, net = specs_and_net(task)
    deploy = deploy_net(spec)

    assert to_deploy(net, deploy.inputs()["data"]).canonical() == deploy.canonical()


@pytest.mark.parametrize("task", ["segmentation", *DETECTION])
def test_batch_norm_is_frozen_where_batches_are_small(task):
    net = train_net(task)

    for layer in find(net, "BatchNorm"):
        assert layer.use_global_stats
        assert layer.fields["param"] == (ZERO,) * 3
    for layer in find(net, "Scale"):
        assert layer.fields["param"] == (ZERO,) * 2
    learned = [layer for layer in find(net, "Convolution") if "param" not in layer.fields]
    assert len(learned) > 10


def test_scale_is_frozen_in_the_nvidia_dialect_too():
    net = train_net("segmentation", dialect="nvidia")

    norms = find(net, "BatchNorm")
    assert len(norms) > 10
    for layer in norms:
        assert layer.fields["param"] == (ZERO,) * 5


# Name, type, bottoms, tops: github rbgirshick/py-faster-rcnn and YuwenXiong/py-R-FCN 290dba7,
# models/pascal_voc/ResNet-50/rfcn_end2end/train_agnostic.prototxt.
LAYERS = """
input-data     Python           -  data,im_info,gt_boxes
rpn-data       Python           rpn_cls_score,gt_boxes,im_info,data  rpn_labels,rpn_bbox_targets,\
rpn_bbox_inside_weights,rpn_bbox_outside_weights
rpn_loss_cls   SoftmaxWithLoss  rpn_cls_score_reshape,rpn_labels  rpn_cls_loss
rpn_loss_bbox  SmoothL1Loss     rpn_bbox_pred,rpn_bbox_targets,rpn_bbox_inside_weights,\
rpn_bbox_outside_weights rpn_loss_bbox
proposal       Python           rpn_cls_prob_reshape,rpn_bbox_pred,im_info  rpn_rois
roi-data       Python           rpn_rois,gt_boxes  rois,labels,bbox_targets,bbox_inside_weights,\
bbox_outside_weights
"""


@pytest.mark.parametrize("task", DETECTION)
def test_layers_of_the_public_detectors(task):
    net = train_net(task)
    rows = {
        layer.name: [layer.name, layer.type, ",".join(layer.bottoms) or "-", ",".join(layer.tops)]
        for layer in net.layers
    }

    for line in LAYERS.strip().splitlines():
        assert rows[line.split()[0]] == line.split()
    names = list(rows)
    assert names.index("rpn-data") < names.index("proposal") < names.index("roi-data")
    assert "cls_prob" not in rows
    modules = {layer.name: layer.fields["python_param"]["module"] for layer in find(net, "Python")}
    assert modules == {
        "input-data": "roi_data_layer.layer",
        "rpn-data": "rpn.anchor_target_layer",
        "proposal": "rpn.proposal_layer",
        "roi-data": "rpn.proposal_target_layer",
    }


def test_values_of_the_public_detectors():
    for task, classes, boxes in (("faster-r-cnn", 81, "bbox_pred"), ("r-fcn", 2, "bbox_pred_pre")):
        layers = {layer.name: layer for layer in train_net(task, PRESETS["resnet-50"].spec).layers}

        texts = {
            name: layers[name].fields["python_param"]["param_str"]
            for name in ("input-data", "rpn-data", "roi-data")
        }
        assert texts == {
            "input-data": "'num_classes': 81",
            "rpn-data": "'feat_stride': 16",
            "roi-data": f"'num_classes': {classes}",
        }
        assert layers["rpn_loss_bbox"].sigma == 3.0
        assert layers["rpn_loss_cls"].fields["loss_param"] == {
            "ignore_label": -1, "normalize": True
        }  # fmt: skip
        assert layers["loss_bbox"].bottoms[0] == boxes
        assert layers["loss_cls"].bottoms == ("cls_score", "labels")
        assert layers["rpn_conv/3x3"].weight_filler == {
            "type": "gaussian",
            "std": pytest.approx(0.01),
        }


@pytest.mark.parametrize("task", DETECTION)
def test_solver_and_script_of_py_faster_rcnn(task):
    texts = generate(for_task(SMALL, task))

    solver = parse(texts["solver.prototxt"], "SolverParameter")
    assert (solver["train_net"], solver["snapshot"]) == ("train_val.prototxt", 0)
    assert not {"net", "test_iter", "test_interval"} & solver.keys()
    assert (solver["iter_size"], solver["stepvalue"], solver["max_iter"]) == (
        8,
        (240_000,),
        320_000,
    )
    script = texts["train.sh"]
    assert "tools/train_net.py" in script
    assert "--imdb coco_2014_train --iters 320000" in script
    assert {"faster-r-cnn": "faster_rcnn", "r-fcn": "rfcn"}[task] + "_end2end.yml" in script
    spec = replace(for_task(SMALL, task), training=replace(for_task(SMALL, task).training,
                                                           weights="a b.caffemodel"))  # fmt: skip
    assert "--weights 'a b.caffemodel'" in generate(spec)["train.sh"]


def test_segmentation_trains_twenty_thousand_iterations():
    solver = parse(generate(for_task(SMALL, "segmentation"))["solver.prototxt"], "SolverParameter")

    assert (solver["max_iter"], solver["lr_policy"]) == (20_000, "poly")
    assert solver["test_iter"] == (207,)


def test_a_comment_says_which_caffe_is_needed():
    for task in TASKS:
        texts = generate(for_task(SMALL, task))
        for file in ("deploy.prototxt", "train_val.prototxt"):
            first = texts[file].splitlines()[0]
            assert first.startswith("# This net needs a fork") == (task in DETECTION)
    text = generate(for_task(SMALL, "faster-r-cnn"))["train_val.prototxt"]
    head = text[: text.index("name:")]
    for type in ("ROIPooling", "SmoothL1Loss", "Python, rpn", "WITH_PYTHON_LAYER"):
        assert type in head
    assert "PSROIPooling" not in head
    assert "Proposal" not in head


@pytest.mark.parametrize(
    ("task", "training", "message"),
    [
        ("segmentation", {"data": "lmdb"}, "goes with training.data hdf5 or dummy; it is lmdb"),
        ("localization", {"data": "memory"}, "goes with training.data hdf5 or dummy"),
        ("r-fcn", {"data": "hdf5"}, "data is hdf5, launcher py-faster-rcnn"),
        ("classification", {"launcher": "py-faster-rcnn"}, "data is lmdb, launcher py-faster"),
    ],
)
def test_data_that_a_task_cannot_have(task, training, message):
    with pytest.raises(ResNetProtoError, match=message):
        train_net(task, training=training)
    assert train_net(task)


def test_images_with_a_label_do_not_come_from_a_detectors_layer():
    training = Training(data="roi-data", launcher="py-faster-rcnn")

    with pytest.raises(NetError, match="data is roi-data, which detection takes"):
        to_train_val(deploy_net(SMALL), training)


def test_finetuning_raises_the_rate_of_every_head():
    net = train_net("localization", training={"finetune": True}, classes=7)

    fast = {
        layer.name
        for layer in net.layers
        if layer.fields.get("param", ({},))[0].get("lr_mult") == 10
    }

    assert fast == {"fc7", "bbox_pred"}


def test_a_detector_with_names_of_its_own():
    """What is put behind its ends goes by name; the twin has the names."""
    spec = for_task(SMALL, "faster-r-cnn")
    text = to_prototxt(deploy_net(spec))
    other = read_prototxt(text.replace('"cls_prob"', '"scores of classes"'))

    with pytest.raises(NetError, match="by the names of py-faster-rcnn: layer 'cls_prob'"):
        to_train_val(other, spec.training, FINISH["faster-r-cnn"])
    assert to_train_val(read_prototxt(text), spec.training, FINISH["faster-r-cnn"])
