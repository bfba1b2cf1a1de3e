"""A net as a PyTorch module: what it computes, learns and carries."""

import copy
import shutil

import numpy as np
import pytest
from small_nets import data, net, random_input, random_weights, residual

from resnet_proto import forward, load, read_prototxt, save
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.errors import NetError, UnknownLayerError, WeightsError
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Dropout,
    Eltwise,
    InnerProduct,
    LSTMUnit,
    Pooling,
    ReLU,
    make_layer,
)
from resnet_proto.net import Net

torch = pytest.importorskip("torch", reason="torch is not here: make oracles says how to get it")
from resnet_proto import to_torch  # noqa: E402, it imports torch


def arrays(outputs):
    return {name: value.detach().numpy() for name, value in outputs.items()}


def assert_equal(ours, reference):
    assert ours.keys() <= reference.keys()
    for name, value in ours.items():
        assert relative_l2(value, reference[name]) <= TOLERANCE, name


def test_outputs_and_inputs():
    """What nothing reads, or what was asked for; inputs in order or by name, of any batch."""
    two = Net(
        "two",
        (
            data(2, 3, 7, 5, name="a"),
            data(2, 3, 7, 5, name="b"),
            ReLU.of("ra", "a", "x"),
            Eltwise.of("sum", ("x", "b"), "s", coeff=(2.0, -1.0)),
            ReLU.of("rs", "s", "s"),
            ReLU.of("unread", "a", "u"),
        ),
    )
    a, b = (torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    expected = (2 * a.relu() - b).relu()

    module = to_torch(two, {})

    assert list(module(a, b)) == ["s", "u"]
    assert torch.equal(module(a, b)["s"], expected)
    assert torch.equal(module(b=b, a=a)["s"], expected)
    assert torch.equal(to_torch(two, {}, outputs=["x"])(a)["x"], a.relu())
    for inputs, named, message in (
        ([a], {}, "input 'b' is missing; the net has a 2x3x7x5, b 2x3x7x5"),
        ([a, b, a], {}, "3 inputs were given; the net has a"),
        ([a], {"a": a}, "input 'a' is given twice, or not"),
        ([a], {"c": b}, "input 'c' is given twice, or not"),
    ):
        with pytest.raises(NetError, match=message):
            module(*inputs, **named)


def test_one_submodule_for_each_layer():
    some_net = residual()
    module = to_torch(some_net, random_weights(some_net))

    assert [name for name, _ in module.named_children()] == [
        layer.name for layer in some_net.layers[1:]
    ]
    assert "(pool1): Pooling(kernel_size=3, stride=2; conv1 -> pool1)" in str(module)
    assert {name for name, _ in module.bn_conv1.named_buffers()} == {
        "mean", "variance", "scale_factor",
    }  # fmt: skip
    assert list(module.state_dict()) == list(random_weights(some_net))


def test_the_released_net(half_width, tmp_path):
    """A file goes through torch into a module, and the module computes what Caffe's net does."""
    prototxt, model = half_width
    half, weights = read_prototxt(prototxt), load(model)
    x = np.random.default_rng(3).uniform(-128, 128, (1, 3, 224, 224)).astype(np.float32)
    save(tmp_path / "half.pt", weights, half)

    module = to_torch(half)
    module.load_state_dict(torch.load(tmp_path / "half.pt", weights_only=True))

    with torch.inference_mode():
        ours = arrays(module(torch.tensor(x)))
    assert_equal(ours, forward(half, weights, x, dtype="float64", outputs=["prob"]))


SMALL = net(
    Convolution.of("in/1.a", "data", "c", num_output=4, kernel_size=3, pad=1),
    BatchNorm.of("forward", "c", "c"),
    ReLU.of("r", "c", "c"),
    Pooling.of("p", "c", "p", kernel_size=2, stride=2, pad=1, pool="AVE"),
    InnerProduct.of("50%", "p", "fc", num_output=6),
)


def test_export_and_compile(tmp_path):
    """The whole graph, without a break, and names with dots and slashes."""
    odd = SMALL
    module = to_torch(odd, random_weights(odd))
    x = torch.tensor(random_input(odd)["data"])
    expected = module(x)["fc"]
    assert_equal({"fc": expected.detach().numpy()},
                 forward(odd, random_weights(odd), x.numpy(), dtype="float64"))  # fmt: skip

    program = torch.export.export(module, (x,))
    torch.export.save(program, tmp_path / "odd.pt2")
    loaded = torch.export.load(tmp_path / "odd.pt2").module()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")

    torch.testing.assert_close(loaded(x)["fc"], expected)
    torch.testing.assert_close(compiled(x)["fc"], expected)
    torch.testing.assert_close(copy.deepcopy(module)(x)["fc"], expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++, with g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its parts
def test_inductor(tmp_path, monkeypatch):
    """`torch.compile` as it is by default, into C++."""
    import torch._inductor.config as config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config, "compile_threads", 1)
    monkeypatch.setattr(config, "cpp_cache_precompile_headers", False)
    module = to_torch(SMALL, random_weights(SMALL))
    x = torch.tensor(random_input(SMALL)["data"])

    compiled = torch.compile(module, fullgraph=True)
    with torch.no_grad():
        answer = compiled(x)["fc"]

    ours = forward(SMALL, random_weights(SMALL), x.numpy(), dtype="float64", outputs=["fc"])
    assert_equal({"fc": answer.numpy()}, ours)


def train_net(**values):
    return net(
        Convolution.of("conv", "data", "c", num_output=4, kernel_size=3),
        BatchNorm.of("bn", "c", "b", **values),
    )


def test_batch_norm_in_training():
    """batch_norm_layer.cpp by hand: the batch normalises, and the sums take it in.

    Torch's own BatchNorm2d gives the top, and the variance that it keeps is the unbiased one too.
    """
    some_net = train_net(moving_average_fraction=0.9)
    weights = random_weights(some_net)
    x = torch.tensor(random_input(some_net)["data"])
    module = to_torch(some_net, weights).train()
    theirs = torch.nn.BatchNorm2d(4, momentum=1.0).train()

    y = module(x)["b"]
    module(x)

    c = to_torch(some_net, weights, outputs=["c"])(x)["c"]
    torch.testing.assert_close(y, theirs(c), rtol=1e-4, atol=1e-5)
    for name, batch in (("mean", theirs.running_mean), ("variance", theirs.running_var)):
        before = torch.tensor(weights[f"bn.{name}"])
        expected = 0.9 * (0.9 * before + batch) + batch
        torch.testing.assert_close(getattr(module.bn, name), expected.detach())
    factor = 0.9 * (0.9 * weights["bn.scale_factor"] + 1) + 1
    np.testing.assert_allclose(module.bn.scale_factor.numpy(), factor, rtol=1e-6)

    after = {k: v.numpy() for k, v in module.state_dict().items()}
    assert_equal(arrays(module.eval()(x)), forward(some_net, after, x.numpy(), dtype="float64"))


def test_statistics_that_stay():
    """use_global_stats: true holds at TRAIN too."""
    some_net = train_net(use_global_stats=True)
    module = to_torch(some_net, random_weights(some_net))
    x = torch.tensor(random_input(some_net)["data"])

    assert torch.equal(module(x)["b"], module.train()(x)["b"])
    assert module.bn.mean.tolist() == random_weights(some_net)["bn.mean"].tolist()


def test_gradients():
    """Of every weight through the batch's statistics, against differences in float64.

    In a direction drawn at random, so for all values of a weight at once.
    """
    some_net = residual((3, 3, 9, 7))
    module = to_torch(some_net, random_weights(some_net)).double().train()
    x = torch.tensor(random_input(some_net)["data"]).double()
    names = ["conv1.weight", "bn_conv1", "a1.weight", "scale_b2c.weight", "fc.bias"]
    picked = [p for name, p in module.named_parameters() if name in names]

    def loss(*values):
        state = dict(zip([n for n in names if n != "bn_conv1"], values, strict=True))
        return torch.func.functional_call(module, state, (x,))["prob"].log()[:, 1].sum()

    assert len(picked) == 4
    assert torch.autograd.gradcheck(loss, [p.detach().requires_grad_() for p in picked],
                                    eps=1e-6, atol=1e-5, fast_mode=True)  # fmt: skip


def test_dropout_in_training():
    """dropout_layer.cpp: what survives is divided by what is kept."""
    module = to_torch(net(Dropout.of("d", "data", "y", dropout_ratio=0.25)), {})
    x = torch.ones(4, 3, 50, 50)

    assert torch.equal(module(x)["y"], x)
    y = module.train()(x)["y"]

    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs((y == 0).double().mean().item() - 0.25) < 0.02


def named_conv(name, bottom, top, **param):
    return make_layer(
        name, "Convolution", (bottom,), (top,),
        {
            "convolution_param": {"num_output": 3, "kernel_size": (3,), "bias_term": False},
            "param": ({"name": "w", **param},),
        },
    )  # fmt: skip


def test_shared_and_frozen():
    """One parameter for both, whose gradient is the sum of both; none for what has rate 0."""
    shared = net(named_conv("one", "data", "x"), named_conv("two.b", "x", "y"))
    weights = {"one.weight": random_weights(shared)["one.weight"]}
    module = to_torch(shared, weights)
    x = torch.tensor(random_input(shared)["data"])

    (parameter,) = module.parameters()
    module(x)["y"].square().sum().backward()

    w = torch.tensor(weights["one.weight"], requires_grad=True)
    conv = torch.nn.functional.conv2d
    conv(conv(x, w), w).square().sum().backward()
    torch.testing.assert_close(parameter.grad, w.grad)
    assert list(module.state_dict()) == ["one.weight"]
    frozen = net(named_conv("one", "data", "x"), named_conv("two.b", "x", "y", lr_mult=0.0))
    assert not to_torch(frozen, weights).one.weight.requires_grad


def test_what_is_refused():
    unknown = net(make_layer("odd", "Guess", ("data",), ("y",)))
    known = net(InnerProduct.of("fc", "data", "y", num_output=6))
    lstm = Net("n", (data(1, 2, 3, name="c"), data(1, 2, 12, name="x"),
                     LSTMUnit.of("u", ("c", "x", "c"), ("c1", "h1"))))  # fmt: skip

    with pytest.raises(UnknownLayerError, match="has type 'Guess'"):
        to_torch(unknown, {})
    with pytest.raises((UnknownLayerError, NetError), match="layer 'u'"):
        to_torch(lstm, {})
    with pytest.raises(WeightsError, match="layer 'fc': weight is missing"):
        to_torch(known, {})
    with pytest.raises(NetError, match="the net is at phase TRAIN"):
        to_torch(known.at(phase="TRAIN"))
    assert to_torch(known).fc.weight.shape == (6, 105)
