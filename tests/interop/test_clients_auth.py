"""Every client that others wrote authenticates before it submits, by each mechanism that both know; and is told no."""

import os
import re
import subprocess

import agents
import contents
from clients import Refused
from relay import Scenario, needs_posthouse
from upstream import Aiosmtpd
from waiting import HOST, free_port, wait_for

SENDER, RECIPIENT = "alice@example.org", "rcpt@example.com"
USER, PASSWORD = "alice", "correct horse battery"
LETTER = contents.SEVEN_BIT["leading-dots"]


@needs_posthouse
class Auth(Scenario):
    """Nobody may relay by network here: what gets through does so by its user."""

    def door(self, tls, mechanism, password=PASSWORD):
        self.upstream = self.enter(Aiosmtpd())
        certificate, key = agents.certificate(self.folder)
        users, port = self.folder / "users", free_port()
        subprocess.run([os.environ["INTEROP_POSTHOUSE"], "user", "add", USER, "--users", str(users)],
                       input=PASSWORD + "\n", text=True, check=True, capture_output=True, timeout=60)
        settings = f'[[listener]]\naddress = "{HOST}:{port}"\ntls = "{tls}"\n\n' \
                   f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        self.proxy = self.relay(self.upstream, settings=settings, networks=["192.0.2.0/24"], users=users)
        return agents.Door(port, tls, certificate, USER, password, mechanism)

    def authenticates(self, name, tls, mechanism):
        door = self.door(tls, mechanism)
        agents.AGENTS[name].submit(door, SENDER, [RECIPIENT], [LETTER])
        [message] = self.received(self.upstream, 1)
        self.assertEqual(contents.without_traces(message.content, 1), LETTER)
        self.assertRegex(message.field("Received"), "with (E|UTF8)SMTPSA ")
        # In tracking, and not in the message.
        self.assertNotIn(USER + " ", message.field("Received").replace(SENDER, ""))
        # The log is written behind the 250.
        received = wait_for(lambda: [event for event in self.proxy.events() if event["event"] == "RECEIVE"], 20,
                            "a RECEIVE event expected")
        self.assertEqual([event["user"] for event in received], [USER])
        self.says_no_secret()

    def says_no_secret(self):
        kept = self.proxy.said() + "".join(path.read_text() for path in self.proxy.tracking.rglob("*") if path.is_file())
        self.assertNotIn(PASSWORD, kept)

    def is_told_that_it_is_not(self, name, mechanism):
        door = self.door("starttls", mechanism, "another password")
        with self.assertRaises(Refused) as refused:
            agents.AGENTS[name].submit(door, SENDER, [RECIPIENT], [LETTER])
        self.assertIn("5.7.8", " ".join(refused.exception.reply.split()))
        self.assertEqual(self.upstream.messages, [])


def scenarios_of(name):
    words = re.sub(r"\W+", "_", name.lower()).strip("_")

    def scenario(method, title, *arguments):
        def test(self):
            method(self, name, *arguments)
        setattr(Auth, f"test_{words}_{title}", test)

    mechanisms = agents.AGENTS[name].mechanisms
    for mechanism in mechanisms:
        spoken = mechanism.lower().replace("-", "_")
        scenario(Auth.authenticates, f"authenticates_by_{spoken}_after_starttls", "starttls", mechanism)
    scenario(Auth.authenticates, "authenticates_under_implicit_tls", "implicit", mechanisms[0])
    scenario(Auth.is_told_that_it_is_not, "shows_its_user_that_the_password_is_wrong", mechanisms[0])


for agent in agents.AGENTS:
    scenarios_of(agent)
