"""A net -> the spec that makes it, found in its graph and proven by making the net again.

    Net -> Graph -> the layers that everything passes -> stem, units, head -> ResNetSpec

Nothing is taken from names but the patterns of names. What a spec cannot express is an error that
says which layer, and what was expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import pairwise, product
from typing import Any, NamedTuple, TypeVar

from resnet_proto.build import deploy_net
from resnet_proto.build.units import PathStep
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.graph import Graph, Node, match
from resnet_proto.layers import dims, make_layer
from resnet_proto.naming import unnamed, with_names
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.recipe import RECIPES, training_for
from resnet_proto.render import shortest
from resnet_proto.spec import EXPANSION, ResNetSpec
from resnet_proto.training.train_val import is_train_val, to_deploy
from resnet_proto.trunk import trunk_of
from resnet_proto.words import counted

T = TypeVar("T")

WEIGHTED = ("Convolution", "InnerProduct")
PATH = frozenset({*WEIGHTED, "BatchNorm", "Scale", "ReLU", "Dropout"})
"""What a main path is made of."""
UNIT_KINDS = {
    ("3x3", "3x3"): "basic",
    ("1x1", "3x3", "1x1"): "bottleneck",
    ("InnerProduct", "InnerProduct"): "fully-connected",
}
"""The layers with weights on the main path of a unit -> what the unit is called."""
STEMS = {("7x7",): "7x7", ("3x3",): "3x3", ("3x3", "3x3", "3x3"): "deep", (): "none"}
STRIDES = (8, 16, 32)


class FoundUnit(NamedTuple):
    """A unit as it was found.

    Args:
        label: how messages call it.
        kind: basic, bottleneck, fully-connected.
        steps: the layers with weights of its main path; a matrix is a step of kernel 1.
        bias: for each step, whether it has one.
        shortcut: none, identity, projection, averaged, padded.
        kernel: of the shortcut's convolution.
        gate: a highway's; the bias that it begins with.
    """

    label: str
    kind: str
    steps: tuple[PathStep, ...]
    bias: tuple[bool, ...]
    shortcut: str
    kernel: int = 1
    gate: float | None = None

    @property
    def out(self) -> int:
        """Channels that leave it."""
        return self.steps[-1].channels

    @property
    def stride(self) -> int:
        """Of the main path."""
        return max(step.stride for step in self.steps)

    @property
    def middle(self) -> PathStep:
        """The 3x3 of a bottleneck, the first step of others."""
        return self.steps[len(self.steps) - 2]


class Parts(NamedTuple):
    """A net taken to pieces.

    Args:
        stem: its convolutions. ``pool`` likewise, what follows it.
        units: one after the other, with no regard to stages.
        behind: the type of the layer behind the last sum.
        last_pool: what stands before the classifier.
    """

    stem: tuple[Node, ...]
    pool: Node | None
    units: tuple[FoundUnit, ...]
    behind: str
    last_pool: Node | None
    classifier: Node


def recognize(net: Net, warnings: list[str] | None = None) -> ResNetSpec:
    """The spec whose deploy net has the same graph as the net.

    Args:
        net: a deploy net, or a train_val net whose data layers say the size of an image.
        warnings: where to say what the spec's net does otherwise: names, a batch.

    Raises:
        NetError: no spec makes this net; the message says which layer is in the way.
    """
    warnings = [] if warnings is None else warnings
    try:
        if is_train_val(net):
            net = to_deploy(net)
        if len(net.inputs()) == 1:
            net = one_image(net, warnings)
        trunk = trunk_of(net)
        graph = Graph.of(one_image(trunk.net, warnings))
        specs = proven(net.name, graph, parts_of(graph))
        if trunk.fields["task"] != ResNetSpec.task:
            graph = Graph.of(net)
            specs = [for_its_task(spec, graph, **trunk.fields) for spec in specs]
        spec, _ = max((with_names(spec, graph) for spec in specs), key=lambda found: found[1])
        warnings += unnamed(spec, graph)
        return spec
    except ResNetProtoError as error:
        source = f"{net.source}: " if net.source else ""
        text = str(error)
        raise NetError(text if text.startswith(source) else f"{source}{text}") from None


def for_its_task(spec: ResNetSpec, graph: Graph, task: str, **fields: Any) -> ResNetSpec:
    """The spec with the head that a net has.

    Raises:
        NetError: the head is another one.
    """
    found = replace(spec, task=task, training=RECIPES[task].training, **fields)
    parting = match(graph, Graph.of(deploy_net(found)))[1]
    if parting is not None:
        raise NetError(f"{parting.layer} {parting.found}; expected {parting.expected} ({task})")
    return found


def one_image(net: Net, warnings: list[str]) -> Net:
    """The net for one image at a time.

    Raises:
        NetError: there is not one input, or it is no square image.
    """
    inputs = net.inputs()
    if len(inputs) != 1:
        raise NetError(f"the net has the inputs {', '.join(inputs) or 'none'}; expected one")
    ((name, shape),) = inputs.items()
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"the input '{name}' is {dims(shape)}; expected square images, 1xCxSxS")
    if shape[0] != 1:
        warnings.append(f"the input '{name}' is {dims(shape)}; the spec's net takes one image")
    param = {"input_param": {"shape": ({"dim": (1, *shape[1:])},)}}
    layers = (
        make_layer(layer.name, "Input", (), layer.tops, param) if layer.type == "Input" else layer
        for layer in net.upgraded().layers
    )
    rest = {key: value for key, value in net.fields.items() if not key.startswith("input")}
    return replace(net, layers=tuple(layers), fields=rest)


def proven(name: str, graph: Graph, parts: Parts) -> list[ResNetSpec]:
    """The specs that may be meant, as far as their nets have this graph.

    Raises:
        NetError: none has it; the message is that of the likeliest.
    """
    specs, messages = [], []
    for values in candidates(parts, graph):
        try:
            spec = ResNetSpec(name=name, **values)
            parting = match(graph, Graph.of(deploy_net(spec)))[1]
        except ResNetProtoError as error:
            messages.append(f"no spec makes this net: {error}")
            continue
        if parting is None:
            specs.append(spec)
        else:
            messages.append(f"{parting.layer} {parting.found}; expected {parting.expected}")
    if not specs:
        raise NetError(messages[0])
    return specs


# ---- a graph taken to pieces


def parts_of(graph: Graph) -> Parts:
    """Stem, units and head.

    Raises:
        NetError: something is no part of a residual net.
    """
    line = [graph.nodes[i] for i in passed(graph)]
    if [node.layer.type for node in line[-2:]] != ["InnerProduct", "Softmax"]:
        ends = [node for node in line[-2:] if node.before] or line  # an input alone, or no input
        raise NetError(
            f"the net ends in {' and '.join(map(str, ends))}; expected InnerProduct, Softmax"
        )
    body, classifier = line[:-2], line[-2]
    last_pool = body.pop() if body[-1].layer.type == "Pooling" else None
    joins = [
        node
        for node in body
        if node.layer.type == "Eltwise" or (len(node.before) > 1 and node.layer.type != "Scale")
    ]
    for join in joins:
        if join.layer.type != "Eltwise" or len(join.before) != 2:
            blobs = counted(len(join.before), "blob")
            raise NetError(f"{join} joins {blobs}; expected an Eltwise of path and shortcut")
    start = body.index(joins[0]) if joins else stem_end(body)
    stem = tuple(node for node in body[:start] if node.layer.type == "Convolution")
    pools = [node for node in body[:start] if node.layer.type == "Pooling"]
    units = residual_units(graph, body) if joins else plain_units(body[start:])
    behind = body[body.index(joins[-1]) + 1 :] if joins else []
    return Parts(
        stem,
        pools[0] if pools else None,
        tuple(units),
        behind[0].layer.type if behind else "",
        last_pool,
        classifier,
    )


def passed(graph: Graph) -> list[int]:
    """The layers that every path from the input to the end passes, in order.

    Raises:
        NetError: the net ends in several blobs.
    """
    n = len(graph.nodes)
    ends = [str(graph.nodes[i]) for i in range(n) if not graph.readers.get(i)]
    if len(ends) != 1:
        raise NetError(f"the net ends in {', '.join(ends) or 'nothing'}; expected one softmax")
    found, furthest = [], 0
    for i in range(n):
        if furthest <= i:
            found.append(i)
        furthest = max([furthest, *(j for j, _ in graph.readers.get(i, ()))])
    return found


def stem_end(body: Sequence[Node]) -> int:
    """Where the units of a net without sums begin: at the second or the fourth convolution."""
    places = [i for i, node in enumerate(body) if node.layer.type in WEIGHTED]
    if not places or body[places[0]].layer.type != "Convolution":
        return 0
    first = step_of(body[places[0]])
    n = 3 if (window(body[places[0]]), first.stride) == ("3x3", 2) else 1
    return places[n] if len(places) > n else len(body)


def plain_units(body: Sequence[Node]) -> Iterator[FoundUnit]:
    """The units of a net without sums: two or three layers with weights are one."""
    path = [node for node in body if node.layer.type in WEIGHTED]
    size = 3 if path and window(path[0]) == "1x1" else 2
    for i in range(0, len(path), size):
        yield unit_of(path[i : i + size], "none")


def residual_units(graph: Graph, body: Sequence[Node]) -> Iterator[FoundUnit]:
    """A unit for each sum that everything passes.

    Raises:
        NetError: what is joined is no path with a shortcut.
    """
    for entry, join in pairwise(body):
        if join.layer.type != "Eltwise":
            continue
        branches = [list(branch(graph, graph.nodes[i], entry)) for i in join.before]
        gates = [gate for nodes in branches for gate in gates_of(graph, nodes)]
        shortcut, path = sorted(branches, key=lambda nodes: len(weights(nodes)))
        wrong = [n for n in path if n.layer.type not in PATH and not is_product(n)]
        if wrong:
            raise NetError(
                f"{wrong[0]} is on the main path to {join}; "
                f"expected {', '.join(sorted(PATH))} there"
            )
        kernel = max((step_of(node).kernel for node in weights(shortcut)), default=1)
        unit = unit_of(weights(path), shortcut_kind(shortcut, join), join)
        yield unit._replace(kernel=kernel, gate=max(gates, default=None))


def branch(graph: Graph, node: Node, entry: Node) -> Iterator[Node]:
    """What lies between the entry of a unit and this layer, the layer first."""
    while node is not entry and node.sources:
        yield node
        sources = [graph.nodes[i] for i in node.before]
        if is_product(node):  # a gate's: the other factor is what it lets through
            sources.sort(key=lambda n: n.layer.type in ("Sigmoid", "Power"))
        node = sources[0]


def is_product(node: Node) -> bool:
    """Whether a layer multiplies blobs."""
    return node.layer.type == "Eltwise" and node.meaning["operation"] == "PROD"


def weights(nodes: Iterable[Node]) -> list[Node]:
    """The layers whose weights are learned, in order of computation."""
    found = [n for n in nodes if n.layer.type in WEIGHTED and not n.layer.fixed]
    return found[::-1]


def gates_of(graph: Graph, nodes: Sequence[Node]) -> Iterator[float]:
    """The bias that a transform gate begins with, where a product has one: T = Sigmoid(conv)."""
    for node in filter(is_product, nodes[:1]):
        for gate in (graph.nodes[i] for i in node.before):
            if gate.layer.type == "Sigmoid":
                conv = graph.nodes[gate.before[0]].layer
                value = conv.param.get("bias_filler", {}).get("value", ResNetSpec.gate_bias)
                yield min(0.0, value)


def shortcut_kind(nodes: Sequence[Node], join: Node) -> str:
    """What a shortcut is made of.

    Raises:
        NetError: nothing that is known.
    """
    types = {n.layer.type for n in nodes if not is_product(n)}
    if not types:
        return "identity"
    if "Concat" in types or any(n.layer.fixed for n in nodes):
        return "padded"
    if "Pooling" in types and weights(nodes):
        return "averaged"
    if weights(nodes):
        return "projection"
    raise NetError(
        f"the shortcut to {join} is {', '.join(n.layer.type for n in nodes[::-1])}; expected an "
        "identity, a projection, or zero padding by a fixed Convolution and Concat"
    )


def unit_of(path: Sequence[Node], shortcut: str, join: Node | None = None) -> FoundUnit:
    """A unit, from the layers with weights on its main path.

    Raises:
        NetError: no unit has such a path.
    """
    label = f"the unit that ends in {join or path[-1]}"
    windows = tuple(map(window, path))
    if windows not in UNIT_KINDS:
        known = "; ".join(",".join(known) for known in UNIT_KINDS)
        raise NetError(f"{label}: main path is {','.join(windows) or 'empty'}; expected {known}")
    steps = tuple(map(step_of, path))
    bias = tuple(bool(node.meaning["bias_term"]) for node in path)
    return FoundUnit(label, UNIT_KINDS[windows], steps, bias, shortcut)


def window(node: Node) -> str:
    """A convolution's kernel, ``3x3``; another layer's type."""
    return dims(node.meaning["kernel_size"]) if "kernel_size" in node.meaning else node.layer.type


def step_of(node: Node) -> PathStep:
    """A layer with weights, as a step of a path."""
    values = node.meaning
    if node.layer.type == "InnerProduct":
        return PathStep(1, values["num_output"])
    kernel, stride, dilation = (max(values[k]) for k in ("kernel_size", "stride", "dilation"))
    return PathStep(kernel, values["num_output"], stride, dilation, values["group"])


# ---- pieces -> fields


def candidates(parts: Parts, graph: Graph) -> Iterator[dict[str, Any]]:
    """The fields of each spec that may be meant, the likeliest first."""
    stem = tuple(map(window, parts.stem))
    if stem not in STEMS:
        known = "; ".join(",".join(known) for known in STEMS if known)
        raise NetError(f"the stem is {','.join(stem)}; expected {known}")
    check_units(parts.units)
    units = parts.units
    pre_activation = parts.behind == "BatchNorm"
    plain = all(unit.shortcut == "none" for unit in units)
    orders = ("original", "pre-activation")
    for order, stride_in in product(
        orders if plain else orders[pre_activation:][:1], stride_places(units)
    ):
        stages = list(staged(units, stride_in))
        values = {
            **whole_net(parts, graph),
            "stem": stem_kind(parts.stem),
            "order": order,
            "stride_in": stride_in,
            "stages": tuple(map(len, stages)),
            "unit": units[0].kind,
            **shortcuts(parts),
            **widths(stages),
            "output_stride": output_stride(stages, parts),
        }
        # 0.3 is 0.30000001192092896 as the net has it
        yield {k: float(shortest(v)) if isinstance(v, float) else v for k, v in values.items()}


def stem_kind(stem: Sequence[Node]) -> str:
    """What a stem of known windows is called."""
    kind = STEMS[tuple(map(window, stem))]
    channels = [step_of(node).channels for node in stem]
    return "tiered" if kind == "deep" and channels[0] != channels[1] else kind


def check_units(units: Sequence[FoundUnit]) -> None:
    """Refuse a net without units, of several kinds, or that begins with a stride.

    Raises:
        NetError: it is no net of units of one kind.
    """
    if not units:
        raise NetError("the net has no units: no sums, and no path of convolutions")
    for unit in units:
        if unit.kind != units[0].kind:
            raise NetError(
                f"{unit.label} is {unit.kind}, the first unit is {units[0].kind}; "
                "expected one kind for a net"
            )
    if units[0].stride > 1:
        raise NetError(
            f"{units[0].label} is the first and has stride {units[0].stride}; expected 1, as only "
            "the stem and later stages have strides"
        )


def whole_net(parts: Parts, graph: Graph) -> dict[str, Any]:
    """The fields that are one for the whole net."""
    of_type: dict[str, list[Node]] = {}
    for node in graph.nodes:
        of_type.setdefault(node.layer.type, []).append(node)
    (shape,) = (s["dim"] for s in of_type["Input"][0].meaning["shape"])
    norms = of_type.get("BatchNorm", [])
    neurons = [*norms, *of_type.get("Scale", []), *of_type.get("ReLU", [])]
    stem_bias = any(node.meaning["bias_term"] for node in parts.stem)
    connected = parts.units[0].kind == "fully-connected"
    dropouts = [
        node.meaning["dropout_ratio"]
        for i, node in enumerate(graph.nodes)
        if node.layer.type == "Dropout" and reads_weights(graph, i, but=parts.classifier)
    ]
    conv_bias = not connected and most([b for unit in parts.units for b in unit.bias], False)
    return {
        "input_channels": shape[1],
        "input_size": shape[2],
        "classes": parts.classifier.meaning["num_output"],
        "training": training_for(shape[1], shape[2]),
        "head": "global" if last_pool_is_global(parts) else "fixed",
        "pool": pool_kind(parts.pool),
        **({"stem_width": step_of(parts.stem[-1]).channels} if parts.stem else {}),
        "conv_bias": conv_bias,
        "conv1_bias": stem_bias and not conv_bias,
        "eps": most([n.meaning["eps"] for n in norms], ResNetSpec.eps),
        "moving_average_fraction": most(
            [n.meaning["moving_average_fraction"] for n in norms],
            ResNetSpec.moving_average_fraction,
        ),
        "in_place": most([node.layer.in_place for node in neurons], True),
        "dialect": "nvidia" if any(n.meaning["scale_bias"] for n in norms) else "mainline",
        "dropout": most(dropouts, 0.0),
        **squeeze(graph, of_type.get("Scale", [])),
    }


def reads_weights(graph: Graph, i: int, but: Node) -> bool:
    """Whether a layer with weights, but not this one, reads a layer."""
    readers = [graph.nodes[j] for j, _ in graph.readers.get(i, ())]
    return any(node.layer.type in WEIGHTED and node is not but for node in readers)


def most(values: Sequence[T], default: T) -> T:
    """The value that is there most often."""
    return Counter(values).most_common(1)[0][0] if values else default


def last_pool_is_global(parts: Parts) -> bool:
    """Whether the net takes the mean of a map of any size."""
    return parts.last_pool is not None and bool(parts.last_pool.meaning["global_pooling"])


def pool_kind(pool: Node | None) -> str:
    """The pooling after the stem."""
    if pool is None:
        return "none"
    return "padded" if any(pool.meaning["pad"]) else "ceil"


def squeeze(graph: Graph, scales: Sequence[Node]) -> dict[str, Any]:
    """By how much squeeze and excitation reduces; its units agree, or are told apart later.

    Raises:
        NetError: a gate is made of other layers.
    """
    pairs: list[tuple[int, int]] = []
    relu = False
    for node in scales:
        if len(node.sources) == 2:
            gate = list(branch(graph, graph.nodes[node.before[1]], graph.nodes[0]))[:5]
            types = [n.layer.type for n in gate[::-1]]
            if types != ["Pooling", "InnerProduct", "ReLU", "InnerProduct", "Sigmoid"]:
                raise NetError(
                    f"{node} multiplies by what {', '.join(types)} make; "
                    "expected Pooling, InnerProduct, ReLU, InnerProduct, Sigmoid"
                )
            pairs.append((gate[1].meaning["num_output"], gate[3].meaning["num_output"]))
            relu = graph.nodes[node.before[0]].layer.type == "ReLU"
    return squeezes(pairs) | {"squeeze_relu": relu} if pairs else {}


def squeezes(pairs: Sequence[tuple[int, int]]) -> dict[str, int]:
    """The fields that squeeze so: for each unit, channels and what they are reduced to.

    Where no reduction gives all, the fewest channels are a least that others are not under.
    """
    found = {}
    for fewest in (1, min(inner for _, inner in pairs)):
        low = max(out // (inner + 1) + 1 for out, inner in pairs)
        high = min((out // inner for out, inner in pairs if inner > fewest), default=max(16, low))
        found = {"squeeze": 16 if low <= 16 <= high else high, "squeeze_least": fewest}
        if low <= high:
            break
    return found


def stride_places(units: Sequence[FoundUnit]) -> tuple[str, ...]:
    """Which convolution has the stride; both where no unit tells."""
    if units[0].kind != "bottleneck":
        return ("first",)
    for unit in units:
        if unit.stride > 1:
            return ("3x3",) if unit.middle.stride > 1 else ("first",)
    return ("first", "3x3")


def staged(units: Sequence[FoundUnit], stride_in: str) -> Iterator[list[FoundUnit]]:
    """The units of each stage: it begins where stride, width or dilation change.

    One of matrices also begins where one projects that could have kept its shape.
    """
    stage: list[FoundUnit] = []
    mixed = units[0].kind == "fully-connected" and any(u.shortcut == "identity" for u in units)
    dilations = [unit.middle.dilation for unit in units]
    if stride_in == "3x3":  # the 3x3 of a first unit has the dilation of the stage before
        dilations = [*dilations[1:], dilations[-1]]
    elif units[0].kind == "basic":
        dilations = [unit.steps[-1].dilation for unit in units]
    for i, unit in enumerate(units):
        if stage and (
            unit.stride > 1
            or unit.out != stage[-1].out
            or unit.middle.channels != stage[-1].middle.channels
            or dilations[i] != dilations[i - 1]
            or (mixed and unit.shortcut == "projection")
        ):
            yield stage
            stage = []
        stage.append(unit)
    yield stage


def shortcuts(parts: Parts) -> dict[str, Any]:
    """Kind of the shortcuts; whether the first unit of the net projects what keeps its shape."""
    units = parts.units
    before = [step_of(parts.stem[-1]).channels if parts.stem else 0, *(u.out for u in units)]
    kept = [
        unit.shortcut == "projection"
        for unit, channels in zip(units, before, strict=False)
        if unit.stride == 1 and unit.out == channels
    ]
    first_kept = units[0].stride == 1 and units[0].out == before[0]
    kinds = {unit.shortcut for unit in units}
    gates = [unit.gate for unit in units if unit.gate is not None]
    everywhere = all(kept) and len(kept) > first_kept
    kind = next(
        (name for found, name in (
            ("none" in kinds, "none"),
            ("padded" in kinds, "A"),
            ("averaged" in kinds, "D"),
            (everywhere, "C"),
        ) if found),
        "B",
    )  # fmt: skip
    return {
        "shortcut": kind,
        "project_first_stage": kind in "BD" and first_kept and kept[0],
        "projection_kernel": max(unit.kernel for unit in units) if kind in "BC" else 1,
        "highway": bool(gates),
        "gate_bias": most(gates, ResNetSpec.gate_bias),
    }


def widths(stages: Sequence[Sequence[FoundUnit]]) -> dict[str, Any]:
    """Widths of the stages, groups and their width.

    Raises:
        NetError: no base width gives the channels of the 3x3.
    """
    first = [stage[0] for stage in stages]
    kind = first[0].kind
    values = []
    for unit in first:
        if unit.out % EXPANSION[kind]:
            raise NetError(
                f"{unit.label}: {unit.out} channels leave it; expected a multiple of "
                f"{EXPANSION[kind]} for a {kind} unit"
            )
        values.append(unit.out // EXPANSION[kind])
    found: dict[str, Any] = {"width": shortened(values)}
    if kind == "bottleneck":
        groups = first[0].middle.group
        inner = [unit.middle.channels // groups for unit in first]
        found["halve_first"] = any(u.steps[0].channels < u.middle.channels for u in first)
        found |= {"cardinality": groups, "base_width": base_width(values, inner, first)}
    return found


def shortened(values: Sequence[int]) -> tuple[int, ...]:
    """Widths without those at the end that the spec gets by doubling."""
    kept = [*values]
    while len(kept) > 1 and kept[-1] == 2 * kept[-2]:
        kept.pop()
    return tuple(kept)


def base_width(values: Sequence[int], inner: Sequence[int], units: Sequence[FoundUnit]) -> int:
    """The base width that gives each stage the channels that a group of its 3x3 has.

    Raises:
        NetError: none does for all of them.
    """
    least, below = 1, 1 << 24
    for value, channels, unit in zip(values, inner, units, strict=True):
        low = -(-64 * channels // value) if channels > 1 else 1
        high = -(-64 * (channels + 1) // value)
        if max(least, low) >= min(below, high):
            raise NetError(
                f"{unit.label}: its 3x3 has {unit.middle.channels} channels; expected "
                f"{max(1, value * least // 64) * unit.middle.group}, as wide for its width as the "
                "stages before"
            )
        least, below = max(least, low), min(below, high)
    return 64 if least <= 64 < below else least


def output_stride(stages: Sequence[Sequence[FoundUnit]], parts: Parts) -> int:
    """Where strides end: before the first stage that begins without one; 0 where none does.

    Raises:
        NetError: at a stride that no spec has.
    """
    reached = 1
    for node in (*parts.stem, *([parts.pool] if parts.pool else [])):
        reached *= max(node.meaning["stride"])
    for stage in stages[1:]:
        unit = stage[0]
        if unit.stride == 1 and unit.kind != "fully-connected":
            if reached not in STRIDES:
                raise NetError(
                    f"{unit.label} begins a stage without a stride, at {reached} pixels; expected "
                    f"stride 2, or dilation from {', '.join(map(str, STRIDES))} pixels on"
                )
            return reached
        reached *= unit.stride
    return 0


# ---- what it is like


def nearest_preset(spec: ResNetSpec) -> tuple[str, dict[str, Any]]:
    """The preset that differs in the fewest fields from a spec, and the spec's values of these.

    Names and training do not count.
    """
    ours = plain_values(spec)
    unlike = {
        name: {
            key: ours[key] for key, value in plain_values(preset.spec).items() if value != ours[key]
        }
        for name, preset in PRESETS.items()
    }
    return min(unlike.items(), key=lambda item: len(item[1]))


def plain_values(spec: ResNetSpec) -> dict[str, Any]:
    """What makes the graph of a spec's net, each thing in one form."""
    values = {about.name: getattr(spec, about.name) for about in fields(spec)}
    values |= {"width": shortened(spec.widths), "width_multiplier": 1.0}
    return {k: v for k, v in values.items() if k not in ("name", "names", "training", "in_place")}
