"""What a caffemodel says beside its values, as text for formats that only have named arrays.

    Weights + net -> {"net": prototxt, "layers": JSON} -> Weights

Without it a layer's own name, its type and Caffe's old four-axis shapes would be lost. A file
without it, or whose arrays somebody changed, is read as plain named arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import WeightsError
from resnet_proto.weights import Blob, StoredLayer, Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet_proto.net import Net


def pack(weights: Weights, net: Net | None) -> dict[str, str]:
    """The metadata of a file that is to hold these weights.

    Raises:
        WeightsError: a name that is no UTF-8, which only a caffemodel can hold.
    """
    layers = {}
    for layer in weights.layers:
        if layer.blobs:
            row = {
                "name": layer.name if layer.name != layer.label else "",
                "type": layer.type,
                "legacy": [blob.name for blob in layer.blobs if blob.legacy],
            }
            layers[layer.label] = {key: value for key, value in row.items() if value}
    metadata = {"layers": json.dumps(layers, ensure_ascii=False)}
    if net is not None:
        from resnet_proto.prototxt import to_prototxt

        metadata["net"] = to_prototxt(net)
    for text in (*weights, *metadata.values()):
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = text if len(text) < 80 else "the net"
            raise WeightsError(
                f"{shown!r} is no UTF-8, and only a caffemodel can hold it; rename the layer"
            ) from None
    return metadata


def unpack(
    blobs: Iterable[Blob],
    metadata: Mapping[str, str],
    source: str,
    close: Callable[[], None] | None = None,
) -> Weights:
    """Weights from blobs (their ``layer`` is the label, their type empty) and the metadata."""
    about = read_layers(metadata.get("layers", ""))
    layers: dict[str, list[Blob]] = {label: [] for label in about}
    for blob in blobs:
        row = about.get(blob.layer, {})
        layers.setdefault(blob.layer, []).append(
            blob._replace(
                layer_name=row.get("name", blob.layer),
                type=row.get("type", ""),
                legacy=blob.name in row.get("legacy", ()) and len(blob.shape) == 4,
            )
        )
    return Weights(
        (
            StoredLayer(label, row[0].layer_name, row[0].type, tuple(row))
            for label, row in layers.items()
            if row
        ),
        source,
        metadata.get("net"),
        close,
    )


def read_layers(text: str) -> dict[str, dict[str, Any]]:
    """The rows that ``pack`` wrote; none if the text is something else."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    kinds = {"name": str, "type": str, "legacy": list}
    if isinstance(rows, dict) and all(
        isinstance(row, dict)
        and all(isinstance(value, kinds.get(key, object)) for key, value in row.items())
        for row in rows.values()
    ):
        return rows
    return {}
