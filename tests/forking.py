"""Python processes that have imported torch already, forked from one that has.

    python forking.py serve SOCKET LIBRARY...   imports them, and forks what it is asked to run
    python forking.py ask SOCKET ARGUMENT...    runs ``python ARGUMENT...`` there, as its stand-in

What is run has the folder, the environment and the standard files of who asks, and a ``__main__``
of its own. The libraries are imported before that, so none may be among them that reads variables
of the environment then, as the Hub's client does. Variables that Python itself reads when it starts
have no effect on it, but for PYTHONPATH, PYTHONSAFEPATH and PYTHONDONTWRITEBYTECODE.

Arguments that do not begin with ``-c`` or ``-m`` are run by a Python of their own, which is new.
"""

import json
import os
import socket
import sys

PYTHON = "python"
"""The stand-in beside the socket, the ``sys.executable`` of what is run: its own are forked too."""
_python = sys.executable


def ask(address, arguments, folder, environ, files):
    """The connection that tells of the process: its id, and, at its end, its exit code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = json.dumps([arguments, folder, environ]).encode() + b"\n"
    socket.send_fds(connection, [b"."], files)
    connection.sendall(request)
    return connection


def _stand_in(address, *arguments):
    connection = ask(address, arguments, os.getcwd(), dict(os.environ), [0, 1, 2])
    answers = connection.makefile()
    answers.readline()
    code = int(answers.readline())
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _serve(address, *libraries):
    import importlib
    import select
    import signal

    del sys.path[0]  # the folder of this file
    for library in libraries:
        importlib.import_module(library)
    sys.executable = os.path.join(os.path.dirname(address), PYTHON)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("serves", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The other end of this standard input is closed when who started this is gone.
    while 0 not in select.select([0, listener], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(connection)
            os._exit(0)
        connection.close()


def _watch(connection):
    """Start what is asked for, and tell how it ended."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    arguments, folder, environ = json.loads(connection.makefile().readline())
    process = os.fork()
    if process == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os._exit(_run(arguments, folder, environ))
    for file in files:
        os.close(file)
    connection.sendall(b"%d\n" % process)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    connection.sendall(b"%d\n" % code)


def _run(arguments, folder, environ):
    """The exit code of ``python ARGUMENT...``."""
    import atexit
    import importlib
    import threading
    import traceback

    code = 0
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        # Those that there are were made for the files of the server.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.dont_write_bytecode = bool(environ.get("PYTHONDONTWRITEBYTECODE"))
        sys.path[:0] = filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))
        importlib.invalidate_caches()
        _main(*arguments)
    except SystemExit as end:
        code = end.code
        if code is None or not isinstance(code, int):
            print(*filter(None, [code]), file=sys.stderr, end="\n" if code else "")
            code = int(code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code & 255


def _main(option, what, *arguments):
    import runpy
    import types

    sys.argv = [option, *arguments]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, "" if option == "-c" else os.getcwd())
    if option == "-c":
        exec(compile(what, "<string>", "exec"), vars(main))
    elif option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        os.execv(_python, [_python, option, what, *arguments])


if __name__ == "__main__":
    {"serve": _serve, "ask": _stand_in}[sys.argv[1]](*sys.argv[2:])
