"""``python -m resnet_proto``: the command line."""

from resnet_proto.cli import main

main(prog_name="resnet-proto")
