"""Everything that this project refuses, as one family of exceptions.

A message names the thing, what was expected, what came, and what to do. Only
``cli/`` turns them into exit status 1.
"""


class ResNetProtoError(Exception):
    """A net, weight file or request that cannot be used as it is."""


class PrototxtError(ResNetProtoError):
    """Text that is no prototxt: the message holds file, line, column and the line itself."""


class NetError(ResNetProtoError):
    """A net whose layers do not fit together."""


class ShapeError(NetError):
    """A layer that cannot take the shapes it is given."""


class UnknownShapeError(ShapeError):
    """A data layer whose shape is in its files: it has to be handed in."""


class UnknownLayerError(NetError):
    """A layer type that is carried along, but not understood."""


class WeightsError(ResNetProtoError):
    """Weights that are missing, or do not fit the net."""


class FormatError(ResNetProtoError):
    """A weight file that is damaged, or is something else than its name says."""
