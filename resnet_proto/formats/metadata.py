"""What a caffemodel says beside its values, as text for formats that only have named arrays.

    Weights + net -> {"net": prototxt, "layers": JSON} -> Weights
    file of the weights, options -> {"source": name, "source_sha256", "tool", "options": JSON}

Without it a layer's own name, its type and Caffe's old four-axis shapes would be lost. A file
without it, or whose arrays somebody changed, is read as plain named arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import FormatError, WeightsError
from resnet_proto.weights import Blob, StoredLayer, Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet_proto.net import Net
MAX_METADATA = 1 << 24
"""Characters, or bytes; those of a net of 10,000 layers are 3 MB. JSON of so many can become
objects of twenty times the size, which a larger file would take from a small archive."""


def pack(weights: Weights, net: Net | None, *, names: bool = False) -> dict[str, str]:
    """The metadata of a file that is to hold these weights.

    Args:
        weights: their names and types are said.
        net: its text is.
        names: say those of the blobs too, for a format that has numbers in their place.

    Raises:
        WeightsError: a name that is no UTF-8, which only a caffemodel can hold; no array at all,
            or too much text.
    """
    if not weights:
        raise WeightsError(f"{weights.source}: there is no array to write; a file has at least one")
    layers = {}
    for layer in weights.layers:
        if layer.blobs:
            row = {
                "name": layer.name if layer.name != layer.label else "",
                "type": layer.type,
                "legacy": [blob.name for blob in layer.blobs if blob.legacy],
                "shapeless": [blob.name for blob in layer.blobs if blob.shapeless],
                "blobs": [blob.name for blob in layer.blobs] if names else [],
            }
            layers[layer.label] = {key: value for key, value in row.items() if value}
    metadata = {**weights.provenance, "layers": json.dumps(layers, ensure_ascii=False)}
    if net is not None:
        from resnet_proto.prototxt import to_prototxt

        metadata["net"] = to_prototxt(net)
    for text in (*weights, *metadata.values()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            shown = text[max(0, error.start - 40) : error.end + 40]
            raise WeightsError(
                f"{weights.source}: {shown!r} is not UTF-8, and only a caffemodel can hold it; "
                "rename the layer, or convert to a caffemodel"
            ) from None
    if (size := sum(map(len, metadata.values()))) > MAX_METADATA:
        raise WeightsError(
            f"{weights.source}: the net and the names have {size:,} characters; files other than "
            f"a caffemodel hold at most {MAX_METADATA:,}: leave the net out, or write a caffemodel"
        )
    return metadata


def provenance(source: str, options: Mapping[str, str]) -> dict[str, str]:
    """Where weights come from, the same whenever and wherever they are converted.

    Args:
        source: the file, of which only the name is said. Weights that were in memory or came
            through a pipe have none.
        options: what was asked for besides, by name.
    """
    found = {"tool": f"resnet-proto {version('resnet-proto')}"}
    with suppress(OSError, ValueError):
        if Path(source).is_file():
            with Path(source).open("rb") as file:
                found["source_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            found["source"] = Path(source).name.encode(errors="backslashreplace").decode()
    if options:
        found["options"] = json.dumps(dict(options), sort_keys=True)
    return found


def unpack(
    blobs: Iterable[Blob],
    metadata: Mapping[str, str],
    source: str,
    close: Callable[[], None] | None = None,
    others: Sequence[str] = (),
) -> Weights:
    """Weights from blobs (their ``layer`` is the label, their type empty) and the metadata.

    Others are labels of layers without any blob, which few formats keep.

    Raises:
        FormatError: there is no blob, or too much metadata.
    """
    if any(len(text) > MAX_METADATA for text in metadata.values()):
        raise too_long(source)
    about = read_layers(metadata.get("layers", ""))
    layers: dict[str, list[Blob]] = {label: [] for label in about}
    for blob in blobs:
        row = about.get(blob.layer, {})
        layers.setdefault(blob.layer, []).append(
            blob._replace(
                layer_name=row.get("name", blob.layer),
                type=row.get("type", ""),
                legacy=blob.name in row.get("legacy", ()) and len(blob.shape) == 4,
                # one value is a scalar then: caffemodel.py, blob
                shapeless=blob.name in row.get("shapeless", ())
                and len(blob.shape) < 2
                and blob.shape != (1,),
            )
        )
    if not any(layers.values()):
        raise FormatError(f"{source} has no array; a weight file has at least one")
    stored = [
        StoredLayer(label, row[0].layer_name, row[0].type, tuple(row))
        for label, row in layers.items()
        if row
    ]
    weights = Weights(
        (*stored, *(StoredLayer(label, label, "") for label in others)),
        source,
        metadata.get("net"),
        close,
    )
    weights.options = read_options(metadata.get("options", ""))
    return weights


def read_options(text: str) -> dict[str, str]:
    """The options that ``provenance`` wrote; none if the text is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found
    return {}


def too_long(source: str) -> FormatError:
    """Metadata that nobody needs."""
    return FormatError(
        f"{source}: its metadata has more than {MAX_METADATA:,} bytes, which no net needs; "
        "take it out of the file"
    )


def read_layers(text: str) -> dict[str, dict[str, Any]]:
    """The rows that ``pack`` wrote; none if the text is something else."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    kinds = {"name": str, "type": str, "legacy": list, "shapeless": list, "blobs": list}
    if isinstance(rows, dict) and all(
        isinstance(row, dict)
        and all(isinstance(value, kinds.get(key, object)) for key, value in row.items())
        for row in rows.values()
    ):
        return rows
    return {}
