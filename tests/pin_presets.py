"""Print a digest of the files of each preset: ``make generated`` keeps them in presets.sha256."""

import hashlib

from resnet_proto.generate import encoded, generate
from resnet_proto.presets import PRESETS


def digest(name):
    """The sha256 over names and contents of what ``gen --preset`` writes."""
    sha = hashlib.sha256()
    for file, text in generate(PRESETS[name].spec).items():
        sha.update(encoded(f"{file}\0{text}\0"))
    return sha.hexdigest()


if __name__ == "__main__":
    for preset in PRESETS:
        print(digest(preset), preset)
