"""Upstreams of other makers: Postfix, Exim and OpenSMTPD take what the relay has, each in its own way."""

import json
import subprocess

import clients
import contents
from others import MAYBE, NOBODY, PASSWORD, USER, Exim, LmtpSink, OpenSmtpd, Postfix
from relay import Scenario
from waiting import wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
QUICK = 'preset = "default"\nfirst = "1s"\nmax = "2s"\njitter = 0.0'
TEN_MEBIBYTES = contents.of("ten-mebibytes", b"".join(b"%08d %s\r\n" % (n, b"m" * 65) for n in range(140_000)))


class Each:
    """What is asked of each of them."""

    Server = None

    def begin(self, certificate=False, auth=False, query="", **settings):
        server = self.enter(self.Server(self.folder, certificate=self.certificate() if certificate else None, auth=auth))
        settings.setdefault("retry", QUICK)
        return server, self.relay(server.url + query, **settings)

    def certificate(self):
        files = (str(self.folder / "certificate.pem"), str(self.folder / "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=upstream.example.net", "-addext", "subjectAltName=DNS:upstream.example.net",
                        "-keyout", files[1], "-out", files[0]], check=True, capture_output=True)
        return files

    def arrived(self, server, count, timeout=30):
        wait_for(lambda: len(server.arrived()) >= count, timeout,
                 lambda: f"{count} messages expected, {len(server.arrived())} arrived\n{server.log()[-3000:]}")
        found = server.arrived()
        self.assertEqual(len(found), count)
        # The relay's trace and the server's own, where it writes one.
        return [contents.without_traces(content, 1 + server.traces) for content in found]

    def test_every_content_arrives_as_it_was_sent(self):
        server, relay = self.begin()
        chosen = {name: content for name, content in contents.SEVEN_BIT.items() if name not in self.Server.changes}
        for content in chosen.values():
            clients.with_socket(relay.port, SENDER, [RECIPIENT], content)
        left = self.arrived(server, len(chosen))
        for name, content in chosen.items():
            self.assertIn(contents.with_end(content), left, name)
            left.remove(contents.with_end(content))

    def test_ten_mebibytes_arrive(self):
        server, relay = self.begin()
        clients.with_socket(relay.port, SENDER, [RECIPIENT], TEN_MEBIBYTES)
        self.assertEqual(self.arrived(server, 1, 60), [TEN_MEBIBYTES])

    def test_eight_bit_content_arrives_as_it_was_sent(self):
        server, relay = self.begin()
        clients.with_socket(relay.port, SENDER, [RECIPIENT], contents.EIGHT_BIT, mail_options=["BODY=8BITMIME"])
        self.assertEqual(self.arrived(server, 1), [contents.EIGHT_BIT])

    def test_a_hundred_recipients_of_one_message_all_get_it(self):
        server, relay = self.begin()
        recipients = [f"rcpt{number:03}@example.com" for number in range(100)]
        clients.with_socket(relay.port, SENDER, recipients, contents.SEVEN_BIT["plain"])
        wait_for(lambda: len(server.addresses()) >= 100, 30,
                 lambda: f"{len(server.addresses())} recipients\n{server.log()[-2000:]}")
        self.assertEqual(server.addresses(), recipients)

    def test_starttls_is_used_and_asked_for(self):
        server, relay = self.begin(certificate=True, query="?tls=required")
        clients.with_socket(relay.port, SENDER, [RECIPIENT], contents.SEVEN_BIT["plain"])
        self.assertEqual(self.arrived(server, 1), [contents.SEVEN_BIT["plain"]])
        self.assertTrue(server.used_tls(), server.log())

    def test_a_refused_recipient_bounces_and_the_others_get_it(self):
        server, relay = self.begin()
        clients.with_socket(relay.port, SENDER, [RECIPIENT, NOBODY], contents.SEVEN_BIT["plain"])
        # The message, and the notice to its sender.
        wait_for(lambda: len(server.arrived()) == 2, 30, lambda: f"{relay.events()}\n{server.log()[-2000:]}")
        [failed] = [event for event in relay.events() if event["event"] == "FAIL"]
        self.assertEqual(failed["recipients"], [NOBODY])
        self.assertRegex(json.dumps(failed), "55[0-9]")
        self.assertEqual(server.addresses(), sorted([RECIPIENT, SENDER]))

    def test_who_is_deferred_gets_it_later_and_once(self):
        server, relay = self.begin()
        server.defer(True)
        clients.with_socket(relay.port, SENDER, [MAYBE], contents.SEVEN_BIT["plain"])
        wait_for(lambda: [event for event in relay.events() if event["event"] == "DEFER"], 20, relay.log)
        self.assertEqual(server.arrived(), [])
        server.defer(False)
        self.assertEqual(self.arrived(server, 1), [contents.SEVEN_BIT["plain"]])

    def test_twenty_messages_take_fewer_connections(self):
        server, relay = self.begin()
        for number in range(20):
            clients.with_socket(relay.port, SENDER, [RECIPIENT], contents.of(f"n{number}", b"Hello.\r\n"))
        self.arrived(server, 20)
        self.assertLess(server.connections(), 20, "no connection was used twice")

    def test_success_that_was_asked_for_is_told_by_the_server_itself(self):
        """Each of them offers DSN: NOTIFY is passed on, and the relay writes no notice of its own."""
        server, relay = self.begin()
        clients.with_socket(relay.port, SENDER, [RECIPIENT], contents.SEVEN_BIT["plain"],
                            rcpt_options=["NOTIFY=SUCCESS"])
        wait_for(lambda: [event for event in relay.events() if event["event"] == "SEND"], 20, relay.log)
        self.assertFalse([event for event in relay.events() if event["event"] == "DSN"])


class WithPostfix(Each, Scenario):
    Server = Postfix


class WithExim(Each, Scenario):
    Server = Exim

    def test_auth_plain_lets_us_in(self):
        password = self.folder / "password"
        password.write_text(PASSWORD + "\n")
        server = self.enter(Exim(self.folder, auth=True))
        relay = self.relay(server.url, upstream=f'username = "{USER}"\npassword_file = "{password}"')
        clients.with_socket(relay.port, SENDER, [RECIPIENT], contents.SEVEN_BIT["plain"])
        self.assertEqual(self.arrived(server, 1), [contents.SEVEN_BIT["plain"]])
        self.assertIn(f"A=plain:{USER}", server.log())

    def test_content_goes_by_chunking(self):
        server, relay = self.begin()
        clients.with_socket(relay.port, SENDER, [RECIPIENT], contents.SEVEN_BIT["plain"])
        self.arrived(server, 1)
        self.assertRegex(server.log(), r" K (S|id)", "K in Exim's log is CHUNKING")


class WithOpenSmtpd(Each, Scenario):
    Server = OpenSmtpd
    # It has no way to say 4yz to one recipient, and of this package no TLS (see there).
    test_who_is_deferred_gets_it_later_and_once = test_starttls_is_used_and_asked_for = None


class WithLmtp(Scenario):
    def test_lmtp_delivers_to_each_recipient(self):
        server = self.enter(LmtpSink(self.folder))
        relay = self.relay(server.url)
        recipients = ["one@example.com", "two@example.com", "three@example.com"]
        clients.with_socket(relay.port, SENDER, recipients, contents.SEVEN_BIT["plain"])
        sent = wait_for(lambda: [event for event in relay.events() if event["event"] == "SEND"], 20, relay.log)
        self.assertEqual(sorted(address for event in sent for address in event["recipients"]), sorted(recipients))
        [dump] = wait_for(server.arrived, 10, "smtp-sink wrote nothing")
        self.assertIn(b"Hello.\r\n", dump)
