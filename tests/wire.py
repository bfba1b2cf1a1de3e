"""Protobuf's wire format, spelled by hand: what a message says, byte by byte."""

import struct


def varint(value):
    """A number; negative ones as 64 bits in two's complement."""
    value &= 2**64 - 1
    out = []
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def field(number, content):
    """A field that holds a number or bytes."""
    if isinstance(content, int):
        return varint(8 * number) + varint(content)
    return varint(8 * number + 2) + varint(len(content)) + content


def packed(number, *values):
    """Floats (field 5) or doubles (8) in one chunk."""
    return field(number, struct.pack(f"<{len(values)}{'f' if number < 8 else 'd'}", *values))


def unpacked(number, *values):
    """Each value behind a tag of its own."""
    kind, wire = ("<f", 5) if number < 8 else ("<d", 1)
    return b"".join(varint(8 * number + wire) + struct.pack(kind, value) for value in values)


def shape(*sizes):
    """BlobProto.shape."""
    return field(7, field(1, b"".join(map(varint, sizes))))


def legacy(num, channels, height, width):
    """The four sizes of old."""
    sizes = enumerate((num, channels, height, width), 1)
    return b"".join(field(number, size) for number, size in sizes)


def layer(name, type, *blobs, bottoms=("x",), more=b""):
    """NetParameter.layer."""
    name = name if isinstance(name, bytes) else name.encode()
    text = field(1, name) + field(2, type.encode())
    text += b"".join(field(3, bottom.encode()) for bottom in bottoms)
    return field(100, text + more + b"".join(field(7, blob) for blob in blobs))


def layers(name, type, *blobs):
    """NetParameter.layers of 2014: the type is a number, the name comes late."""
    return field(2, field(4, name.encode()) + field(5, type) + b"".join(field(6, b) for b in blobs))
