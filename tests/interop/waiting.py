"""Waiting for other programs, always with an end.

Contract: `wait_for` polls a condition and fails with a sentence that says what did not happen; `free_port` names a
port of 127.0.0.1 that nobody listens on now.
Not here: the relay's own schedule, which a test shortens by `--speed` or by its settings.
"""

import socket
import time

HOST = "127.0.0.1"
# Given ports are not given again within one run: the kernel may repeat itself.
_given = set()


def wait_for(condition, timeout, what):
    """Returns the first true value of `condition()`; raises AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def free_port():
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
