"""``python -m resnet_proto`` and ``resnet-proto``: the command line."""

# `signal` itself is milliseconds of imports, in which Ctrl-C would be a traceback.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) == _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until `main` ends in better order

from resnet_proto.cli import main

if __name__ == "__main__":
    main(prog_name="resnet-proto")
