"""The command line beside a running relay: queue, why, track, and what `run` refuses."""

import csv
import io
import json
import os
import subprocess

import clients
import contents
from relay import Scenario, needs_posthouse
from upstream import Script, Upstream
from waiting import HOST, free_port, wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]


class Busy(Script):
    """Tells everybody to come again until it is `open`."""
    open = False

    def recipient(self, session, address):
        return "250 2.1.5 Ok" if self.open else "451 4.2.0 Mailbox is busy"


@needs_posthouse
class Commands(Scenario):
    def setUp(self):
        super().setUp()
        self.upstream = self.enter(Upstream(Busy()))
        self.proxy = self.relay(self.upstream)
        self.reply = clients.with_socket(self.proxy.port, SENDER, [RECIPIENT], CONTENT)
        wait_for(lambda: any(event["event"] == "DEFER" for event in self.proxy.events()), 20,
                 lambda: f"a DEFER event expected: {self.proxy.events()}")
        [received] = [event for event in self.proxy.events() if event["event"] == "RECEIVE"]
        self.id = received["id"]

    def test_the_250_carries_the_queue_id(self):
        self.assertIn(self.id, self.reply)

    def test_queue_list_shows_what_waits(self):
        listed = self.proxy.queue()
        self.assertIn(self.id, json.dumps(listed))
        self.assertIn(RECIPIENT, json.dumps(listed))

    def test_why_tells_the_upstreams_last_words_and_the_next_step(self):
        said = self.proxy.command("why", self.id)
        for part in (RECIPIENT, "451 4.2.0 Mailbox is busy"):
            self.assertIn(part, said)

    def test_retry_delivers_at_once_and_empties_the_queue(self):
        self.upstream.script.open = True
        self.proxy.command("queue", "retry", self.id)
        self.received(self.upstream, 1, 20)
        wait_for(lambda: self.id not in json.dumps(self.proxy.queue()), 10, "the queue should be empty")

    def test_hold_keeps_and_release_lets_go(self):
        self.proxy.command("queue", "hold", self.id)
        self.upstream.script.open = True
        self.assertIn("held", json.dumps(self.proxy.queue()).lower())
        self.proxy.command("queue", "release", self.id)
        self.received(self.upstream, 1, 20)

    def test_cancel_forgets(self):
        self.proxy.command("queue", "cancel", self.id)
        wait_for(lambda: self.id not in json.dumps(self.proxy.queue()), 10, "the queue should be empty")
        self.upstream.script.open = True
        clients.with_socket(self.proxy.port, SENDER, ["other@example.com"], CONTENT)
        self.assertEqual(self.received(self.upstream, 1)[0].addresses, ["other@example.com"])

    def test_track_finds_by_recipient_in_every_format(self):
        table = list(csv.DictReader(io.StringIO(self.proxy.command("track", "--recipient", RECIPIENT, "--format", "csv"))))
        self.assertIn("DEFER", [row["event"] for row in table])
        self.assertIn(self.id, self.proxy.command("track", "--recipient", RECIPIENT, "--format", "json"))
        self.assertIn(self.id, self.proxy.command("track", "--recipient", RECIPIENT))
        self.assertNotIn(self.id, self.proxy.command("track", "--recipient", "nobody@example.com", "--format", "json"))

    def test_send_submits_a_file_through_the_relay(self):
        self.upstream.script.open = True
        letter = self.folder / "letter.eml"
        letter.write_bytes(CONTENT)
        done = subprocess.run([self.proxy.program, "send", "--from", SENDER, "--to", "sent@example.com", "--server",
                               f"{HOST}:{self.proxy.port}", str(letter)], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        wait_for(lambda: [m for m in self.upstream.messages if m.addresses == ["sent@example.com"]], 20, "the message")


@needs_posthouse
class Refusals(Scenario):
    def refused(self, *words):
        done = subprocess.run([os.environ["INTEROP_POSTHOUSE"], *words], capture_output=True, text=True, timeout=30, cwd=self.folder)
        self.assertNotEqual(done.returncode, 0)
        return done.returncode, done.stderr + done.stdout

    def test_run_without_an_upstream_or_a_route_is_refused(self):
        _, said = self.refused("run", "--listen", f"{HOST}:{free_port()}", "--spool", str(self.folder / "other"))
        self.assertIn("upstream", said)

    def test_check_names_every_fault_at_once_and_ends_with_2(self):
        config = self.folder / "bad.toml"
        config.write_text('hostname = "relay.example.org"\n[retry]\npreset = "eager"\nexpire_after = 3\n[spol]\npath = "x"\n')
        status, said = self.refused("check", "--config", str(config))
        self.assertEqual(status, 2)
        for part in ("bad.toml", "eager", "expire_after", "spol"):
            self.assertIn(part, said)
