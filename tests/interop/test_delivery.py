"""Every client delivers through the relay to every server, and what was sent arrives byte for byte."""

import unittest

import clients
import contents
from peers import postfix
from relay import Scenario
from upstream import Aiosmtpd, NodeSmtpServer, SmtpSink
from waiting import HOST, free_port, wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"

CLIENTS = {
    "smtplib": clients.with_smtplib,
    "swaks": clients.with_swaks,
    "swaks, pipelining": lambda *mail: clients.with_swaks(*mail, pipeline=True),
    "nodemailer": clients.with_nodemailer,
}


class Delivery(Scenario):
    def send_all(self, relay, chosen):
        """Each client sends each chosen content; returns what must arrive, in order of sending."""
        sent = []
        for client, submit in CLIENTS.items():
            for name in chosen:
                with self.subTest(client=client, content=name):
                    reply = submit(relay.port, SENDER, [RECIPIENT], contents.SEVEN_BIT[name])
                    self.assertIn("250", reply)
                    sent.append(contents.with_end(contents.SEVEN_BIT[name]))
        return sent

    def assert_same(self, sent, arrived):
        # Delivery may reorder: compare as multisets, but show the first difference readably.
        left = list(arrived)
        for content in sent:
            self.assertIn(content, left, f"{content[:400]!r} did not arrive as it was sent")
            left.remove(content)
        self.assertEqual(left, [])

    def test_every_client_delivers_every_content_to_aiosmtpd_unchanged(self):
        with Aiosmtpd() as upstream:
            relay = self.relay(upstream)
            sent = self.send_all(relay, contents.SEVEN_BIT)
            messages = self.received(upstream, len(sent), 60)
            self.assert_same(sent, [contents.without_traces(message.content, 1) for message in messages])
            for message in messages:
                self.assertEqual((message.sender, message.addresses), (SENDER, [RECIPIENT]))

    def test_headers_alone_and_nothing_at_all_arrive_unchanged(self):
        with Aiosmtpd() as upstream:
            relay = self.relay(upstream)
            for content in (contents.HEADERS_ONLY, contents.EMPTY):
                clients.with_socket(relay.port, SENDER, [RECIPIENT], content)
            messages = self.received(upstream, 2)
            self.assert_same([contents.HEADERS_ONLY, contents.EMPTY],
                             [contents.without_traces(message.content, 1) for message in messages])

    def test_eight_bit_content_arrives_unchanged(self):
        with Aiosmtpd() as upstream:
            relay = self.relay(upstream)
            clients.with_smtplib(relay.port, SENDER, [RECIPIENT], contents.EIGHT_BIT, ["BODY=8BITMIME"])
            [message] = self.received(upstream, 1)
            self.assertEqual(contents.without_traces(message.content, 1), contents.EIGHT_BIT)
            self.assertIn("BODY=8BITMIME", message.mail.upper())

    def test_the_relay_adds_one_received_field_that_names_it_and_the_client(self):
        with Aiosmtpd() as upstream:
            relay = self.relay(upstream)
            clients.with_smtplib(relay.port, SENDER, [RECIPIENT], contents.SEVEN_BIT["plain"])
            [message] = self.received(upstream, 1)
            field = message.field("Received")
            for part in ("from client.example.org", "[127.0.0.1]", "by ", "with ESMTP", "id ", "; "):
                self.assertIn(part, field)

    def test_every_client_delivers_to_smtp_sink(self):
        with SmtpSink(self.folder / "sink") as upstream:
            relay = self.relay(upstream)
            sent = self.send_all(relay, ["plain", "leading-dots", "one-mebibyte"])
            wait_for(lambda: len(upstream.dumps()) == len(sent), 30,
                     lambda: f"{len(sent)} expected, smtp-sink has {len(upstream.dumps())}")
            # A file that is there may still be written to.
            wait_for(lambda: not self.missing(sent, upstream.dumps()), 30,
                     lambda: f"{self.missing(sent, upstream.dumps())!r} did not arrive")

    @staticmethod
    def missing(sent, dumps):
        """The beginnings of those that did not arrive. smtp-sink writes LF line ends and fields of its own above."""
        arrived = [dump.replace(b"\r\n", b"\n").rstrip(b"\n") for dump in dumps]
        missing = []
        for content in sent:
            text = content.replace(b"\r\n", b"\n").rstrip(b"\n")
            at = next((at for at, dump in enumerate(arrived) if dump.endswith(b"\n" + text)), None)
            if at is None:
                missing.append(text[:300])
            else:
                del arrived[at]
        return missing

    def test_every_client_delivers_to_smtp_server(self):
        with NodeSmtpServer(self.folder / "smtp-server") as upstream:
            relay = self.relay(upstream)
            sent = self.send_all(relay, ["plain", "leading-dots", "line-of-998", "white-space"])
            wait_for(lambda: len(upstream.contents()) >= len(sent), 30,
                     lambda: f"{len(sent)} expected, smtp-server has {len(upstream.contents())}\n{relay.log()}")
            self.assert_same(sent, [contents.without_traces(content, 1) for content in upstream.contents()])

    def test_every_client_delivers_through_a_real_postfix_on_to_aiosmtpd(self):
        with Aiosmtpd() as end:
            port = free_port()
            upstream = self.enter(postfix.Postfix(self.folder / "postfix", port, (HOST, end.port)))
            relay = self.relay(f"smtp://{HOST}:{upstream.port}")
            sent = self.send_all(relay, ["plain", "leading-dots", "line-of-998", "white-space", "one-mebibyte"])
            messages = self.received(end, len(sent), 60)
            # One field by the relay, one by Postfix.
            self.assert_same(sent, [contents.without_traces(message.content, 2) for message in messages])


if __name__ == "__main__":
    unittest.main()
