"""kill -9 under load: every message that got its 250 arrives, or a notice about it does.

Set INTEROP_KILLS for more or fewer rounds than 10. The counts are printed: lost must be 0; duplicates are counted,
since a crash between the upstream's 250 and its record may bring a second delivery, never a loss.
"""

import collections
import os
import random
import re
import threading
import time

import clients
import contents
from relay import Scenario
from upstream import CLOSE, Script, Upstream
from waiting import wait_for

# Most are small; some are above the size at which a spool may keep contents apart.
SIZES = (200, 2000, 10240, 60000) * 10 + (1_500_000,)
KILLS = int(os.environ.get("INTEROP_KILLS", "10"))
THREADS = 8


class Flaky(Script):
    """Every fifth message is told 4xx, one in fifty loses its connection, one in a hundred is refused for good."""

    def __init__(self, seed):
        self.chance, self.calm = random.Random(seed), False

    def recipient(self, session, address):
        if self.calm or self.chance.random() > 0.1:
            return "250 2.1.5 Ok"
        return "451 4.2.0 Later"

    def content(self, session, message):
        roll = self.chance.random()
        if message.sender and roll < 0.01:
            return "554 5.6.0 Refused for good"
        if not self.calm and roll < 0.12:
            return CLOSE if roll < 0.03 else "452 4.3.1 Later"
        return "250 2.0.0 Ok"


class Load:
    """Threads that submit without pause and remember each Message-ID that got its 250."""

    def __init__(self, relay):
        self.relay, self.accepted, self.ended = relay, [], threading.Event()
        self.threads = [threading.Thread(target=self._submit, args=(number,), daemon=True) for number in range(THREADS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(90)

    def _submit(self, number):
        chance, count = contents.chance(number), 0
        while not self.ended.is_set():
            try:
                with clients.Dialogue(self.relay.port, timeout=20) as dialogue:
                    dialogue.greet()
                    while not self.ended.is_set():
                        count += 1
                        name = f"{number}.{count}@load.example.org"
                        self._offer(dialogue, name, contents.sealed(name, chance.choice(SIZES), chance))
                        self.accepted.append(name)
            except (OSError, AssertionError, clients.Refused):
                # The relay was killed, or says that it takes nothing now: nothing was promised.
                time.sleep(0.02)

    @staticmethod
    def _offer(dialogue, name, content):
        dialogue.say(f"MAIL FROM:<sender@example.org> SIZE={len(content)}", "250")
        dialogue.say("RCPT TO:<rcpt@example.com>", "250")
        dialogue.say("DATA", "354")
        dialogue.send(clients.stuffed(content) + b".\r\n")
        reply = dialogue.reply()
        if not reply.startswith("250"):
            raise clients.Refused(reply)


class Crash(Scenario):
    def test_nothing_that_got_a_250_is_lost_by_kill_9(self):
        seed = int(os.environ.get("INTEROP_SEED", time.time_ns() % 1_000_000))
        chance = random.Random(seed)
        upstream = self.enter(Upstream(Flaky(seed)))
        relay = self.relay(upstream, speed=60)
        with Load(relay) as load:
            for _ in range(KILLS):
                before = len(load.accepted)
                wait_for(lambda: len(load.accepted) >= before + 20, 60,
                         lambda: f"the relay takes no mail\n{relay.log()}")
                time.sleep(chance.uniform(0.05, 0.8))
                relay.kill()
                relay.start(60)
        upstream.script.calm = True
        accepted = set(load.accepted)
        self.assertEqual(len(accepted), len(load.accepted))

        def missing():
            return accepted - set(arrived(upstream.messages))

        try:
            wait_for(lambda: not missing(), 180, "")
        except AssertionError:
            self.fail(f"seed {seed}: {len(missing())} of {len(accepted)} accepted messages are lost, "
                      f"such as {sorted(missing())[:5]}\n{relay.log()}")
        finally:
            counts = collections.Counter(arrived(upstream.messages))
            again = sum(count - 1 for count in counts.values())
            unasked = len(set(counts) - accepted)
            print(f"\n{KILLS} kills, seed {seed}: {len(accepted)} accepted, {len(missing())} lost, {again} duplicates, "
                  f"{unasked} delivered without their 250 having reached the client", flush=True)
        torn = [name_of(message) for message in upstream.messages if message.sender and not contents.is_whole(
            contents.without_traces(message.content, 1))]
        self.assertEqual(torn, [], "messages arrived with other bytes than were sent")
        self.assertLess(again, len(accepted) / 10, "more duplicates than a crash explains")


def name_of(message):
    return re.search(rb"(?mi)^Message-ID: <([^>]+@load\.example\.org)>", message.content).group(1).decode()


def arrived(messages):
    """The name of each original that arrived itself or by a notice about it."""
    return [name_of(message) for message in messages
            if message.sender or re.search(rb"(?mi)^Action: failed", message.content)]
