"""A disk that fails: new mail is told to come later, visibly; what was accepted goes on; nothing promised is missing.

Two ways to fail: strace gives EIO to the running program's syncs or writes, as long as it is attached; and an ext4
of the test's own turns read-only by an error, which loses all that was never synced.
"""

import os
import signal

from disk import Image, Watched
from load import EVERYBODY, Books, Fickle, Load, seed_of
from relay import Scenario, needs_posthouse
from upstream import Upstream
from waiting import wait_for

UNDER_WAY = 8
DELIVERY = f"[delivery]\nconcurrency = {UNDER_WAY}\ntotal = {UNDER_WAY}\n"
LATER = "b.example.com"
# How soon mail must be taken again when the disk works; a new segment is tried every second.
SOON = 5


@needs_posthouse
class DiskFailing(Scenario):
    def setUp(self):
        super().setUp()
        self.books = Books(seed_of(os.environ))
        self.script = Fickle(self.books)
        self.script.calm, self.script.deferring = True, EVERYBODY
        self.upstream = self.enter(Upstream(self.script))
        self.calls = []

    def watched(self, relay, inject=None):
        return Watched(relay.process.pid, self.folder / "strace.out", self.calls, inject)

    def test_syncs_fail(self):
        relay = self.relay(self.upstream, speed=60, settings=DELIVERY)
        with Load(relay, self.books, pause=0.05):
            self.accepts(relay, 40)
            with self.watched(relay, "fdatasync,fsync:error=EIO"):
                self.refuses(relay)
                self.goes_on(relay)
                # Nothing is to happen between this look and the next one.
                relay.process.send_signal(signal.SIGSTOP)
            with self.watched(relay):
                relay.process.send_signal(signal.SIGCONT)
                self.takes_mail_again(relay)
                self.accepts(relay, len(self.books.promised) + 40)
        self.assertEqual(touched_after_a_failed_sync(self.calls, relay.spool), [])
        self.found_again_after_a_crash(relay, 1)

    def test_syncs_fail_until_the_program_is_killed(self):
        relay = self.relay(self.upstream, speed=60, settings=DELIVERY)
        with Load(relay, self.books, pause=0.05):
            self.accepts(relay, 40)
            with self.watched(relay, "fdatasync,fsync:error=EIO"):
                self.refuses(relay)
                relay.kill()
            relay.start()
            self.goes_on(relay)
        self.found_again_after_a_crash(relay, 2)

    def test_writes_fail(self):
        # The tracking log and the memory of destinations are written by other calls or fail as well: mail goes on.
        relay = self.relay(self.upstream, speed=60, settings=DELIVERY)
        with Load(relay, self.books, pause=0.05):
            self.accepts(relay, 40)
            with self.watched(relay, "pwritev,pwritev2,pwrite64:error=EIO"):
                self.refuses(relay)
                self.goes_on(relay)
            self.takes_mail_again(relay)
        self.found_again_after_a_crash(relay, 1)

    def test_an_ext4_turns_read_only(self):
        disk = self.enter(Image(self.folder / "disk.ext4", self.folder / "disk"))
        relay = self.relay(self.upstream, speed=60, settings=DELIVERY, spool=disk.folder / "spool")
        with Load(relay, self.books, pause=0.05):
            self.accepts(relay, 40)
            disk.break_down()
            self.refuses(relay)
            self.goes_on(relay)
            # None of the outcomes since the error could be written: all that was delivered comes again.
            again = self.books.delivered()
            relay.kill()
        disk.mend()
        relay.start()
        with Load(relay, self.books, pause=0.05):
            self.accepts(relay, len(self.books.promised) + 40)
        self.found_again_after_a_crash(relay, 1, again)

    def accepts(self, relay, count):
        wait_for(lambda: len(self.books.promised) >= count, 60, lambda: f"{count} accepted expected\n{relay.log()}")

    def refuses(self, relay):
        """Everything, and says so in every place where people look."""
        wait_for(lambda: len(self.books.refused) >= 10, 20, lambda: f"451 4.3.0 expected\n{relay.log()}")
        promised = len(self.books.promised)
        wait_for(lambda: len(self.books.refused) >= 20, 20, lambda: f"more 451 4.3.0 expected\n{relay.log()}")
        self.assertEqual(len(self.books.promised), promised, "mail was accepted on a failing disk")
        self.assertEqual({reply[:9] for reply in self.books.refused}, {"451 4.3.0"})
        healthy, summary = relay.health()
        self.assertFalse(healthy)
        self.assertRegex(summary, "accepts no new mail: .*disk fails")
        [reason] = {event["reason"] for event in relay.events() if event["event"] == "REJECT"}
        self.assertEqual(reason, "the spool's disk fails")
        self.assertTrue("new mail is refused" in relay.said(), f"a line of the log expected\n{relay.log()}")

    def goes_on(self, relay):
        """What was accepted is delivered meanwhile; one domain still waits."""
        self.script.deferring = LATER
        wait_for(lambda: not self.books.unsettled(LATER), 60,
                 lambda: f"{len(self.books.unsettled(LATER))} recipients still wait\n{relay.log()}")

    def takes_mail_again(self, relay):
        before = len(self.books.promised)
        wait_for(lambda: len(self.books.promised) > before, SOON, lambda: f"mail should be taken again\n{relay.log()}")
        self.assertTrue(relay.health()[0])

    def found_again_after_a_crash(self, relay, kills, more=0):
        self.assertTrue(self.books.unsettled(), "something should wait")
        relay.kill()
        relay.start()
        self.script.deferring = None
        self.books.balance(self, relay, 60, kills * UNDER_WAY + more)


def touched_after_a_failed_sync(calls, spool):
    """The files below `spool` that were synced or written once more after a sync of theirs had failed."""
    failed, touched = set(), []
    # A folder is no file: its sync may be tried again.
    folders = {str(path) for path in spool.rglob("*") if path.is_dir()}
    for name, path, result in calls:
        if not path.startswith(f"{spool}/") or path in folders:
            continue
        if path in failed:
            touched.append((name, path))
        elif name in Watched.SYNCS and result < 0:
            failed.add(path)
    if not failed:
        raise AssertionError(f"strace saw no sync fail below {spool}: {calls[:20]}")
    return touched
