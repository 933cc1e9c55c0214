"""An upstream that is down, breaks off, answers 421 or greylists delays a message; it never loses one."""

import time

import clients
import contents
from relay import Scenario, needs_posthouse
from upstream import CLOSE, Script, Upstream
from waiting import HOST, free_port, wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]
# With Postfix in the relay's place, `speed` means nothing and its settings are quick by themselves.
QUICK = {"speed": 60}


class Failing(Script):
    """Fails in one way for the first sessions in which a message is offered, then behaves."""

    def __init__(self, times=1):
        self.left = times
        self.seen = []

    def fails(self):
        self.left -= 1
        return self.left >= 0


class FlakyUpstream(Scenario):
    def through(self, script):
        upstream = self.enter(Upstream(script))
        relay = self.relay(upstream, **QUICK)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        [message] = self.received(upstream, 1, 60)
        self.assertEqual(contents.without_traces(message.content, 1), CONTENT)
        return upstream, relay

    def test_down_then_up(self):
        port = free_port()
        relay = self.relay(f"smtp://{HOST}:{port}", **QUICK)
        for _ in range(5):
            clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        time.sleep(1)
        with Upstream(port=port) as upstream:
            self.received(upstream, 5, 60)

    def test_answers_421_in_the_greeting(self):
        class Busy(Failing):
            def greeting(self, session):
                return "421 4.3.2 Too busy" if self.fails() else super().greeting(session)

        self.through(Busy(2))

    def test_closes_before_the_greeting(self):
        class Shut(Failing):
            def greeting(self, session):
                return CLOSE if self.fails() else super().greeting(session)

        self.through(Shut(2))

    def test_answers_421_to_mail(self):
        class Leaving(Failing):
            def mail(self, session, line):
                return "421 4.3.2 Going down" if self.fails() else super().mail(session, line)

        self.through(Leaving())

    def test_drops_the_connection_in_the_midst_of_content(self):
        class Drops(Failing):
            def block(self, session, size):
                return size < 40 or not self.fails()

        self.through(Drops(2))

    def test_drops_the_connection_after_the_final_dot(self):
        class Forgets(Failing):
            def content(self, session, message):
                self.seen.append(message)
                return CLOSE if self.fails() else super().content(session, message)

        upstream, _ = self.through(Forgets())
        # Nobody can know whether the first was kept: it must come again, the same.
        self.assertEqual([contents.without_traces(m.content, 1) for m in upstream.script.seen], [CONTENT] * 2)

    def test_defers_after_the_content(self):
        class Defers(Failing):
            def content(self, session, message):
                return "452 4.3.1 Disk is full" if self.fails() else super().content(session, message)

        self.through(Defers(3))

    @needs_posthouse
    def test_two_minutes_of_greylisting_are_over_within_200_seconds(self):
        class Greylist(Script):
            """Two minutes at speed 60."""
            first = accepted = None

            def recipient(self, session, address):
                self.first = self.first or time.monotonic()
                if time.monotonic() - self.first < 2.0:
                    return "451 4.7.1 Greylisted, come again"
                self.accepted = self.accepted or time.monotonic()
                return "250 2.1.5 Ok"

        upstream, _ = self.through(Greylist())
        # 200 s at speed 60 are 3.4 s; a loaded machine gets some more.
        self.assertLess(upstream.script.accepted - upstream.script.first, 200 / 60 + 2)

    @needs_posthouse
    def test_the_tracking_log_marks_the_uncertain_outcome(self):
        class Forgets(Failing):
            def content(self, session, message):
                return CLOSE if self.fails() else super().content(session, message)

        _, relay = self.through(Forgets())
        names = wait_for(lambda: [e["event"] for e in relay.events() if RECIPIENT in e.get("recipients", [])
                                  and e["event"] in ("UNCERTAIN", "SEND")][:2], 5, "events expected")
        wait_for(lambda: "SEND" in [e["event"] for e in relay.events()], 5, "SEND expected")
        self.assertEqual(names[0], "UNCERTAIN")
