"""Clients that submit to the relay: swaks, smtplib, nodemailer, and a bare socket.

Contract: each submits one message and returns the relay's last reply, or raises Refused with the reply that said no.
`content` is bytes with CRLF line ends, dots not stuffed.
Not here: what the relay does with it.
"""

import base64
import json
import os
import smtplib
import socket
import subprocess

from peers import NODE_MODULES, SWAKS
from waiting import HOST

TIMEOUT = 60


class Refused(Exception):
    """The relay said no; `reply` holds its text."""

    def __init__(self, reply):
        super().__init__(reply)
        self.reply = reply


def with_smtplib(port, sender, recipients, content, mail_options=(), rcpt_options=(), source=None):
    address = (source, 0) if source else None
    with smtplib.SMTP(HOST, port, local_hostname="client.example.org", timeout=TIMEOUT, source_address=address) as smtp:
        smtp.ehlo_or_helo_if_needed()
        code, text = smtp.mail(sender, list(mail_options))
        if code != 250:
            raise Refused(f"{code} {text.decode()}")
        for recipient in recipients:
            code, text = smtp.rcpt(recipient, list(rcpt_options))
            if code not in (250, 251):
                raise Refused(f"{code} {text.decode()}")
        code, text = smtp.data(content)
        if code != 250:
            raise Refused(f"{code} {text.decode()}")
        return f"{code} {text.decode()}"


def with_swaks(port, sender, recipients, content, pipeline=False):
    # -ndf: swaks sends what it is given, so the dots are stuffed here.
    wire = stuffed(content) + b".\r\n"
    command = ["perl", str(SWAKS), "--server", HOST, "--port", str(port), "--ehlo", "client.example.org",
               "--from", sender or "<>", "--to", ",".join(recipients), "--no-data-fixup", "--data", "-",
               "--timeout", str(TIMEOUT), *(["--pipeline"] if pipeline else [])]
    done = subprocess.run(command, input=wire, capture_output=True, timeout=TIMEOUT * 2)
    said = done.stdout.decode("latin-1")
    replies = [line[4:] for line in said.splitlines() if line.startswith(("<- ", "<** ", "<-  ", "<~  "))]
    if done.returncode:
        raise Refused(f"swaks ended with {done.returncode}: {said[-2000:]}{done.stderr.decode()[-500:]}")
    return replies[-2].strip() if len(replies) > 1 else said


def with_nodemailer(port, sender, recipients, content, dsn=None):
    job = {"port": port, "host": HOST, "raw": base64.b64encode(content).decode(),
           "envelope": {"from": sender, "to": list(recipients), **({"dsn": dsn} if dsn else {})}}
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "submit.js")
    done = subprocess.run(["node", script], input=json.dumps(job).encode(), capture_output=True, timeout=TIMEOUT * 2,
                          env={**os.environ, "NODE_PATH": str(NODE_MODULES)})
    if done.returncode:
        raise Refused(done.stderr.decode()[-2000:])
    return done.stdout.decode().strip()


def with_socket(port, sender, recipients, content, mail_options=(), rcpt_options=()):
    """Says just what it is told to: content may be empty, and no byte of it is touched but the dots."""
    with Dialogue(port) as dialogue:
        dialogue.greet()
        dialogue.say(" ".join([f"MAIL FROM:<{sender}>", *mail_options]), "250")
        for recipient in recipients:
            dialogue.say(" ".join([f"RCPT TO:<{recipient}>", *rcpt_options]), "250")
        dialogue.say("DATA", "354")
        dialogue.send(stuffed(content) + b".\r\n")
        reply = dialogue.reply()
        if not reply.startswith("250"):
            raise Refused(reply)
        dialogue.say("QUIT", "221")
        return reply


def stuffed(content):
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    text = content.replace(b"\r\n.", b"\r\n..")
    return b"." + text if text.startswith(b".") else text


class Dialogue:
    """A bare connection to the relay."""

    def __init__(self, port, source=None, timeout=TIMEOUT):
        self.socket = socket.create_connection((HOST, port), timeout, source_address=(source, 0) if source else None)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """The next whole reply, its lines joined by LF; empty when the connection is closed."""
        lines = []
        while True:
            try:
                line = self.file.readline().decode("latin-1").rstrip("\r\n")
            except ConnectionError:
                line = ""
            lines.append(line)
            if len(line) < 4 or line[3] != "-":
                return "\n".join(lines)

    def greet(self):
        assert self.reply().startswith("220")
        return self.say("EHLO client.example.org", "250")

    def say(self, line, expected=None):
        self.send(line.encode("latin-1") + b"\r\n")
        reply = self.reply()
        if expected and not reply.startswith(expected):
            raise Refused(f"to {line!r}: {reply}")
        return reply
