"""What the client said about the envelope reaches an upstream that understands it, and nothing else does."""

import clients
import contents
from relay import Scenario
from upstream import Aiosmtpd, Upstream
from waiting import wait_for

CONTENT = contents.SEVEN_BIT["plain"]


def parameters(line):
    """The ESMTP parameters of a MAIL or RCPT line, names in upper case."""
    words = line[line.index(">") + 1:].split()
    return {name.upper(): value for name, _, value in (word.partition("=") for word in words)}


class Envelope(Scenario):
    def test_the_parameters_of_delivery_status_notification_arrive(self):
        with Upstream() as upstream:
            relay = self.relay(upstream)
            clients.with_socket(relay.port, "sender@example.org", ["rcpt@example.com"], CONTENT,
                                ["RET=HDRS", "ENVID=QQ+2B314159", f"SIZE={len(CONTENT)}"],
                                ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob+2Bx@example.com"])
            [message] = self.received(upstream, 1)
            mail, recipient = parameters(message.mail), parameters(message.recipients[0])
            self.assertEqual(mail["RET"].upper(), "HDRS")
            self.assertEqual(mail["ENVID"], "QQ+2B314159")
            self.assertEqual(set(recipient["NOTIFY"].upper().split(",")), {"SUCCESS", "FAILURE"})
            self.assertEqual(recipient["ORCPT"], "rfc822;Bob+2Bx@example.com")

    def test_the_size_that_is_announced_is_the_size_that_is_sent(self):
        with Upstream() as upstream:
            relay = self.relay(upstream)
            clients.with_socket(relay.port, "sender@example.org", ["rcpt@example.com"], CONTENT, ["SIZE=1"])
            [message] = self.received(upstream, 1)
            announced = int(parameters(message.mail)["SIZE"])
            # Postfix announces its record's size, a little more than what it sends.
            self.assertGreaterEqual(announced, len(CONTENT))
            self.assertLessEqual(abs(announced - len(message.content)), 512)

    def test_notify_never_arrives_and_each_recipient_keeps_its_own(self):
        with Upstream() as upstream:
            relay = self.relay(upstream)
            with clients.Dialogue(relay.port) as dialogue:
                dialogue.greet()
                dialogue.say("MAIL FROM:<sender@example.org>", "250")
                dialogue.say("RCPT TO:<never@example.com> NOTIFY=NEVER", "250")
                dialogue.say("RCPT TO:<delay@example.com> NOTIFY=DELAY", "250")
                dialogue.say("RCPT TO:<plain@example.com>", "250")
                dialogue.say("DATA", "354")
                dialogue.send(CONTENT + b".\r\n")
                self.assertTrue(dialogue.reply().startswith("250"))
            [message] = self.received(upstream, 1)
            told = {address: parameters(line).get("NOTIFY")
                    for address, line in zip(message.addresses, message.recipients)}
            self.assertEqual(told, {"never@example.com": "NEVER", "delay@example.com": "DELAY",
                                    "plain@example.com": None})

    def test_nodemailer_asks_for_notices_and_the_upstream_hears_it(self):
        with Upstream() as upstream:
            relay = self.relay(upstream)
            clients.with_nodemailer(relay.port, "sender@example.org", ["rcpt@example.com"], CONTENT,
                                    {"id": "envelope-7", "return": "headers", "notify": ["failure", "delay"],
                                     "recipient": "rcpt@example.com"})
            [message] = self.received(upstream, 1)
            self.assertEqual(parameters(message.mail)["ENVID"], "envelope-7")
            self.assertEqual(set(parameters(message.recipients[0])["NOTIFY"].upper().split(",")),
                             {"FAILURE", "DELAY"})

    def test_an_upstream_without_extensions_gets_no_parameter_at_all(self):
        with Upstream(offers=()) as upstream:
            relay = self.relay(upstream)
            clients.with_socket(relay.port, "sender@example.org", ["rcpt@example.com"], CONTENT,
                                ["RET=FULL", "ENVID=x"], ["NOTIFY=FAILURE", "ORCPT=rfc822;rcpt@example.com"])
            [message] = self.received(upstream, 1)
            self.assertEqual((parameters(message.mail), parameters(message.recipients[0])), ({}, {}))

    def test_the_null_reverse_path_and_quoted_local_parts_arrive_as_they_are(self):
        with Upstream() as upstream:
            relay = self.relay(upstream)
            clients.with_socket(relay.port, "", ['"a b"@example.com'], CONTENT)
            [message] = self.received(upstream, 1)
            self.assertTrue(message.mail.upper().startswith("MAIL FROM:<>"), message.mail)
            self.assertTrue(message.recipients[0].startswith('RCPT TO:<"a b"@example.com>'), message.recipients)

    def test_many_recipients_arrive_once_each(self):
        recipients = [f"rcpt{n}@example.com" for n in range(100)]
        with Aiosmtpd() as upstream:
            relay = self.relay(upstream)
            clients.with_socket(relay.port, "sender@example.org", recipients, CONTENT)
            wait_for(lambda: sum(len(m.addresses) for m in upstream.messages) >= 100, 30, "100 recipients expected")
            self.assertEqual(sorted(a for m in upstream.messages for a in m.addresses), sorted(recipients))
