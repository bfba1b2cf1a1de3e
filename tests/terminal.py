"""Commands on a terminal of their own, to see what they show there and in no pipe."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios


def shown(columns, *arguments):
    """The lines that a command shows on a terminal of so many columns, without its colours."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        program = [sys.executable, "-m", "resnet_proto", *map(str, arguments)]
        # COLUMNS goes before the terminal, and readline, which pytest loads, sets it for children.
        os.execve(sys.executable, program, {k: v for k, v in os.environ.items() if k != "COLUMNS"})
    pieces = []
    while True:
        try:
            pieces.append(os.read(terminal, 1 << 16))
        except OSError:  # the child has ended
            break
        if not pieces[-1]:
            break
    os.close(terminal)
    text = b"".join(pieces).decode()
    assert os.waitpid(child, 0)[1] == 0, text
    return re.sub(r"\x1b\[[\d;]*m", "", text).replace("\r\n", "\n").splitlines()
