"""First bytes of a file -> what it really is, for a message that helps."""

from __future__ import annotations

import re
from typing import NamedTuple

from resnet_proto.errors import FormatError

AGAIN = "download the file itself"
UNPACK = "unpack it first"
RUN = "`forward NET --input FILE` runs a net on it"
IMAGE = f"{RUN}, as `view` does; `classify NET FILE` says what it shows"
WEIGHTS = "give the prototxt; this file's weights go to --weights of `forward` (IN of `convert`)"


class Kind(NamedTuple):
    """What a file is, and what to do if weights were wanted; if a net was, where that differs."""

    what: str
    advice: str
    for_net: str = ""


EMPTY = Kind("an empty file", AGAIN)
TEXT = Kind("a text file", AGAIN)
PROTOTXT = Kind("a prototxt (text)", "the weights are in another file; give this one as the net")
CAFFEMODEL = Kind(
    "a caffemodel",
    "give it the suffix .caffemodel",
    f"{WEIGHTS}. `inspect` lists its layers; no command makes a net of it alone",
)
SAFETENSORS = Kind("a safetensors file", "give it the suffix .safetensors", WEIGHTS)
HTML = Kind("a web page (HTML)", f"{AGAIN}, not the page that links to it")
HDF5_MARK = b"\x89HDF\r\n\x1a\n"
KERAS = Kind(
    "a Keras model",
    "`convert` writes these and reads none; give the weight file that it was made from",
    WEIGHTS.replace("this file's weights go", "its weights, in another format, go"),
)
KINDS: tuple[tuple[bytes, Kind], ...] = (
    (rb"version https://git-lfs", Kind("a Git LFS pointer", "fetch the file itself: git lfs pull")),
    (
        rb"\x00\x05\x16\x07",
        Kind("macOS metadata (AppleDouble)", "the data is in the file without '._'"),
    ),
    (re.escape(HDF5_MARK), Kind("an HDF5 file", "give it the suffix .h5", WEIGHTS)),
    (rb"PK\x03\x04.{26}metadata\.json\{\s*\"keras_version\"", KERAS),
    (
        rb"PK\x03\x04",
        Kind(
            "a zip archive (npz, torch, keras ...)",
            f"give it its suffix, or {UNPACK}",
            f"{WEIGHTS}, and an npz that carries its net has the suffix .npz",
        ),
    ),
    (
        rb"\x80[\x02-\x05][(\]cX}\x8a\x95]",
        Kind(
            "a pickle (torch, chainer ...)",
            "pickles are never read, because they can run anything: save it as safetensors or npz",
            "give the prototxt",
        ),
    ),
    (rb"\x1f\x8b", Kind("a gzip file", f"{UNPACK}: gunzip")),
    (rb"BZh", Kind("a bzip2 file", f"{UNPACK}: bunzip2")),
    (rb"\xfd7zXZ\x00", Kind("an xz file", f"{UNPACK}: unxz")),
    (rb"\x28\xb5\x2f\xfd", Kind("a zstd file", f"{UNPACK}: unzstd")),
    (rb"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (rb"Rar!\x1a\x07", Kind("a RAR archive", UNPACK)),
    (rb"\xff\xfe", Kind("UTF-16 text", "save it as UTF-8")),
    (
        rb"\x93NUMPY",
        Kind(
            "a single numpy array (npy)",
            "save several with numpy.savez",
            RUN,
        ),
    ),
    (rb"\x89PNG\r\n\x1a\n", Kind("an image (PNG)", IMAGE)),
    (rb"\xff\xd8\xff", Kind("an image (JPEG)", IMAGE)),
    (rb"GIF8[79]a", Kind("an image (GIF)", IMAGE)),
    (rb"BM.{4}\0{4}", Kind("an image (BMP)", IMAGE)),
)
VARINT = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
SOLVERSTATE = Kind(
    "a solver state",
    "`inspect` shows it; the weights are in the file that it calls learned_net",
    "give the prototxt",
)
IS_SOLVERSTATE = re.compile(rb"\x08" + VARINT + rb"([\x12\x1a\x20]|$)", re.DOTALL)
"""SolverState: iter, then learned_net, history or current_step."""
ONNX = Kind(
    "an ONNX model",
    "resnet-proto convert IN.onnx OUT.caffemodel makes a caffemodel and a prototxt of it",
)
MEAN = Kind(
    "a binaryproto (the mean of images)",
    "a mean goes to --mean; `inspect` shows it, `convert` makes it an .npy",
    "give the prototxt",
)
IS_MEAN = re.compile(
    rb"\x08" + VARINT + rb"\x10" + VARINT + rb"\x18|[\x2a\x42][\x80-\xff]{1,9}[\x00-\x7f]",
    re.DOTALL,
)
"""BlobProto: num, channels, height; or data or double_data, of more than 127 bytes."""
MAGIC = tuple((re.compile(magic, re.DOTALL), kind) for magic, kind in KINDS)
IS_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
IS_PROTOTXT = re.compile(
    rb"(\s|#[^\n]*\n)*(name\s*:|layers?\s*:?\s*\{|input|state\s*:?\s*\{|force_backward|"
    rb"((train_|test_)?net|base_lr|test_iter|test_interval|lr_policy|solver_mode)\s*:|"
    rb"((train_|test_)?net_param)\s*:?\s*\{)"
)
"""A net, or a solver."""
IS_SAFETENSORS = re.compile(rb"\{\s*\"")
IS_PT = re.compile(rb"PK\x03\x04.{26}[^/]+/(data\.pkl|byteorder|version|\.)", re.DOTALL)
"""The first entry of a PyTorch archive, in its folder."""
IS_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]+")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
HEAD = 512
"""How many bytes are looked at."""


def kind(head: bytes) -> Kind | None:
    """What a file is that begins so; None if nothing is recognised."""
    if not head:
        return EMPTY
    for magic, found in MAGIC:
        if magic.match(head):
            return found
    if IS_SAFETENSORS.match(head, 8):
        return SAFETENSORS
    if is_caffemodel(head):
        return CAFFEMODEL
    if is_onnx(head):
        return ONNX
    if IS_SOLVERSTATE.match(head):
        return SOLVERSTATE
    if IS_MEAN.match(head):
        return MEAN
    if CONTROL.search(head):
        return None
    if IS_HTML.match(head):
        return HTML
    if IS_PROTOTXT.match(head):
        return PROTOTXT
    return TEXT if IS_TEXT.fullmatch(head) else None


def is_caffemodel(head: bytes) -> bool:
    """Whether a NetParameter begins so: its name, if it has one, and then its first layer."""
    at = 0
    if head[:1] == b"\n" and len(head) > 1 and head[1] < 0x80:
        at = 2 + head[1]
    return head[at : at + 2] == b"\xa2\x06" or head[at : at + 1] == b"\x12"


def is_onnx(head: bytes) -> bool:
    """Whether a ModelProto begins so: ir_version, texts, and then what no solver state has.

    Both begin with a number, in both a text is the second field, and the third is a text here
    (producer_version) and a blob there. Source: onnx.proto, ModelProto.
    """
    if head[:1] != b"\x08" or head[1:2] >= b"\x80":
        return False
    at = 2  # ir_version has one byte, and will for long
    for tag in (b"\x12", b"\x1a", b"\x22"):  # producer_name, producer_version, domain
        if head[at : at + 1] == tag:
            size = head[at + 1] if at + 1 < len(head) else 0
            text = head[at + 2 : at + 2 + size]
            if size >= 0x80 or CONTROL.search(text):
                return False
            at += 2 + size
    # model_version, doc_string, graph, opset_import
    return head[at : at + 1] in (b"\x28", b"\x32", b"\x3a", b"\x42")


def refuse(source: str, head: bytes, wanted: str) -> None:
    """Refuse a file that is recognised as something else than the weights that were wanted.

    Raises:
        FormatError: it is.
    """
    found = kind(head[:HEAD])
    if found and found.what != wanted:
        raise FormatError(f"{source} is {found.what}, not {wanted}; {found.advice}")


def format_of(head: bytes) -> str:
    """The format of a file that begins so, a caffemodel if nothing else: it has no mark."""
    if head.startswith(HDF5_MARK):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):
        return "pt" if IS_PT.match(head) else "npz"
    return "safetensors" if IS_SAFETENSORS.match(head, 8) else "caffemodel"
