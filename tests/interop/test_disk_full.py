"""A disk that is full, or nearly: new mail is told to come later, what was accepted goes on, and space is all it takes.

The disk is a tmpfs of the test's own. The load goes on all the time, with contents large enough to hit the end of the
disk in their midst.
"""

import os
import time

from disk import Tmpfs
from load import EVERYBODY, KIB, MIXED, Books, Fickle, Load, seed_of
from relay import Scenario, needs_posthouse
from upstream import Upstream
from waiting import wait_for

UNDER_WAY = 8
DELIVERY = f"[delivery]\nconcurrency = {UNDER_WAY}\ntotal = {UNDER_WAY}\n"
NET = '[safety_net]\nhold = "1h"\n'
MIB = 1 << 20
LATER = "b.example.com"
# So many large ones that the end of the disk comes in the midst of one.
LARGE = MIXED + (1536 * KIB, 3072 * KIB) * 5
# How soon mail must be taken again when there is space; the disk is looked at every second.
SOON = 5


@needs_posthouse
class DiskFull(Scenario):
    def setUp(self):
        super().setUp()
        self.disk = self.enter(Tmpfs(self.folder / "disk", 256 * MIB))
        self.books = Books(seed_of(os.environ))
        self.script = Fickle(self.books)
        self.script.calm, self.script.deferring = True, EVERYBODY
        self.upstream = self.enter(Upstream(self.script))

    def on_disk(self, settings=DELIVERY, **more):
        return self.relay(self.upstream, speed=60, settings=settings, spool=self.disk.folder / "spool", **more)

    def test_at_the_edge_of_the_reserve(self):
        relay = self.on_disk(min_free="64MiB")
        # Slow enough not to eat up the reserve between two looks at the disk.
        with Load(relay, self.books, pause=0.2):
            self.accepts(relay, 40)
            # Half of the reserve is left, so that what is removed does not lift it.
            self.disk.fill(32 * MIB)
            self.refuses(relay)
            healthy, summary = relay.health()
            self.assertFalse(healthy)
            self.assertRegex(summary, "accepts no new mail: .*full or below its reserve")
            # The first refusals by reserve may still stand behind those of sessions in the midst of a message.
            rejected = wait_for(lambda: [event for event in relay.events() if event["event"] == "REJECT"], 10,
                                "a REJECT event expected")
            self.assertIn("452 4.3.1", str(rejected[-1]))
            self.assertIn("min_free", rejected[-1]["reason"])
            self.goes_on(relay)
            self.assertFalse(relay.health()[0])
            self.takes_mail_again(relay)
        self.found_again_after_a_crash(relay, 1)

    def test_without_a_single_octet_left(self):
        # The tracking log lies on the same disk, and has nowhere to go either.
        relay = self.on_disk(min_free="0B", tracking=self.disk.folder / "tracking")
        with Load(relay, self.books, LARGE):
            self.accepts(relay, 40)
            self.disk.fill()
            self.refuses(relay)
            self.assertFalse(relay.health()[0])
            self.goes_on(relay)
            self.takes_mail_again(relay)
            wait_for(lambda: relay.events(cut=True)[-1]["event"] in ("RECEIVE", "SEND"), 10, "the tracking log should go on")
        self.found_again_after_a_crash(relay, 1)

    def test_a_crash_and_a_start_while_it_is_full(self):
        relay = self.on_disk(min_free="0B", tracking=self.disk.folder / "tracking")
        with Load(relay, self.books, LARGE):
            self.accepts(relay, 40)
            self.disk.fill()
            self.refuses(relay)
            relay.kill()
            self.disk.fill()
            relay.start()
            self.refuses(relay)
            self.goes_on(relay)
            self.takes_mail_again(relay)
        self.found_again_after_a_crash(relay, 2)

    def test_a_first_start_on_a_full_disk(self):
        self.disk.fill()
        relay = self.on_disk(min_free="16MiB", tracking=self.disk.folder / "tracking")
        with Load(relay, self.books, pause=0.2):
            self.refuses(relay)
            self.takes_mail_again(relay)
            self.accepts(relay, 20)
        self.found_again_after_a_crash(relay, 1)

    def test_what_the_safety_net_keeps_makes_room_for_what_waits(self):
        # More than the disk holds passes through it, and all of it would be kept for an hour.
        self.script.deferring = LATER
        relay = self.on_disk(min_free="32MiB", settings=DELIVERY + NET)
        with Load(relay, self.books, LARGE, one_in_fifty_waits):
            passed = lambda: sum(self.books.sizes[name] for name in self.books.promised)
            wait_for(lambda: passed() > self.disk.size * 5 // 4, 120,
                     lambda: f"{passed() // MIB} MiB passed, {self.disk.free() // MIB} are free\n{relay.log()}")
        wait_for(lambda: not self.books.unsettled(LATER), 60, lambda: f"all but {LATER} should be there\n{relay.log()}")
        self.assertTrue("the safety net lets the oldest messages go" in relay.said(), f"a line of the log expected\n{relay.log()}")
        self.assertTrue(relay.health()[0])
        self.found_again_after_a_crash(relay, 1)

    def accepts(self, relay, count):
        wait_for(lambda: len(self.books.promised) >= count, 60, lambda: f"{count} accepted expected\n{relay.log()}")

    def refuses(self, relay):
        """Everything, for a second."""
        wait_for(lambda: self.books.refused, 20, lambda: f"452 4.3.1 expected\n{relay.log()}")
        wait_for(lambda: not self.promises_within(1), 20, "mail should be refused")
        self.assertEqual({reply[:9] for reply in self.books.refused}, {"452 4.3.1"}, relay.log())
        self.assertTrue("new mail is refused" in relay.said(), f"a line of the log expected\n{relay.log()}")

    def promises_within(self, seconds):
        before = len(self.books.promised)
        time.sleep(seconds)
        return len(self.books.promised) - before

    def goes_on(self, relay):
        """What was accepted is delivered meanwhile, though the disk stays full; one domain still waits."""
        self.script.deferring = LATER

        def settled():
            if relay.min_free == "0B":
                self.disk.fill()
            return not self.books.unsettled(LATER)

        wait_for(settled, 60, lambda: f"{len(self.books.unsettled(LATER))} recipients still wait\n{relay.log()}")

    def takes_mail_again(self, relay):
        before = len(self.books.promised)
        self.disk.clear()
        wait_for(lambda: len(self.books.promised) > before, SOON, lambda: f"mail should be taken again\n{relay.log()}")
        self.assertTrue(relay.health()[0])

    def found_again_after_a_crash(self, relay, kills):
        self.assertTrue(self.books.unsettled(), "something should wait")
        relay.kill()
        relay.start()
        self.script.deferring = None
        self.books.balance(self, relay, 60, kills * UNDER_WAY)


def one_in_fifty_waits(chance):
    return [f"rcpt@{LATER if chance.random() < 0.02 else 'example.com'}"]
