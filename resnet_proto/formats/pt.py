"""``.pt``: a PyTorch state dict <-> weights.

    torch.load(file, weights_only=True) -> {"<layer>.<blob>": tensor}

A zip archive of the values, each an entry, and of a pickle that says what they are. Written
here, value by value, because torch wants them in memory at once; one entry more,
``metadata.json``, holds what ``metadata.py`` says, and torch leaves it alone. Entries are stored
and bear no date. Read by torch, with ``weights_only`` and by memory map, after a look at what the
pickle asks for. So are files of torch before 1.6, pickles with the values behind, but into memory.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

from resnet_proto.errors import FormatError, ResNetProtoError, WeightsError
from resnet_proto.files import WEIGHTS, unreadable
from resnet_proto.formats.metadata import MAX_METADATA, pack, too_long, unpack
from resnet_proto.formats.npz import DAMAGED, METADATA, read_metadata, stored
from resnet_proto.layers import Shape, count
from resnet_proto.sniff import HEAD, refuse
from resnet_proto.weights import Blob, Made, Weights, possible, split

if TYPE_CHECKING:
    from resnet_proto.formats import Progress
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

FOLDER = "archive"
FOREIGN = '"names": '
"""In the options of a file whose keys are those of another package's model."""
OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle of a file as torch wrote it before 1.6; ``OLD_PICKLES`` stand there one behind
the other: magic, version, sizes of types, the object, the keys of the values. Source:
torch/serialization.py, _legacy_save."""
OLD_PICKLES = 5
ALIGNMENT = 64
"""Of the values, as torch has them: caffe2/serialize/inline_container.cc, getPadding."""
STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
ASKED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}" for name in (*STORAGES.values(), "BFloat16Storage")),
}
"""What the pickle of a state dict may name; torch itself also lets through what takes memory."""
WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
"""Where checkpoints have the state dict, beside the state of the training."""
MAX_VALUES = 1 << 17
"""Entries of an archive."""
RESERVED = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
    double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
    zero_grad""".split()
)
"""What ``torch.nn.Module`` has of its own."""


def module_name(label: str) -> str:
    """The name of a layer's module: torch's have no dot, and are no attribute of a module's own.

    Such characters are written as in addresses, ``.`` as ``%2E``, and ``%`` as ``%25``; of a name
    that torch has taken, or that begins with ``_``, the first one. The empty name is ``%``.
    ``label_of`` is the way back.
    """
    name = label.replace("%", "%25").replace(".", "%2E")
    if label in RESERVED or label.startswith("_"):
        name = f"%{ord(label[0]):02X}{name[1:]}"
    return name or "%"


def label_of(name: str) -> str:
    """The layer whose module has this name."""
    return "" if name == "%" else unquote(name, errors="surrogateescape")


def state_key(blob: Blob, *, foreign: bool = False) -> str:
    """The key of a blob in the state dict of the net's module; a ``foreign`` one is as it is."""
    if foreign:
        return blob.key
    layer = module_name(blob.layer)
    return f"{layer}.{blob.name}" if blob.name else layer


# ---- reading


@dataclass(frozen=True, slots=True)
class Stored(Made):
    """One tensor of an open file."""

    tensor: Any

    def array(self) -> Array:
        """The values, as they lie in the file where they are in order."""
        tensor = self.tensor.detach().contiguous()
        array: Array = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
        return array.reshape(-1)


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of a ``.pt`` file; it is mapped, and no value is read yet, but for an old one.

    Raises:
        FormatError: the file is damaged, no state dict, or asks for anything but tensors.
    """
    source = os.fspath(path)
    torch = needed()
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise FormatError(unreadable(path, error, WEIGHTS)) from None
    old = head.startswith(OLD_MAGIC)
    if head[:1] == b"\x80" and not old:
        raise FormatError(
            f"{source} is a bare pickle, no file of torch's, and is not read here; save a state "
            "dict: torch.save(module.state_dict(), FILE)"
        )
    if not (old or head.startswith(b"PK")):
        refuse(source, head, "a PyTorch file")
    metadata = looked_at_old(path, source) if old else looked_at(path, source)
    try:
        found = torch.load(source, map_location="cpu", weights_only=True, mmap=not old)
    except Exception as error:  # its errors have no class in common
        raise FormatError(
            f"{source}: torch cannot load it with weights_only=True: {str(error)[:300]}"
        ) from None
    if not isinstance(found, dict):
        raise FormatError(f"{source} holds {type(found).__name__}, expected a state dict")
    found = unwrapped(found, source)
    size = Path(path).stat().st_size
    foreign = FOREIGN in metadata.get("options", "")
    blobs = [blob_of(key, value, source, size, foreign) for key, value in found.items()]
    if len({blob.key for blob in blobs}) < len(blobs):
        raise FormatError(f"{source}: two tensors have one name; write it again")
    return unpack(blobs, metadata, source)


def needed() -> Any:
    """PyTorch.

    Raises:
        ResNetProtoError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ResNetProtoError(
            "PyTorch files need PyTorch: pip install 'resnet-proto[torch]'"
        ) from None
    return torch


def looked_at(path: str | os.PathLike[str], source: str) -> dict[str, str]:
    """The metadata of an archive in which nothing is larger than it looks.

    Raises:
        FormatError: it is damaged, compressed, or its pickle asks for more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_VALUES:
                raise ValueError(f"{len(infos):,} entries, expected at most {MAX_VALUES:,}")
            pickles = [info for info in infos if info.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"it has {len(pickles)} entries data.pkl, expected one")
            folder = pickles[0].filename.removesuffix("data.pkl")
            for info in infos:
                if info.filename == folder + METADATA:
                    continue  # read here only, and no further than it may be long
                if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                    raise ValueError(f"'{info.filename}' is compressed, and torch's are not")
                if not info.filename.startswith(folder):
                    raise ValueError(f"'{info.filename}' is not in its folder '{folder}'")
            if pickles[0].file_size > MAX_METADATA:
                raise too_long(source)
            check_pickle(archive.read(pickles[0]), source)
            if folder + METADATA not in archive.namelist():
                return {}
            return read_metadata(archive, archive.getinfo(folder + METADATA), source)
    except FormatError:
        raise
    except (*DAMAGED, NotImplementedError, KeyError) as error:
        raise FormatError(
            f"{source}: not a PyTorch file, or damaged: {error}; get it again"
        ) from None


def looked_at_old(path: str | os.PathLike[str], source: str) -> dict[str, str]:
    """No metadata, of a file of torch before 1.6 whose pickles ask for no more than tensors.

    Raises:
        FormatError: they do, or are damaged.
    """
    with Path(path).open("rb") as file:
        code = io.BytesIO(file.read(MAX_METADATA))
    for _ in range(OLD_PICKLES):
        check_pickle(code, source)
    return {}


def check_pickle(code: bytes | BinaryIO, source: str) -> None:
    """Look at what a pickle asks for, without running it.

    Raises:
        FormatError: anything but tensors, or it is no pickle.
    """
    machine = Machine()
    try:
        for op, value, _ in pickletools.genops(code):
            if op.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") or (
                op.name == "GLOBAL" and value not in ASKED
            ):
                what = f"'{str(value)[:80].replace(' ', '.')}'" if value else op.name
                raise FormatError(
                    f"{source}: its pickle asks for {what}, expected tensors only, and nothing "
                    "else is run; save a state dict: torch.save(module.state_dict(), FILE)"
                )
            machine.run(op, value)
    except (ValueError, LookupError, struct.error, OverflowError, MemoryError) as error:
        raise FormatError(f"{source}: its pickle is damaged: {str(error)[:200]}") from None


class Machine:
    """How large what a pickle builds would be if nothing in it were shared.

    A tuple that holds another one twice, that again one twice, and so on, is small, and to hash or
    to print it takes forever. Each object here is its size, and whether it was shared: then it
    grows no more.
    """

    def __init__(self) -> None:
        self.stack: list[list[int]] = []
        self.marks: list[int] = []
        self.memo: dict[int, list[int]] = {}

    def run(self, op: pickletools.OpcodeInfo, value: Any) -> None:
        """One instruction.

        Raises:
            ValueError: an object is too large, or holds itself.
            LookupError: there is nothing on the stack, or in the memo.
        """
        if op.name == "MARK":
            self.marks.append(len(self.stack))
        elif op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if value is None else int(value)] = self.stack[-1]
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(value)])
            self.stack[-1][1] = True
        else:
            before = [kind.name for kind in op.stack_before]
            at = self.marks.pop() if "mark" in before else len(self.stack)
            at -= before.index("mark") if "mark" in before else len(before)
            if at < 0:
                raise LookupError("its stack is empty")
            taken = self.stack[at:]
            del self.stack[at:]
            size = 1 + sum(item[0] for item in taken)
            if size > MAX_METADATA:
                raise ValueError("it repeats objects within objects")
            if op.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"):
                if taken[0][1]:
                    raise ValueError("it changes an object that it has shared")
                taken[0][0] = size
                self.stack.append(taken[0])
            else:
                self.stack += ([size, False] for _ in op.stack_after)


def unwrapped(found: dict[Any, Any], source: str) -> dict[Any, Any]:
    """The state dict of a checkpoint.

    Raises:
        FormatError: it has several.
    """
    inner = [key for key in WRAPPERS if isinstance(found.get(key), dict)]
    if len(inner) > 1:
        raise FormatError(
            f"{source} holds {' and '.join(inner)}; save the one that is meant: "
            f"torch.save(torch.load(FILE, weights_only=True)['{inner[0]}'], OTHER)"
        )
    state: dict[Any, Any] = found[inner[0]] if inner else found
    return state


def blob_of(key: object, value: Any, source: str, size: int, foreign: bool) -> Blob:
    """One tensor of a state dict, without its values.

    Raises:
        FormatError: it is none, or of a type that numpy lacks.
    """
    torch = needed()
    if not isinstance(key, str) or not isinstance(value, torch.Tensor):
        advice = ""
        if isinstance(value, dict):
            inner = f"torch.load(FILE, weights_only=True)[{key!r:.40}]"
            advice = f"; save what is in it: torch.save({inner}, OTHER)"
        raise FormatError(
            f"{source}: {key!r:.80} is {type(value).__name__}, expected a tensor{advice}"
        )
    dtype = str(value.dtype).removeprefix("torch.")
    stored = dtype if dtype == "bfloat16" else ""
    dtype = "float32" if stored else dtype
    if value.layout != torch.strided or dtype not in STORAGES:
        raise FormatError(
            f"{source}: '{key}' is {dtype} ({value.layout}), which numpy lacks; "
            f"save it as {', '.join(list(STORAGES)[:3])}"
        )
    shape = tuple(value.shape)
    nbytes = count(shape) * value.element_size()
    if not possible(shape) or nbytes > size:
        raise FormatError(
            f"{source}: '{key}' has {nbytes:,} bytes in a file of {size:,}; it repeats its values: "
            "save it as contiguous()"
        )
    layer, name = split(key)
    layer = layer if foreign else label_of(layer)
    nbytes *= 2 if stored else 1
    data = Stored(value.detach())
    return Blob(layer, layer, "", name, shape, dtype, nbytes, data, stored=stored)


# ---- writing


def write(file: BinaryIO, weights: Weights, net: Net | None, progress: Progress) -> None:
    """Write the archive; errors as in ``metadata.pack``.

    Raises:
        WeightsError: a type that torch lacks.
    """
    if find_spec("torch") is None:
        needed()  # without it what is written could not be read back
    metadata = pack(weights, net)
    for key, blob in weights.blobs.items():
        if blob.dtype not in STORAGES:
            raise WeightsError(
                f"{weights.source}: '{key}' is {blob.dtype}; known: {', '.join(STORAGES)}: "
                "convert it to one of them"
            )
    with zipfile.ZipFile(file, "w") as archive:

        def put(name: str, content: bytes) -> None:
            archive.writestr(stored(f"{FOLDER}/{name}"), content)

        foreign = FOREIGN in weights.provenance.get("options", "")
        put("data.pkl", state_dict_pickle(weights.blobs, foreign=foreign))
        put("byteorder", b"little")
        for i, blob in enumerate(weights.blobs.values()):
            entry = stored(f"{FOLDER}/data/{i}")
            # local header: 30 bytes, the name, this field's own 4, and 20 of zip64's
            at = file.tell() + 30 + len(entry.filename) + 4 + 20
            entry.extra = struct.pack("<2sH", b"FB", -at % ALIGNMENT) + bytes(-at % ALIGNMENT)
            with archive.open(entry, "w", force_zip64=True) as values:
                for part in blob.data.parts():
                    values.write(part)
                    progress(len(part))
        put("version", b"3\n")
        text = json.dumps(metadata, ensure_ascii=False, indent=1)
        archive.writestr(stored(f"{FOLDER}/{METADATA}"), text, zipfile.ZIP_DEFLATED)


def state_dict_pickle(blobs: Mapping[str, Blob], *, foreign: bool = False) -> bytes:
    """The pickle of a dict of tensors, as ``torch.save`` writes it: protocol 2.

    A tensor is ``_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())``, and a
    storage a persistent id: ``("storage", type, key, "cpu", size)``.
    Source: torch/_tensor.py, __reduce_ex__; torch/serialization.py, persistent_id.
    """
    code = [pickle.PROTO + b"\x02", pickle.EMPTY_DICT]
    for i, blob in enumerate(blobs.values()):
        shape = blob.shape
        strides = tuple(count(shape[axis + 1 :]) for axis in range(len(shape)))
        code += [
            text(state_key(blob, foreign=foreign)),
            named("torch._utils", "_rebuild_tensor_v2"),
            pickle.MARK,
            pickle.MARK,
            text("storage"),
            named("torch", STORAGES[blob.dtype]),
            text(str(i)),
            text("cpu"),
            number(count(shape)),
            pickle.TUPLE,
            pickle.BINPERSID,
            number(0),
            numbers(shape),
            numbers(strides),
            pickle.NEWFALSE,
            named("collections", "OrderedDict"),
            pickle.EMPTY_TUPLE,
            pickle.REDUCE,
            pickle.TUPLE,
            pickle.REDUCE,
            pickle.SETITEM,
        ]
    return b"".join([*code, pickle.STOP])


def text(value: str) -> bytes:
    """Push a string."""
    content = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    """Push a number of up to eight bytes."""
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)


def numbers(values: Shape) -> bytes:
    """Push a tuple of numbers."""
    return b"".join([pickle.MARK, *map(number, values), pickle.TUPLE])


def named(module: str, name: str) -> bytes:
    """Push what a module calls so."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
