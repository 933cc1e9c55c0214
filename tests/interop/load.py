"""Mail of many sizes under load, and the books that are kept of it: every 250 is accounted for.

Contract: `Load` submits from several smtplib clients until its block ends, and enters into `Books` what it offered and
which message got its 250. `Fickle` is the upstream's script that enters what arrived. A recipient is settled by a
delivery, or by a notice that tells of its failure. All chance comes from one seed, which every complaint names.
Invariants: the content of what arrives is compared by its SHA-256 and then forgotten, so that a load may be large.
Not here: who is killed when, and which disk fails (`test_*.py`).
"""

import collections
import email
import hashlib
import random
import re
import smtplib
import threading
import time

import contents
from upstream import CLOSE, Script
from waiting import HOST, wait_for

SENDER = "sender@example.org"
KIB = 1024
EVERYBODY = "*"
# Below, at and above the size from which a spool may keep contents apart (1 MiB).
MIXED = (2 * KIB,) * 8 + (10 * KIB,) * 8 + (75 * KIB,) * 3 + (1536 * KIB, 3072 * KIB)


class Books:
    """What was offered, what was promised, and what came of it."""

    def __init__(self, seed):
        self.seed, self.digests, self.recipients, self.sizes = seed, {}, {}, {}
        self.promised, self.refused, self.loads = [], [], 0
        self.settled = collections.Counter()
        self.torn, self.strange = [], []

    def unsettled(self, besides=None):
        """Recipients who were promised their message and of whom nothing was heard, but for those of one domain."""
        return [(name, recipient) for name in list(self.promised) for recipient in self.recipients[name]
                if not self.settled[name, recipient] and recipient.rpartition("@")[2] != besides]

    def delivered(self):
        """Messages of which somebody has heard."""
        return len({name for name, _ in list(self.settled)})

    def repeated(self):
        """How many messages arrived how many times more often than once, in all."""
        most = collections.Counter()
        for (name, _), count in list(self.settled.items()):
            most[name] = max(most[name], count)
        return sum(count - 1 for count in most.values())

    def unasked(self):
        """Messages whose 250 did not reach the client, and that arrived all the same."""
        return len({name for name, _ in list(self.settled)} - set(self.promised))

    def balance(self, test, relay, timeout, repeats):
        """Waits until all is settled; then nothing is missing or torn, and at most `repeats` messages came again."""
        # What the relay has forgotten without a word is missing at its end, and waited for in vain before.
        wait_for(lambda: not relay.queue(), timeout, lambda: f"seed {self.seed}: the queue should be empty\n{relay.log()}")
        missing = self.unsettled()
        test.assertTrue(self.promised, "no message was accepted at all")
        test.assertEqual(len(set(self.promised)), len(self.promised))
        print(f"\n{test.id()}: seed {self.seed}: {len(self.promised)} accepted, {len(missing)} recipients lost, "
              f"{self.repeated()} duplicates of {repeats} explained, {self.unasked()} delivered without their 250 having "
              f"reached the client, {len(self.refused)} refused", flush=True)
        test.assertEqual(missing[:5], [], f"seed {self.seed}: {len(missing)} recipients were lost\n{relay.log()}")
        test.assertEqual(self.torn[:5], [], f"seed {self.seed}: contents arrived with other octets than were sent")
        test.assertEqual(self.strange[:5], [], f"seed {self.seed}: messages arrived that nobody sent")
        test.assertLessEqual(self.repeated(), repeats, f"seed {self.seed}: more duplicates than are explained")

    def arrived(self, message):
        """Enters a message that the upstream took, and forgets its content."""
        content, message.content = message.content, b""
        if not message.sender:
            return self._noticed(content)
        name = name_of(content)
        if name not in self.digests or not set(message.addresses) <= set(self.recipients[name]):
            return self.strange.append((name, message.addresses))
        if hashlib.sha256(contents.without_traces(content, 1)).hexdigest() != self.digests[name]:
            self.torn.append(name)
        self.settled.update((name, recipient) for recipient in message.addresses)

    def _noticed(self, content):
        report = email.message_from_bytes(content)
        name = name_of(content)
        for part in report.walk():
            if part.get("Final-Recipient") and part.get("Action", "").strip() == "failed":
                self.settled[name, part["Final-Recipient"].partition(";")[2].strip()] += 1


def name_of(content):
    """The name of an original, also from a notice about it; None when it is none of ours."""
    found = re.search(rb"(?mi)^Message-ID: <([^>]+@load\.example\.org)>", content)
    return found and found.group(1).decode()


class Fickle(Script):
    """An upstream of bad days: some recipients and contents are deferred, a few are refused, connections break.

    `deferring`: a domain that gets nothing now, or EVERYBODY. `calm`: no more bad days.
    """

    def __init__(self, books):
        self.books, self.chance = books, random.Random(f"upstream {books.seed}")
        self.calm, self.deferring = False, None

    def recipient(self, session, address):
        roll = self.chance.random()
        deferred = self.deferring in (EVERYBODY, address.rpartition("@")[2])
        if deferred or not self.calm and roll < 0.05:
            return "451 4.2.0 Later"
        if not self.calm and roll < 0.06 and address != SENDER:
            return "550 5.1.1 Nobody here"
        return "250 2.1.5 Ok"

    def content(self, session, message):
        roll = 1 if self.calm else self.chance.random()
        if message.sender and roll < 0.01:
            return "554 5.6.0 Refused for good"
        if roll < 0.07:
            return CLOSE if roll < 0.03 else "452 4.3.1 Later"
        self.books.arrived(message)
        return "250 2.0.0 Ok"


class Load:
    """`threads` clients that submit without pause and keep the books.

    `recipients`: makes the recipients of a message from chance. `pause`: seconds between two messages of a client.
    """

    def __init__(self, relay, books, sizes=MIXED, recipients=None, threads=6, pause=0.0):
        self.port, self.books, self.sizes, self.pause = relay.port, books, sizes, pause
        self.recipients = recipients or some_recipients
        # Each message is a piece of it from a place of its own.
        text = random.Random(f"text {books.seed}").randbytes(2 * 1024 * KIB).hex().encode()
        self.lines = [text[at:at + 126] + b"\r\n" for at in range(0, len(text), 126)]
        # Daemons: a failing test must not wait for them.
        self.threads = [threading.Thread(target=self._submit, args=(number,), daemon=True) for number in range(threads)]
        self.ended = threading.Event()
        books.loads += 1
        self.number = books.loads

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(60)

    def _submit(self, number):
        chance, count = random.Random(f"client {number} {self.books.seed}"), 0
        while not self.ended.is_set():
            try:
                with smtplib.SMTP(HOST, self.port, "client.example.org", timeout=20) as client:
                    while not self.ended.is_set():
                        count += 1
                        self._offer(client, f"{self.number}.{number}.{count}@load.example.org", chance)
                        self.ended.wait(self.pause)
            except OSError:
                # smtplib's own exceptions too. The relay was killed or breaks off: nothing was promised.
                self.ended.wait(0.02)

    def _offer(self, client, name, chance):
        recipients, content = self.recipients(chance), self._content(name, chance)
        self.books.recipients[name] = recipients
        self.books.sizes[name] = len(content)
        self.books.digests[name] = hashlib.sha256(content).hexdigest()
        client.ehlo_or_helo_if_needed()
        replies = [client.mail(SENDER, [f"SIZE={len(content)}"])]
        # A relay that takes nothing now says so at once.
        if replies[0][0] == 250:
            replies += [client.rcpt(recipient) for recipient in recipients]
            try:
                replies.append(client.data(content))
            except smtplib.SMTPDataError as refused:
                replies.append((refused.smtp_code, refused.smtp_error))
        wrong = [f"{code} {text.decode()}" for code, text in replies if code != 250]
        if not wrong:
            return self.books.promised.append(name)
        self.books.refused.append(wrong[-1])
        client.rset()
        self.ended.wait(0.1)

    def _content(self, name, chance):
        count = max(1, chance.choice(self.sizes) // 128)
        at = chance.randrange(len(self.lines) - count)
        return b"Message-ID: <%s>\r\nSubject: load\r\n\r\n" % name.encode() + b"".join(self.lines[at:at + count])


def some_recipients(chance):
    """One to four, at one to three domains."""
    count = chance.choice((1, 1, 1, 2, 4))
    return [f"rcpt{number}@{chance.choice(('example.com', 'a.example.com', 'b.example.com'))}" for number in range(count)]


def seed_of(environment):
    """INTEROP_SEED, or another one every time."""
    return int(environment.get("INTEROP_SEED", time.time_ns() % 1_000_000))
