"""Processes that have torch already: a test of many kills would spend minutes on importing it."""

import multiprocessing
import os

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "zoo.report.card", "zoo.publishing", "zoo.weights"])


def publish(environ, *args, **options):
    """Start ``zoo.publish`` with these arguments, ``environ`` in place of what is ours of our own;
    a process, which ends with 0 or, with the traceback printed, with 1."""
    process = _CONTEXT.Process(target=_publish, args=(environ, args, options))
    process.start()
    return process


def _publish(environ, args, options):
    for name in [key for key in os.environ if key.startswith(("HF_", "ZOO_"))]:
        del os.environ[name]
    os.environ.update(environ)
    import zoo

    zoo.publish(*args, **options)
