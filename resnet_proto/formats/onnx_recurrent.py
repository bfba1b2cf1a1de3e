"""LSTM, RNN and LSTMUnit -> nodes of ONNX, step after step.

ONNX has an LSTM and an RNN of its own, but none whose state ends where ``cont`` is 0; and a Scan or
a Loop is read by few runtimes. So each step stands by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import UnknownLayerError

if TYPE_CHECKING:
    from resnet_proto.formats.onnx_graph import Site
    from resnet_proto.layers import LSTM, RNN, LSTMUnit

MOST_STEPS = 1000
"""A step of an LSTM is 16 nodes."""


def recurrent(site: Site, layer: LSTM | RNN) -> None:
    """Gemm for all steps at once, Split, and the nodes of each step.

    Raises:
        UnknownLayerError: too many steps.
    """
    x, cont, *others = site.bottoms
    steps, streams = site.step.bottoms[0][:2]
    outputs = layer.num_output
    if steps > MOST_STEPS:
        raise UnknownLayerError(
            f"layer '{layer.name}' ({layer.type}): {steps} steps would be written one by one, and "
            f"{MOST_STEPS} are the most; give the net fewer (--input-shape)"
        )
    weight, bias, *rest = (site.constant(name, blob) for name, blob in site.blobs.items())
    gates = site.op("Gemm", [site.op("Flatten", [x], axis=2), weight, bias], transB=1)
    if layer.static:
        same = site.op("Flatten", [others.pop(0)], axis=1)
        same = site.op("Gemm", [same, rest.pop(0)], transB=1)
        if steps > 1:
            same = site.op("Tile", [same, site.sizes("repeats", (steps, 1))])
        gates = site.op("Add", [gates, same])
    of_h, *output = rest
    kept = site.reshape(cont, (steps, streams), (steps * streams, 1))
    shape, state_shape = (streams, outputs), (1, streams, outputs)
    state = [site.reshape(h, state_shape, shape) for h in others] or [""] * layer.state
    made = []
    each = (streams,) * steps
    for gate, keep in zip(site.split(gates, each, 0), site.split(kept, each, 0), strict=True):
        value = gate
        if state[0]:
            before = site.op("Mul", [state[0], keep])
            value = site.op("Add", [gate, site.op("Gemm", [before, of_h], transB=1)])
        if layer.type == "LSTM":
            c, h = unit(site, state[1], value, keep, outputs, 1)
            state = [h, c]
        else:
            state = [site.op("Tanh", [value])]
        made.append(state[0])
    top = site.op("Concat", made, axis=0) if steps > 1 else made[0]
    if output:
        top = site.op("Tanh", [site.op("Gemm", [top, *output], transB=1)])
    site.reshape(top, (steps * streams, outputs), (steps, streams, outputs), site.tops[0])
    for value, name in zip(state, site.tops[1:], strict=False):
        site.reshape(value, shape, state_shape, name)


def lstm_unit(site: Site, layer: LSTMUnit) -> None:
    """One step."""
    c, gates, cont = site.bottoms
    shape = site.step.bottoms[2]
    keep = site.reshape(cont, shape, (*shape, 1))
    unit(site, c, gates, keep, site.step.bottoms[0][2], 2, *site.tops)


def unit(
    site: Site, c: str, gates: str, cont: str, size: int, axis: int, new_c: str = "", h: str = ""
) -> tuple[str, str]:
    """The new c, and h, which are called ``new_c`` and ``h``.

    ``c`` is that before the step, or empty where it is 0. Along ``axis`` the gates have ``size``
    values for each of input, forget, output and what is taken in, and ``cont`` has one.
    """
    through, g = site.split(gates, (3 * size, size), axis)
    i, f, o = site.split(gate(site, through), (size,) * 3, axis)
    taken = site.op("Mul", [i, site.op("Tanh", [g])], "" if c else new_c)
    if c:
        kept = site.op("Mul", [cont, f])
        taken = site.op("Add", [site.op("Mul", [kept, c]), taken], new_c)
    return taken, site.op("Mul", [o, site.op("Tanh", [taken])], h)


def gate(site: Site, x: str) -> str:
    """1 / (1 + exp(-x)): onnxruntime's Sigmoid is off by 3e-8, which is much where it is near 0."""
    y = site.op("Exp", [site.op("Neg", [x])])
    return site.op("Reciprocal", [site.op("Add", [y, site.number("one", 1)])])
