"""The process that workers are forked from: a loaded interpreter that does nothing else.

    pool's process --- a worker's socket and limits ---> template --- fork ---> worker
                   <-- which worker a signal ended ----          (its parent)

A fresh interpreter takes 60 ms to load what a worker needs, a fork of this one takes 6 ms: that is
how soon a killed worker is replaced. It holds one thread and no open file but its socket, so that
forking it is safe, no matter which threads and libraries the pool's own process holds.

This is what `multiprocessing`'s fork server does, and more than it offers. There a worker's parent
does not say how it ended: the pool must tell an engine that crashed, which is the query's fault,
from a worker that was killed. The server there is one for the whole process and takes no memory
limit, its children import the caller's main module, and neither dies with the pool's process if
that is killed.

Each message on the socket is one worker's socket and its lane's limits, as JSON. Each message back
is the process id of a worker that a signal ended, and the signal. The template dies with the pool,
and the workers with the template: the kernel kills them.
"""

import argparse
import gc
import json
import os
import signal
import socket
from contextlib import suppress

from mtsql.parent import die_with_parent
from mtsql.sql.records import QueryLimits
from mtsql.sql.worker import limit_memory, serve

MESSAGE_BYTES = 1024

Order = tuple[int, QueryLimits]
"""What one worker gets: the descriptor of its socket, and its lane's limits."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="mtsql.sql.template", description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool, which then closes us
    limit_memory(options.memory_bytes)
    gc.freeze()  # a worker's collector leaves the shared pages alone
    own_pid = os.getpid()
    with socket.socket(fileno=options.socket_fd) as connection:

        def reap(_number: int, _stack: object) -> None:
            report_ended(connection)

        signal.signal(signal.SIGCHLD, reap)
        order = fork_on_order(connection)
    if order is None:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent(own_pid)
    descriptor, lane = order
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, lane, memory_bytes=options.memory_bytes)


def fork_on_order(connection: socket.socket) -> Order | None:
    """Returns None in the template, when the pool has hung up, and in each worker its order."""
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
        except ConnectionError:  # it did so before it read the last report
            return None
        if not message:
            return None
        [descriptor] = descriptors
        try:
            if os.fork() == 0:
                return descriptor, QueryLimits(**json.loads(message))
        except OSError:
            pass  # no room for a process: the pool sees the socket close, and tries again later
        os.close(descriptor)


def report_ended(connection: socket.socket) -> None:
    """Take ended workers away, and say which of them a signal ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if os.WIFSIGNALED(ended[1]):
                with suppress(OSError):  # the pool is gone, or reads nothing: then it does not care
                    report = json.dumps([ended[0], os.WTERMSIG(ended[1])])
                    connection.send(report.encode(), socket.MSG_DONTWAIT)
