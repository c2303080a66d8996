"""How a command ends in a process that a launcher started (torchrun, ``accelerate launch``)."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

__all__ = ["ended_at_once"]


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """One process of several ends where the block ends, with its exit code and nothing after it.

    At an orderly end the interpreter unwinds threads that wait for it from inside the C++ of gloo,
    which aborts the process now and then: a run whose weights were written would have failed. All
    that the process had to write has been written and is flushed here.
    """
    if "RANK" not in os.environ:
        yield
        return
    code: object = 0
    try:
        yield
    except SystemExit as end:
        code = end.code
    except BaseException:  # a bug: shown here, since the interpreter will not get to it
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):  # as sys.exit takes a text
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)
