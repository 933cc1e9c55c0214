"""An upstream that breaks the protocol wherever it can: nothing is lost, nothing is believed that it has not said.

INTEROP_DIALOGUES sets how many dialogues go wrong, INTEROP_SEED the chance.
"""

import collections
import os
import re
import smtplib
import time

from hostile import Hostile
from load import KIB, name_of, seed_of
from relay import Scenario, needs_posthouse
from test_endurance import descriptors, memory
from waiting import HOST, wait_for

DIALOGUES = int(os.environ.get("INTEROP_DIALOGUES", "80"))
SETTINGS = """\
[timeouts]
connect = "500ms"
greeting = "500ms"
command = "500ms"
content = "500ms"
[delivery]
messages_per_connection = 1
"""
SIZES = (KIB, 10 * KIB, 100 * KIB, 1000 * KIB)


@needs_posthouse
class HostileUpstream(Scenario):
    def setUp(self):
        super().setUp()
        self.seed, self.promised = seed_of(os.environ), []

    def test_nothing_is_lost_by_it_and_nothing_believed_that_was_not_said(self):
        upstream = self.enter(Hostile(self.seed))
        relay = self.relay(upstream, speed=600, settings=SETTINGS, retry='first = "30s"\nmax = "2m"\nexpire_after = "60d"')
        deadline = time.monotonic() + 120
        while upstream.dialogues < DIALOGUES and time.monotonic() < deadline:
            if len(self.promised) - len(upstream.taken) < 40:
                self.submit(relay, 5)
            time.sleep(0.05)
        upstream.calm = True
        wait_for(lambda: not relay.queue(), 60, lambda: f"seed {self.seed}: the queue should be empty\n{relay.log()}")
        # The log is written behind what happens.
        events, names = wait_for(lambda: self.told(relay), 10, lambda: f"each message's end in the log\n{relay.log()}")
        ends = collections.defaultdict(collections.Counter)
        for event in events:
            ends[names.get(event.get("id"))][event["event"]] += 1
        # The header alone: notices quote that of the message which they are about.
        yes = collections.Counter(name_of(taken.content.partition(b"\r\n\r\n")[0]) for taken in upstream.taken
                                  if re.search(rb"(?:^|\n)2\d\d", taken.said))
        print(f"\nseed {self.seed}: {upstream.dialogues} dialogues, {len(upstream.ways)} ways to break the protocol; of "
              f"{len(self.promised)} messages {sum(ends[name]['SEND'] for name in self.promised)} were delivered, "
              f"{sum(ends[name]['FAIL'] for name in self.promised)} refused, "
              f"{sum(ends[name]['UNCERTAIN'] for name in self.promised)} times uncertain", flush=True)
        for name in self.promised:
            of_it = f"seed {self.seed}: {name}: {dict(ends[name])}"
            self.assertEqual(ends[name]["SEND"] + ends[name]["FAIL"], 1, of_it)
            self.assertGreaterEqual(yes[name], ends[name]["SEND"], f"{of_it}: nobody has said yes to it")
            self.assertLessEqual(yes[name], 1 + ends[name]["UNCERTAIN"], f"{of_it}: taken more often than anybody told")
        self.is_unharmed(relay, events)

    def told(self, relay):
        """All events, and the Message-ID of each queue id, once an end of each message is among them."""
        events = relay.events()
        names = {event["id"]: event["message_id"].strip("<>") for event in events if event["event"] == "RECEIVE"
                 and event.get("message_id")}
        return set(names) <= {event.get("id") for event in events if event["event"] in ("SEND", "FAIL")} and (events, names)

    def submit(self, relay, count):
        with smtplib.SMTP(HOST, relay.port, "client.example.org", timeout=20) as client:
            for _ in range(count):
                name = f"{len(self.promised)}@load.example.org"
                lines = SIZES[len(self.promised) % len(SIZES)] // 64
                client.sendmail("sender@example.org", ["rcpt@example.com"],
                                f"Message-ID: <{name}>\r\nSubject: load\r\n\r\n" + ("x" * 62 + "\r\n") * lines)
                self.promised.append(name)

    def is_unharmed(self, relay, events):
        """And so are the terminals of those who read about it."""
        said = [str(value) for event in events for value in event.values()]
        control = [text for text in [*said, *relay.said().splitlines()] if re.search(r"[\x00-\x1f\x7f-\x9f]", text)]
        self.assertEqual(control[:3], [], f"seed {self.seed}: control characters")
        self.assertNotIn("panicked", relay.said())
        self.assertLess(descriptors(relay), 80, f"seed {self.seed}")
        self.assertLess(memory(relay), 128 << 20, f"seed {self.seed}")
