"""When the first host fails, the second delivers within the same attempt, and the tracking log says why."""

import clients
import contents
from relay import UNDER_TEST, Scenario
from upstream import Script, Upstream
from waiting import HOST, free_port, wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]


class Failover(Scenario):
    def fails_over(self, first_url):
        second = self.enter(Upstream())
        relay = self.relay(first_url, second)
        # No retry would come within this time: it is one attempt.
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        self.received(second, 1, 20)
        if UNDER_TEST != "posthouse":
            return
        sent = wait_for(lambda: [e for e in relay.events() if e["event"] == "SEND"], 5, "a SEND event expected")
        self.assertEqual(len(sent), 1)
        self.assertIn(sent[0].get("attempt"), (None, 1))
        events = relay.events()
        self.assertNotIn("DEFER", [e["event"] for e in events])
        [decision] = [e for e in events if e["event"] == "FAILOVER"]
        self.assertTrue(decision.get("reason") or decision.get("reply"), decision)
        self.assertTrue(decision.get("host") and decision.get("next_host"), decision)
        self.assertIn("a host is down", relay.out.read_text(), "the log tells once")

    def test_the_first_host_refuses_connections(self):
        self.fails_over(f"smtp://{HOST}:{free_port()}")

    def test_the_first_host_answers_421(self):
        class Busy(Script):
            def greeting(self, session):
                return "421 4.3.2 Too busy"

        self.fails_over(self.enter(Upstream(Busy())).url)

    def test_a_permanent_refusal_does_not_fail_over(self):
        class Refuses(Script):
            def recipient(self, session, address):
                return "250 2.1.5 Ok" if address == SENDER else "550 5.1.1 No such mailbox here"

        first, second = self.enter(Upstream(Refuses())), self.enter(Upstream())
        relay = self.relay(first, second)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        [notice] = self.received(first, 1)
        self.assertEqual(notice.addresses, [SENDER])
        self.assertEqual(second.messages, [])
