"""Who may relay: the networks that are configured, and nobody else."""

import clients
import contents
from relay import Scenario
from upstream import Upstream

CONTENT = contents.SEVEN_BIT["plain"]


class Relaying(Scenario):
    def test_a_network_that_is_not_allowed_gets_550_5_7_1(self):
        upstream = self.enter(Upstream())
        relay = self.relay(upstream, networks=["127.0.0.1/32"])
        with clients.Dialogue(relay.port, source="127.0.0.2") as stranger:
            stranger.greet()
            stranger.say("MAIL FROM:<sender@example.org>")
            reply = stranger.say("RCPT TO:<rcpt@example.com>")
            # Postfix says 554 here.
            self.assertRegex(reply, r"^55[04] 5\.7\.1 ")
            self.assertEqual(stranger.say("DATA")[:1], "5")
        clients.with_smtplib(relay.port, "sender@example.org", ["rcpt@example.com"], CONTENT)
        self.assertEqual(len(self.received(upstream, 1)), 1)
