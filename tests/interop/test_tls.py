"""TLS towards the upstream: STARTTLS when it is offered, implicit TLS by smtps, and no delivery in clear when demanded."""

import subprocess

import clients
import contents
from relay import Scenario, needs_posthouse
from upstream import Aiosmtpd, Upstream
from waiting import wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]


class Tls(Scenario):
    def setUp(self):
        super().setUp()
        self.certificate = (str(self.folder / "certificate.pem"), str(self.folder / "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=upstream.example.net", "-addext", "subjectAltName=DNS:upstream.example.net",
                        "-keyout", self.certificate[1], "-out", self.certificate[0]], check=True, capture_output=True)

    def delivered(self, upstream, url=None, tls=True):
        relay = self.relay(url or upstream)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        [message] = self.received(upstream, 1)
        self.assertEqual(message.tls, tls)
        self.assertEqual(contents.without_traces(message.content, 1), CONTENT)

    def test_starttls_is_used_with_a_self_signed_certificate(self):
        self.delivered(self.enter(Aiosmtpd(certificate=self.certificate)))

    def test_starttls_is_used_with_our_own_upstream(self):
        upstream = self.enter(Upstream(tls="starttls", certificate=self.certificate))
        self.delivered(upstream)
        verbs = [line.split(" ")[0].upper() for line in next(lines for lines in upstream.sessions if len(lines) > 2)]
        self.assertEqual(verbs[:3], ["EHLO", "STARTTLS", "EHLO"], "the greeting is said anew inside of TLS")

    @needs_posthouse
    def test_smtps_is_tls_from_the_start(self):
        self.delivered(self.enter(Aiosmtpd(certificate=self.certificate, implicit=True)))

    @needs_posthouse
    def test_tls_none_forbids_it(self):
        upstream = self.enter(Aiosmtpd(certificate=self.certificate))
        self.delivered(upstream, upstream.url + "?tls=none", tls=False)

    @needs_posthouse
    def test_tls_required_is_never_satisfied_in_clear(self):
        self.waits("?tls=required", Upstream())

    @needs_posthouse
    def test_tls_verified_refuses_a_self_signed_certificate(self):
        self.waits("?tls=verified", Upstream(tls="starttls", certificate=self.certificate))

    def waits(self, demand, upstream):
        """The message must be deferred, and no MAIL may have been said."""
        self.enter(upstream)
        relay = self.relay(upstream.url + demand)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        wait_for(lambda: {"DEFER", "SLEEP"} & {event["event"] for event in relay.events()}, 20,
                 lambda: f"a DEFER or SLEEP event expected: {relay.events()}")
        said = [line for lines in upstream.sessions for line in lines]
        self.assertFalse([line for line in said if line.upper().startswith("MAIL")], said)
        self.assertEqual(upstream.messages, [])
