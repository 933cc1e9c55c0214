"""The relay under test: the real program, started on a free port with a spool of its own.

Contract: `Posthouse` writes a configuration file, starts `$INTEROP_POSTHOUSE run`, returns once it greets, and ends it by its
process id. With `RELAY_UNDER_TEST=postfix` the scenarios that need nothing of posthouse's own run against a private
Postfix instead, which proves the scenarios themselves.
Invariants: the spool, the settings and the log stay over `stop`, `kill` and `start`.
Not here: what is asserted (`test_*.py`).
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from peers import postfix
from waiting import HOST, free_port, wait_for

UNDER_TEST = os.environ.get("RELAY_UNDER_TEST", "posthouse")
needs_posthouse = unittest.skipIf(UNDER_TEST != "posthouse", "speaks of posthouse's own settings or commands")


class Posthouse:
    """One relay. `hosts` are upstream URLs in order of preference; `beside` leads single domains to other upstreams.

    `spool` and `tracking` are folders on a disk of the test's choice, with `min_free` to be left on the spool's.
    `users` is a file of who may authenticate, `upstream` holds more lines for the upstream's section.
    """

    def __init__(self, folder, hosts, speed=None, settings="", networks=("127.0.0.1/32",), retry='preset = "default"',
                 spool=None, tracking=None, min_free="16MiB", beside=None, tls="none", users=None, upstream=""):
        self.folder, self.port, self.speed, self.process = pathlib.Path(folder), free_port(), speed, None
        self.spool, self.tracking = spool or self.folder / "spool", tracking or self.folder / "tracking"
        self.min_free, self.beside, self.tls, self.users = min_free, beside or {}, tls, users
        self.config, self.out = self.folder / "posthouse.toml", self.folder / "posthouse.out"
        self.program = os.environ.get("INTEROP_POSTHOUSE")
        if not self.program:
            raise AssertionError("INTEROP_POSTHOUSE names no program; run these scenarios by `cargo test --test interop`")
        self.retry, self.networks, self.settings, self.upstream = retry, networks, settings, upstream
        self.configure(hosts)

    def configure(self, hosts):
        """Writes the configuration file; a running relay reads it anew on SIGHUP."""
        beside = "".join(f"[[route]]\ndomains = [{json.dumps(domain)}]\nvia = \"beside-{number}\"\n"
                         f"[upstream.beside-{number}]\nhosts = [{json.dumps(url)}]\n\n"
                         for number, (domain, url) in enumerate(self.beside.items()))
        self.config.write_text(f"""\
hostname = "relay.example.org"

[spool]
path = {json.dumps(str(self.spool))}
min_free = "{self.min_free}"

[[listener]]
address = "{HOST}:{self.port}"
tls = "{self.tls}"

[relaying]
networks = {json.dumps(list(self.networks))}
{f'users = {json.dumps(str(self.users))}' if self.users else ''}

{beside}[[route]]
domains = ["*"]
via = "main"

[upstream.main]
hosts = {json.dumps(list(hosts))}
{self.upstream}

[retry]
{self.retry}

[tracking]
path = {json.dumps(str(self.tracking))}

{self.settings}
""")

    def start(self, timeout=20):
        self.launch()
        wait_for(self._is_ready, timeout, lambda: f"the relay did not greet:\n{self.log()}")
        return self

    def launch(self):
        """Starts the program and waits for nothing."""
        command = [self.program, "run", "--config", str(self.config)]
        if self.speed:
            command += ["--speed", str(self.speed)]
        self.before = len(self.said())
        with open(self.out, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            cwd=self.folder, start_new_session=True,
                                            preexec_fn=postfix.ends_with_parent)

    def _is_ready(self):
        """It greets, and the command line reaches it."""
        if self.process.poll() is not None:
            raise AssertionError(f"the relay ended with {self.process.returncode} while starting:\n{self.log()}")
        return " ready spool=" in self.said()[self.before:] and postfix.greets(self.port)

    def stop(self, timeout=30):
        """SIGTERM; returns the exit status and the seconds it took."""
        if self.process is None:
            return None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the relay did not stop within {timeout} s of SIGTERM:\n{self.log()}")
        self.process = None
        return status, time.monotonic() - began

    def kill(self):
        """As a crash would end it: SIGKILL, no farewell."""
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def reload(self, *hosts):
        """Names other upstreams in the configuration and tells the relay to read it."""
        self.configure([getattr(host, "url", host) for host in hosts])
        self.process.send_signal(signal.SIGHUP)

    def said(self):
        """The program's own log, over all its starts."""
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def log(self):
        """The end of it, for a complaint."""
        return self.said()[-4000:]

    def command(self, *words):
        """Runs the program's command line against this relay's spool; returns what it printed."""
        # The log lies elsewhere than in the spool here, and only the configuration says where.
        place = ["--config", str(self.config)] if words[0] == "track" else ["--spool", str(self.spool)]
        done = subprocess.run([self.program, *words, *place], capture_output=True, text=True,
                              timeout=30, cwd=self.folder)
        if done.returncode:
            raise AssertionError(f"posthouse {' '.join(words)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def health(self):
        """Whether it takes mail by its own account, and the line for people."""
        done = subprocess.run([self.program, "health", "--spool", str(self.spool), "--format", "json"],
                              capture_output=True, text=True, timeout=30, cwd=self.folder)
        finding = json.loads(done.stdout)
        if (done.returncode == 0) != finding["healthy"]:
            raise AssertionError(f"posthouse health ended with {done.returncode} and says {finding}")
        return finding["healthy"], finding["summary"]

    def queue(self):
        return json.loads(self.command("queue", "list", "--format", "json"))

    def events(self, cut=False):
        """The tracking log, oldest first. `cut`: a full disk may have cut lines short, and they are passed over."""
        records = []
        for path in sorted(self.tracking.rglob("*")):
            # Transcripts of sessions lie beside the events.
            if path.is_file() and not path.name.startswith("sessions-"):
                # The last line may still be being written.
                records += [json.loads(line) for line in path.read_text().splitlines(keepends=True)
                            if line.endswith("}\n" if cut else "\n") and line.strip()]
        return records


class PostfixRelay:
    """Postfix in the same place, for proving the scenarios."""

    EXTRA = """
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
transport_retry_time = 1s
message_size_limit = 50000000
smtp_tls_security_level = may
"""

    def __init__(self, folder, hosts, speed=None, settings="", networks=None, retry=None):
        first, *others = [(url.rpartition(":")[0].rpartition("/")[2], int(url.rpartition(":")[2])) for url in hosts]
        extra = self.EXTRA
        if others:
            extra += "smtp_fallback_relay = " + ", ".join(f"[{host}]:{port}" for host, port in others) + "\n"
        self.port = free_port()
        self.postfix = postfix.Postfix(pathlib.Path(folder) / "postfix-relay", self.port, first, extra, "127.0.0.1/32")

    def start(self, timeout=20):
        self.postfix.start(timeout)
        return self

    def stop(self, timeout=30):
        began = time.monotonic()
        self.postfix.stop(timeout)
        return 0, time.monotonic() - began

    def kill(self):
        os.killpg(self.postfix.process.pid, signal.SIGKILL)
        self.postfix.process.wait(10)

    def log(self):
        return self.postfix.log()


Relay = {"posthouse": Posthouse, "postfix": PostfixRelay}[UNDER_TEST]


class Scenario(unittest.TestCase):
    """A test with a folder of its own, whose relays are ended whatever happens, and shown when it fails."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-interop-"))
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.relays, self.last_words = [], []

    def relay(self, *hosts, **settings):
        """A relay that runs, in front of these upstreams (URLs, or anything with a `url`)."""
        folder = self.folder / f"relay-{len(self.relays)}"
        folder.mkdir()
        relay = Relay(folder, [getattr(host, "url", host) for host in hosts], **settings)
        self.relays.append(relay)
        self.addCleanup(self._end, relay)
        return relay.start()

    def _end(self, relay):
        try:
            relay.stop()
        finally:
            self.last_words.append(relay.log())

    def run(self, result=None):
        failures = len(result.failures) + len(result.errors) if result else 0
        outcome = super().run(result)
        if result and len(result.failures) + len(result.errors) > failures:
            for log in self.last_words:
                print(f"--- the relay's log of {unittest.TestCase.id(self)}\n{log}", flush=True)
        return outcome

    def enter(self, context):
        """Like a `with` block that lasts as long as the test; the relays end before it does."""
        return self.enterContext(context)

    def received(self, upstream, count, timeout=30):
        """The messages of the upstream, once there are `count`; more than that is a failure."""
        wait_for(lambda: len(upstream.messages) >= count, timeout,
                 lambda: f"{count} messages expected, {len(upstream.messages)} arrived\n{self.relays[-1].log()}")
        self.assertEqual(len(upstream.messages), count, "more messages arrived than were sent")
        return list(upstream.messages)
