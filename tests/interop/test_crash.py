"""kill -9 under load: every recipient of a message that got its 250 is delivered to, or a notice tells of the failure.

INTEROP_KILLS sets the rounds of the first scenario, INTEROP_SEED the chance. The counts are printed. Lost must be 0.
Duplicates: a crash between the upstream's 250 and its record brings a second delivery of what was under way, and of
nothing else, so there are at most [delivery] total for each kill; under uncertain = "hold" there are none, and what
nobody knows waits for a person.
"""

import os
import random
import subprocess
import time
import unittest

from load import EVERYBODY, KIB, Books, Fickle, Load, seed_of
from relay import Scenario, UNDER_TEST
from upstream import Upstream
from waiting import free_port, wait_for

KILLS = int(os.environ.get("INTEROP_KILLS", "10"))
UNDER_WAY = 8
DELIVERY = f"[delivery]\nconcurrency = {UNDER_WAY}\ntotal = {UNDER_WAY}\n"
MIB = 1 << 20


class Killer:
    """Ends a relay by SIGKILL at moments of chance, also while it starts, and counts how often."""

    def __init__(self, relay, seed):
        self.relay, self.chance, self.kills = relay, random.Random(f"killer {seed}"), 0

    def strike(self):
        time.sleep(self.chance.uniform(0.0, 0.8))
        self._kill()
        # A start that is cut short, or two in a row.
        for _ in range(self.chance.choice((0, 1, 1, 2))):
            self.relay.launch()
            time.sleep(self.chance.uniform(0.005, 0.3))
            self._kill()
        self.relay.start(60)

    def _kill(self):
        self.relay.kill()
        self.kills += 1

    def explained(self):
        """As many duplicates as these kills explain."""
        return self.kills * UNDER_WAY


@unittest.skipIf(UNDER_TEST != "posthouse", "bounds duplicates by posthouse's own settings")
class Crash(Scenario):
    def setUp(self):
        super().setUp()
        self.books = Books(seed_of(os.environ))
        self.script = Fickle(self.books)

    def test_nothing_that_got_a_250_is_lost_by_kill_9(self):
        port = free_port()
        relay = self.relay(f"smtp://127.0.0.1:{port}", speed=60, settings=DELIVERY)
        killer = Killer(relay, self.books.seed)
        with Load(relay, self.books):
            for number in range(KILLS):
                before = len(self.books.promised)
                # Taking, taking, deferring, gone: and again.
                self.script.deferring = EVERYBODY if number % 4 == 2 else None
                if number % 4 == 3:
                    self._strike(relay, killer, before)
                else:
                    with Upstream(self.script, port):
                        self._strike(relay, killer, before)
        self.script.calm, self.script.deferring = True, None
        self.enter(Upstream(self.script, port))
        self.books.balance(self, relay, 120, killer.explained())

    def test_nothing_is_lost_by_kill_9_while_little_lives_among_much_that_is_dead(self):
        # What a spool compacts: segments of 64 MiB of which one message in twenty waits for an upstream that is down.
        self.script.calm = True
        port = free_port()
        relay = self.relay(self.enter(Upstream(self.script)), speed=60, settings=DELIVERY,
                           beside={"example.net": f"smtp://127.0.0.1:{port}"})
        killer = Killer(relay, self.books.seed)
        with Load(relay, self.books, (75 * KIB, 150 * KIB, 300 * KIB), one_in_twenty_waits):
            for _ in range(10):
                self._until(relay, "octets of mail", self._arrived, self._arrived() + 20 * MIB)
                killer.strike()
        self._until(relay, "settled recipients elsewhere", lambda: -len(self.books.unsettled("example.net")), 0)
        waiting = len(self.books.unsettled())
        # Compaction gives the space back while the relay runs: at most three times what lives, and two segments.
        lives = sum(self.books.sizes[name] for name, _ in self.books.unsettled())
        self._until(relay, "octets less in the spool's folder", lambda: -size_of(relay.spool), -(3 * lives + 128 * MIB))
        print(f"\n{waiting} messages wait, {size_of(relay.spool) // MIB} MiB are in the spool's folder after "
              f"{self._arrived() // MIB} MiB of mail", flush=True)
        self.assertGreater(waiting, 0)
        self.enter(Upstream(self.script, port))
        self.books.balance(self, relay, 120, killer.explained())

    def test_nothing_comes_twice_under_hold_and_what_is_uncertain_is_listed(self):
        steady = Fickle(self.books)
        steady.calm = True
        relay = self.relay(self.enter(Upstream(self.script)), self.enter(Upstream(steady)), speed=60,
                           settings=DELIVERY + 'uncertain = "hold"\n')
        killer = Killer(relay, self.books.seed)
        with Load(relay, self.books):
            for _ in range(KILLS):
                self._strike(relay, killer, len(self.books.promised))
        self.script.calm = True
        wait_for(lambda: not waiting(relay), 60, lambda: f"seed {self.books.seed}: {waiting(relay)} should wait for "
                 f"nobody but a person\n{relay.log()}")
        self.assertEqual(self.books.repeated(), 0, f"seed {self.books.seed}: under hold nothing comes twice")
        doubts = relay.queue()
        self.assertGreater(len(doubts), 0, f"seed {self.books.seed}: the first host has broken off after the final dot")
        for message in doubts:
            relay.command("queue", "retry", message["id"])
        self.books.balance(self, relay, 60, len(doubts))

    def _strike(self, relay, killer, before):
        self._until(relay, "accepted messages", lambda: len(self.books.promised), before + 20)
        killer.strike()

    def _until(self, relay, what, count, wanted):
        wait_for(lambda: count() >= wanted, 60, lambda: f"seed {self.books.seed}: {wanted} {what} expected, there are "
                 f"{count()}\n{relay.log()}")

    def _arrived(self):
        return sum(self.books.sizes[name] for name in self.books.promised)


def waiting(relay):
    """Ids of messages of which some recipient is still to be tried."""
    ended = {"uncertain", "delivered", "relayed", "bounced"}
    return [message["id"] for message in relay.queue()
            if not {recipient["state"] for recipient in message["recipients"]} <= ended]


def one_in_twenty_waits(chance):
    return [f"rcpt@{'example.net' if chance.random() < 0.05 else 'example.com'}"]


def size_of(folder):
    """Octets on the disk; a file may go while they are counted."""
    done = subprocess.run(["du", "--summarize", "--block-size=1", str(folder)], capture_output=True, text=True)
    return int(done.stdout.split()[0])
