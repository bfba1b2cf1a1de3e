"""Layers, parts and figures of nets in a few words, as tables and drawings share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnet_proto.graph import Node
from resnet_proto.layers import Shape, dims
from resnet_proto.structure import Part
from resnet_proto.words import in_three_digits


def named(parts: Sequence[Part]) -> Iterator[tuple[str, Part]]:
    """Each part with what it is called: stages have a number, what lies between them no name."""
    number = 0
    for part in parts:
        number += part.kind == "stage"
        names = {"stage": f"stage {number}", "between": ""}
        yield names.get(part.kind, part.kind), part


def label(node: Node) -> str:
    """A layer as figures of papers have it: ``3x3, 64, /2``."""
    layer, values = node.layer, node.meaning
    if layer.type == "Pooling":
        kind = {"MAX": "max", "AVE": "average"}.get(values["pool"], str(values["pool"]).lower())
        if values["global_pooling"]:
            return f"global {kind} pooling"
        return f"{side(values['kernel_size'])} {kind} pooling{stride(values)}"
    if "num_output" not in values:
        return layer.type
    if "kernel_size" not in values:
        return f"{layer.type} {values['num_output']}"
    parts = [side(values["kernel_size"]), str(values["num_output"])]
    if values.get("group", 1) > 1:
        parts.append(f"{values['group']} groups")
    if max(values.get("dilation") or (1,)) > 1:
        parts.append(f"dilation {max(values['dilation'])}")
    kind = "deconvolution " if layer.type == "Deconvolution" else ""
    return kind + ", ".join(parts) + stride(values)


def side(kernel: Sequence[int]) -> str:
    """A window: ``7x7``."""
    return dims(tuple(kernel) * (2 if len(kernel) == 1 else 1))


def stride(values: Mapping[str, Any]) -> str:
    """``, /2``; nothing where it is 1."""
    steps = tuple(values.get("stride") or (1,))
    if max(steps) == 1:
        return ""
    return f", /{steps[0] if len(set(steps)) == 1 else dims(steps)}"


def shape_of(shape: Shape | None) -> str:
    """The shape of one image; of labels, which have no axis but that of images, 1."""
    if shape is None:
        return "?"
    return "1" if len(shape) == 1 else dims(shape[1:])


def thousands(n: float) -> str:
    """A number in three digits: ``25.6 M``, ``118 k``; nothing for 0."""
    if not n:
        return ""
    for prefix in ("", "k", "M", "G", "T"):
        if n < 999.5 or prefix == "T":
            break
        n /= 1000
    return f"{in_three_digits(n)} {prefix}" if prefix else f"{n:.0f}"
