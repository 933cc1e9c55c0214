"""Every client that others wrote submits through the relay: in clear, by STARTTLS, by implicit TLS; and is told no."""

import re

import agents
import contents
from clients import Refused
from relay import Scenario, needs_posthouse
from upstream import Aiosmtpd
from waiting import HOST, free_port, wait_for

SENDER = "sender@example.org"
RECIPIENTS = ["first@example.com", "second+tag@example.com", "third@sub.example.net"]

EIGHT_BIT = contents.of("utf-8", "Grüße aus dem Süden,\r\nこんにちは。\r\n.\r\n..\r\n".encode())
LETTERS = [contents.SEVEN_BIT["leading-dots"], contents.SEVEN_BIT["line-of-998"], EIGHT_BIT]

OUR_REFUSAL = "5.7.1 relaying is not allowed"


@needs_posthouse
class Clients(Scenario):
    """Each test is made for each client below; a name that fails says which client it is."""

    def doors(self, **settings):
        """A relay with three listeners, and the way in by each."""
        self.upstream = self.enter(Aiosmtpd())
        certificate, key = agents.certificate(self.folder)
        ports = {tls: free_port() for tls in ("starttls", "implicit")}
        more = "".join(f'[[listener]]\naddress = "{HOST}:{port}"\ntls = "{tls}"\n\n' for tls, port in ports.items())
        more += f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        relay = self.relay(self.upstream, settings=more, **settings)
        return {"none": agents.Door(relay.port),
                **{tls: agents.Door(port, tls, certificate) for tls, port in ports.items()}}

    def arrive(self, count, protocol):
        """The contents that have arrived, each of them once for all recipients."""
        messages = self.received(self.upstream, count, 60)
        for message in messages:
            self.assertEqual((message.sender, message.addresses), (SENDER, RECIPIENTS))
            # UTF8SMTP: Go asks for SMTPUTF8 wherever it is offered (RFC 6531 section 4.3).
            self.assertRegex(message.field("Received"), f"with (E|UTF8){protocol} ")
        return sorted(contents.without_traces(message.content, 1) for message in messages)

    def receipts(self, count):
        """The events of what was received; the log is written behind the 250."""
        def found():
            return [event for event in self.relays[-1].events() if event["event"] == "RECEIVE"]
        wait_for(lambda: len(found()) >= count, 20, lambda: f"{count} RECEIVE events expected: {found()}")
        return found()

    def delivers(self, name, tls, letters):
        door = self.doors()[tls]
        agents.AGENTS[name].submit(door, SENDER, RECIPIENTS, letters)
        arrived = self.arrive(len(letters), "SMTPS" if tls != "none" else "SMTP")
        self.assertEqual(arrived, sorted(letters))
        sessions = [event["session"] for event in self.receipts(len(letters))]
        self.assertEqual(len(set(sessions)), 1 if agents.AGENTS[name].several else len(letters))

    def is_told_no(self, name):
        door = self.doors(networks=["192.0.2.0/24"])["none"]
        with self.assertRaises(Refused) as refused:
            agents.AGENTS[name].submit(door, SENDER, RECIPIENTS, LETTERS[:1])
        self.assertIn(OUR_REFUSAL, " ".join(refused.exception.reply.split()))
        self.assertEqual(self.upstream.messages, [])


def scenarios_of(name):
    words = re.sub(r"\W+", "_", name.lower()).strip("_")

    def scenario(method, title, *arguments):
        def test(self):
            method(self, name, *arguments)
        setattr(Clients, f"test_{words}_{title}", test)

    scenario(Clients.delivers, "delivers_octet_for_octet_in_clear", "none", LETTERS)
    scenario(Clients.delivers, "delivers_octet_for_octet_after_starttls", "starttls", LETTERS)
    scenario(Clients.delivers, "delivers_octet_for_octet_under_implicit_tls", "implicit", LETTERS[:1])
    scenario(Clients.is_told_no, "shows_its_user_our_refusal")


for agent in agents.AGENTS:
    scenarios_of(agent)
