"""First bytes of a file -> what it really is, for a message that helps."""

from __future__ import annotations

import re

from resnet_proto.errors import FormatError

EMPTY, PROTOTXT, TEXT = "an empty file", "a prototxt (text)", "a text file"
AGAIN = "download the file itself"
UNPACK = "unpack it first"
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (b"\x00\x05\x16\x07", "macOS metadata (AppleDouble)", "the data is in the file without '._'"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Caffe can save its weights as caffemodel"),
    (b"PK\x03\x04", "a zip archive (npz, torch, keras ...)", f"give it its suffix, or {UNPACK}"),
    (b"\x1f\x8b", "a gzip file", f"{UNPACK}: gunzip"),
    (b"BZh", "a bzip2 file", f"{UNPACK}: bunzip2"),
    (b"\xfd7zXZ\x00", "an xz file", f"{UNPACK}: unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", f"{UNPACK}: unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\x93NUMPY", "a single numpy array (npy)", "save several with numpy.savez"),
)
HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
IS_PROTOTXT = re.compile(rb"(\s|#[^\n]*\n)*(name\s*:|layers?\s*\{|input|state\s*\{|force_backward)")
SAFETENSORS = re.compile(rb"\{\s*\"")
IS_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]+")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
HEAD = 512
"""How many bytes are looked at."""


def kind(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins so, and what to do about it; None if nothing is recognised."""
    if not head:
        return EMPTY, AGAIN
    for magic, what, advice in KINDS:
        if head.startswith(magic):
            return what, advice
    if SAFETENSORS.match(head, 8):
        return "a safetensors file", "give it the suffix .safetensors"
    if CONTROL.search(head):
        return None
    if HTML.match(head):
        return "a web page (HTML)", f"{AGAIN}, not the page that links to it"
    if IS_PROTOTXT.match(head):
        return PROTOTXT, "the weights are in another file; give this one as the net"
    if IS_TEXT.fullmatch(head):
        return TEXT, AGAIN
    return None


def refuse(source: str, head: bytes, wanted: str) -> None:
    """Refuse a file that is recognised as something else.

    Raises:
        FormatError: it is.
    """
    found = kind(head[:HEAD])
    if found:
        what, advice = found
        raise FormatError(f"{source} is {what}, not {wanted}; {advice}")


def format_of(head: bytes) -> str:
    """The format of a file that begins so, a caffemodel if nothing else: it has no mark."""
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    return "safetensors" if SAFETENSORS.match(head, 8) else "caffemodel"
