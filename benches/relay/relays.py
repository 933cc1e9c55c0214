"""The relays that are compared, with a client in front of them and a sink behind.

Contract: a Run holds one relay between smtp-source and smtp-sink, from its start to its end; `pass_on` sends through it.
Invariants: loopback only; only processes started here are ended; each run is bounded in time.
Not here: what is measured (`run`, `traces`), how Postfix is set up (tests/peers/postfix.py).
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/interop"))

from peers import postfix  # noqa: E402
from waiting import HOST, free_port, wait_for  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


class Posthouse:
    name = "posthouse"

    def __init__(self, folder, sink_port, prefix=()):
        self.port, self.folder, self.spool = free_port(), folder, folder / "spool"
        command = [*prefix, program(), "run", "--listen", f"{HOST}:{self.port}", "--upstream",
                   f"smtp://{HOST}:{sink_port}", "--spool", str(self.spool)]
        with open(folder / "posthouse.out", "wb") as out:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            preexec_fn=postfix.ends_with_parent)
        wait_for(lambda: self._alive() and postfix.greets(self.port), 30, "posthouse did not greet")

    def _alive(self):
        if self.process.poll() is not None:
            sys.exit("posthouse ended while starting: " + (self.folder / "posthouse.out").read_text()[-2000:])
        return True

    def pid(self):
        return self.process.pid

    def is_log(self, path):
        return "tracking" in path or not path.startswith(str(self.spool))

    def stop(self):
        # Under strace the child is the relay: strace itself ignores the signal until its tracees are gone.
        for pid in children(self.process.pid) or [self.process.pid]:
            os.kill(pid, 15)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            for pid in [*children(self.process.pid), self.process.pid]:
                os.kill(pid, 9)
            self.process.wait(10)


class Postfix:
    name = "Postfix"

    def __init__(self, folder, sink_port, prefix=()):
        self.port, self.folder = free_port(), folder
        self.postfix = postfix.Postfix(folder, self.port, (HOST, sink_port)).start(60, prefix)

    def pid(self):
        return self.postfix.master_pid()

    def is_log(self, path):
        return not path.startswith(str(self.folder / "queue"))

    def stop(self):
        self.postfix.stop()


class Sink:
    """smtp-sink, and its count of messages as it prints it."""

    def __init__(self):
        self.port, self.count = free_port(), 0
        account, _ = postfix.accounts()
        as_account = ["-u", account.pw_name] if os.getuid() == 0 else []
        self.process = subprocess.Popen(
            [postfix.tool("smtp-sink"), *as_account, "-c", "-m", "1000", f"{HOST}:{self.port}", "1000"],
            env=postfix.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            preexec_fn=postfix.ends_with_parent)
        self.at = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(lambda: postfix.greets(self.port), 10, "smtp-sink did not greet")

    def _read(self):
        rest = b""
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            found = re.findall(rb"mesg=(\d+)\s*\r", rest + chunk)
            if found and int(found[-1]) != self.count:
                self.at, self.count = time.monotonic(), int(found[-1])
            rest = chunk[-64:]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def program():
    given = os.environ.get("INTEROP_POSTHOUSE")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    path = pathlib.Path(given) if given else target / "release/posthouse"
    if not path.exists():
        sys.exit(f"{path} is missing: cargo build --release")
    return str(path)


def children(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


def cpu_ticks(pid):
    """Of a process, of its children that ended, and of those that live: none is counted twice, none is left out."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(field) for field in fields[11:15]) + sum(cpu_ticks(child) for child in children(pid))


def source(port, size, sessions, messages, timeout):
    subprocess.run([postfix.tool("smtp-source"), "-d", "-s", str(sessions), "-l", str(size), "-m", str(messages),
                    "-f", "sender@example.org", "-t", "rcpt@example.com", f"{HOST}:{port}"],
                   env=postfix.environment(), check=True, timeout=timeout)


class Run:
    """One relay between one source and one sink, from start to end."""

    def __init__(self, kind, folder, size, sessions, prefix=()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.chmod(folder, 0o755)
        self.size, self.sessions, self.sink = size, sessions, Sink()
        try:
            self.relay = kind(folder, self.sink.port, prefix)
        except BaseException:
            self.sink.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.relay.stop()
        self.sink.stop()

    def pass_on(self, messages, timeout=180):
        """Sends so many messages and waits until all have arrived; seconds until accepted, seconds until arrived."""
        before, began = self.sink.count, time.monotonic()
        source(self.relay.port, self.size, self.sessions, messages, timeout)
        accepted = time.monotonic() - began
        wait_for(lambda: self.sink.count >= before + messages, timeout,
                 lambda: f"{messages} messages sent, {self.sink.count - before} arrived")
        return accepted, self.sink.at - began
