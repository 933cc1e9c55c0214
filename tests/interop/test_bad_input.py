"""Clients that speak nonsense, never end, or leave: the right reply or a closed connection, and nothing kept.

After each, a normal message must pass, and it must be the only one that arrives.
"""

import time

import clients
import contents
from relay import UNDER_TEST, Scenario, needs_posthouse
from upstream import Upstream
from waiting import wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]


class BadInput(Scenario):
    def setUp(self):
        super().setUp()
        self.upstream = self.enter(Upstream())
        self.proxy = self.relay(self.upstream)

    def dialogue(self):
        return self.enter(clients.Dialogue(self.proxy.port, timeout=30))

    def in_content(self):
        dialogue = self.dialogue()
        dialogue.greet()
        dialogue.say(f"MAIL FROM:<{SENDER}>", "250")
        dialogue.say("RCPT TO:<aborted@example.com>", "250")
        dialogue.say("DATA", "354")
        return dialogue

    def nothing_else_arrives(self):
        clients.with_socket(self.proxy.port, SENDER, [RECIPIENT], CONTENT)
        [message] = self.received(self.upstream, 1)
        self.assertEqual(message.addresses, [RECIPIENT])
        self.assertEqual(contents.without_traces(message.content, 1), CONTENT)
        if UNDER_TEST == "posthouse":
            self.assertIsNone(self.proxy.process.poll(), self.proxy.log())

    def push(self, dialogue, data):
        """Sends as much as the relay takes; it may close at any moment."""
        try:
            dialogue.send(data)
        except OSError:
            pass

    def test_garbage(self):
        chance = contents.chance(1)
        for _ in range(20):
            dialogue = self.dialogue()
            dialogue.reply()
            self.push(dialogue, chance.randbytes(5000) + b"\r\n")
            self.assertIn(dialogue.reply()[:1], ("5", "4", ""))
        self.nothing_else_arrives()

    def test_nul_bytes_in_a_command(self):
        dialogue = self.dialogue()
        dialogue.greet()
        self.assertIn(dialogue.say("MAIL FROM:<a\0b@example.org>")[:1], ("5", ""))
        self.nothing_else_arrives()

    def test_a_line_without_end(self):
        dialogue = self.dialogue()
        dialogue.greet()
        for _ in range(64):
            self.push(dialogue, b"N" * 65536)
        self.push(dialogue, b"\r\n")
        # Too long: refused, or closed. Closing with data unread may lose the reply.
        self.assertIn(dialogue.reply()[:1], ("5", "4", ""))
        self.nothing_else_arrives()

    def test_a_client_that_leaves_in_the_midst_of_content(self):
        for part in (b"", b"Subject: half\r\n\r\nhalf a line", CONTENT, CONTENT + b".", CONTENT + b".\r"):
            dialogue = self.in_content()
            dialogue.send(part)
            dialogue.__exit__()
        self.nothing_else_arrives()

    def test_a_client_that_leaves_after_each_command(self):
        said = ["EHLO client.example.org", f"MAIL FROM:<{SENDER}>", "RCPT TO:<aborted@example.com>", "DATA"]
        for count in range(len(said) + 1):
            dialogue = self.dialogue()
            dialogue.reply()
            for line in said[:count]:
                dialogue.say(line)
            dialogue.__exit__()
        self.nothing_else_arrives()

    def test_a_slow_client_is_served(self):
        dialogue = self.dialogue()
        dialogue.greet()
        for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA"):
            for byte in line.encode() + b"\r\n":
                dialogue.send(bytes([byte]))
                time.sleep(0.002)
            self.assertIn(dialogue.reply()[:1], ("2", "3"))
        for byte in CONTENT + b".\r\n":
            dialogue.send(bytes([byte]))
        self.assertEqual(dialogue.reply()[:3], "250")
        [message] = self.received(self.upstream, 1)
        self.assertEqual(contents.without_traces(message.content, 1), CONTENT)

    # Postfix 3.7 takes LF.LF for the end of content: this test shows it as smuggling.
    @needs_posthouse
    def test_only_crlf_dot_crlf_ends_content(self):
        for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n"):
            with self.subTest(end=end):
                dialogue = self.in_content()
                inner = "MAIL FROM:<smuggler@example.org>\r\nRCPT TO:<smuggled@example.com>\r\nDATA\r\nsmuggled\r\n"
                self.push(dialogue, b"Subject: outer\r\n\r\ntext" + end + inner.encode() + b".\r\n")
                first = dialogue.reply()
                self.assertIn(first[:1], ("2", "5", ""))
                # One end of content, so one reply: the smuggled commands were content and get none.
                self.push(dialogue, b"NOOP\r\n")
                self.assertIn(dialogue.reply()[:3], ("250", "421", ""))
                self.push(dialogue, b"QUIT\r\n")
                self.assertIn(dialogue.reply()[:3], ("221", ""))
        clients.with_socket(self.proxy.port, SENDER, [RECIPIENT], CONTENT)
        wait_for(lambda: [m for m in self.upstream.messages if m.addresses == [RECIPIENT]], 30, "the normal message")
        self.assertFalse([m for m in self.upstream.messages if "smuggled@example.com" in m.addresses])

    @needs_posthouse
    def test_too_many_trace_fields_are_a_loop(self):
        trace = b"Received: from a.example by b.example; Sun, 22 Nov 2026 03:33:07 +0000\r\n"
        with self.assertRaises(clients.Refused) as refused:
            clients.with_socket(self.proxy.port, SENDER, ["aborted@example.com"], trace * 200 + CONTENT)
        self.assertIn("554 5.4.6", str(refused.exception))
        self.nothing_else_arrives()

    @needs_posthouse
    def test_commands_out_of_order_and_unknown_ones(self):
        dialogue = self.dialogue()
        dialogue.greet()
        self.assertEqual(dialogue.say("DATA")[:3], "503")
        self.assertEqual(dialogue.say(f"RCPT TO:<{RECIPIENT}>")[:3], "503")
        self.assertIn(dialogue.say("FROBNICATE")[:3], ("500", "502"))
        self.assertIn(dialogue.say("MAIL FROM:nobody")[:3], ("501", "555"))
        self.assertEqual(dialogue.say("NOOP")[:3], "250")
        self.nothing_else_arrives()
