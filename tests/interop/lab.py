"""A `posthouse lab up` or `posthouse lab upstream` that runs, and the commands that speak to it.

Contract: `Lab` starts one with a folder of its own and returns once it takes mail on `port`; `end` stops it by its process
id. What it tells is in `told`.
Not here: what is asserted (`test_lab.py`).
"""

import json
import os
import pathlib
import re
import signal
import subprocess

from peers import postfix
from waiting import HOST, wait_for

# How each of them says on which address it takes mail: `upstream`, and `up`.
LISTENS = re.compile(rf"listening on {HOST}:(\d+)|{HOST}:(\d+) +takes mail by SMTP")


class Lab:
    """`words` are what follows `posthouse lab`. Ended with its `with` block, whatever happens."""

    def __init__(self, folder, *words):
        self.dir, self.out = pathlib.Path(folder) / "lab", pathlib.Path(folder) / "lab.out"
        self.program = os.environ["INTEROP_POSTHOUSE"]
        self.words = [*words, "--listen", f"{HOST}:0"]

    def __enter__(self):
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen([self.program, "lab", *self.words, "--dir", str(self.dir)], stdout=out, stderr=out,
                                            stdin=subprocess.DEVNULL, start_new_session=True,
                                            preexec_fn=postfix.ends_with_parent)
        try:
            said = wait_for(self._listens, 20, lambda: f"the lab takes no mail:\n{self.told()}")
        except AssertionError:
            self.__exit__()
            raise
        self.port = int(said.group(1) or said.group(2))
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the lab ended with {self.process.returncode} while starting:\n{self.told()}")
        return LISTENS.search(self.told())

    def told(self):
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def tells(self, words, timeout=30):
        wait_for(lambda: words in self.told(), timeout, lambda: f"{words!r} is missing in:\n{self.told()}")

    def end(self, how=signal.SIGTERM):
        """Returns the exit status."""
        self.process.send_signal(how)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"the lab did not end within 20 s:\n{self.told()}")

    def command(self, *words):
        """`posthouse lab WORDS...` against this one: the bytes that it printed."""
        done = subprocess.run([self.program, "lab", *words, "--dir", str(self.dir)], capture_output=True, timeout=30)
        if done.returncode:
            raise AssertionError(f"posthouse lab {' '.join(words)} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def asked(self, stage):
        """What it was asked at this stage and did, in order."""
        rows = json.loads(self.command("asked", "--most", "0", "--format", "json"))
        return [(row["about"], row["did"]) for row in rows if row["stage"] == stage]

    def inbox(self):
        return json.loads(self.command("inbox", "--format", "json"))

    def content(self, number):
        return self.command("inbox", str(number), "--raw")
