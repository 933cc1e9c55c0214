"""Mail clients that others wrote, each asked to do the same: connect, secure, authenticate, submit.

Contract: `AGENTS` has each client by name. `Agent.submit` sends each content to all recipients, over one connection
where the client can; it returns when all were taken, and raises `clients.Refused` with what the client's user sees when one was
not. `Door` is where and how; certificates are checked by every client that has a way to name one to trust.
Invariants: contents are given as bytes with CRLF; a client that wants the line ends of this system gets those, and it is
its own affair to send CRLF.
Not here: what the relay does with it (`test_clients*.py`), clients that say what a test wants (`clients`).
"""

import asyncio
import base64
import dataclasses
import json
import os
import pathlib
import smtplib
import ssl
import subprocess
import tempfile
import typing

from clients import TIMEOUT, Refused, stuffed
from peers import NODE_MODULES, SWAKS, postfix
from waiting import HOST

NAME = "client.example.org"
HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Door:
    """A listener. `tls` is "none", "starttls" or "implicit"; `ca` a file with the certificate to trust."""

    port: int
    tls: str = "none"
    ca: typing.Optional[str] = None
    user: typing.Optional[str] = None
    password: typing.Optional[str] = None
    mechanism: typing.Optional[str] = None


@dataclasses.dataclass
class Agent:
    submit: typing.Callable
    """Takes a door, the sender, the recipients and the contents."""
    several: bool = False
    """Whether it sends several messages over one connection."""
    mechanisms: tuple = ()


def run(command, given=b"", environment=None):
    """Returns all that was said; raises Refused with it when the command ends with anything but 0."""
    done = subprocess.run(command, input=given, capture_output=True, timeout=TIMEOUT * 2,
                          env={**postfix.environment(), **(environment or {})})
    said = (done.stderr + done.stdout).decode("utf-8", "replace")
    if done.returncode:
        raise Refused(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {said[-3000:]}")
    return said


def certificate(folder):
    """A certificate of the relay's that clients can be told to trust, and its key, as files."""
    paths = str(folder / "certificate.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=relay.example.org", "-addext",
                    f"subjectAltName=DNS:relay.example.org,DNS:localhost,IP:{HOST}", "-keyout", paths[1],
                    "-out", paths[0]], check=True, capture_output=True)
    return paths


def files(contents):
    """A folder with each content in a file of its own; it goes away with the `with` block."""
    folder = tempfile.TemporaryDirectory(prefix="posthouse-interop-")
    for number, content in enumerate(contents):
        (pathlib.Path(folder.name) / str(number)).write_bytes(content)
    return folder


def swaks(*extra):
    def submit(door, sender, recipients, contents):
        library = next(iter(postfix.ROOT.glob("usr/lib/*-linux-gnu/perl5/5.*")), "")
        command = ["perl", str(SWAKS), "--server", HOST, "--port", str(door.port), "--ehlo", NAME, "--from", sender,
                   "--to", ",".join(recipients), "--no-data-fixup", "--data", "-", "--timeout", str(TIMEOUT), *extra]
        if door.tls != "none":
            command += ["--tls" if door.tls == "starttls" else "--tls-on-connect",
                        "--tls-verify", "--tls-ca-path", door.ca]
        if door.user:
            command += ["--auth", door.mechanism, "--auth-user", door.user, "--auth-password", door.password]
        for content in contents:
            # It sends what it is given, so the dots are stuffed here.
            run(command, stuffed(content) + b".\r\n", {"PERL5LIB": str(library)})
    return submit


def msmtp(door, sender, recipients, contents):
    command = [postfix.ROOT / "usr/bin/msmtp", f"--host={HOST}", f"--port={door.port}", f"--domain={NAME}",
               f"--from={sender}", f"--timeout={TIMEOUT}"]
    if door.tls != "none":
        command += ["--tls=on", f"--tls-starttls={'on' if door.tls == 'starttls' else 'off'}",
                    f"--tls-trust-file={door.ca}"]
    if door.user:
        # Without TLS it refuses by itself.
        command += [f"--auth={door.mechanism.lower()}", f"--user={door.user}",
                    f"--passwordeval=printf %s '{door.password}'"]
    for content in contents:
        run([*map(str, command), "--", *recipients], content.replace(b"\r\n", b"\n"))


def curl(door, sender, recipients, contents):
    url = f"{'smtps' if door.tls == 'implicit' else 'smtp'}://{HOST}:{door.port}/{NAME}"
    one = ["--url", url, "--mail-from", sender]
    for recipient in recipients:
        one += ["--mail-rcpt", recipient]
    if door.tls != "none":
        one += ["--ssl-reqd", "--cacert", door.ca]
    if door.user:
        one += ["--user", f"{door.user}:{door.password}", "--login-options", f"AUTH={door.mechanism}"]
    with files(contents) as folder:
        # What curl says without --verbose is the code alone. --next keeps the connection.
        command = ["curl", "--silent", "--show-error", "--verbose", "--max-time", str(TIMEOUT)]
        for number in range(len(contents)):
            command += [*(["--next", "--silent", "--show-error", "--verbose"] if number else []), *one,
                        "--upload-file", os.path.join(folder, str(number))]
        run(command)


def opensmtpd(door, sender, recipients, contents):
    scheme = {"none": "smtp+notls", "starttls": "smtp+tls", "implicit": "smtps"}[door.tls]
    account = f"{door.user}:{door.password}@" if door.user else ""
    # -C: it has no option that names a certificate to trust.
    command = [postfix.ROOT / "usr/bin/smtp", *(["-C"] if door.tls != "none" else []), "-H", NAME, "-F", sender,
               "-s", f"{scheme}://{account}{HOST}:{door.port}", *recipients]
    for content in contents:
        said = run([str(word) for word in command], content.replace(b"\r\n", b"\n"))
        # It ends with 0 whatever the server said, and says so for each recipient.
        if not all(f"{recipient}: EOM: 250 " in said for recipient in recipients):
            raise Refused(said)


def nodemailer(door, sender, recipients, contents):
    job = {"port": door.port, "host": HOST, "tls": door.tls, "ca": pathlib.Path(door.ca).read_text() if door.ca else None,
           "auth": door.user and {"user": door.user, "pass": door.password, "method": door.mechanism},
           "raw": [base64.b64encode(content).decode() for content in contents],
           "envelope": {"from": sender, "to": list(recipients)}}
    run(["node", str(HERE / "submit.js")], json.dumps(job).encode(), {"NODE_PATH": str(NODE_MODULES)})


def trusting(door):
    return ssl.create_default_context(cafile=door.ca)


def python_smtplib(door, sender, recipients, contents):
    if door.tls == "implicit":
        smtp = smtplib.SMTP_SSL(HOST, door.port, NAME, timeout=TIMEOUT, context=trusting(door))
    else:
        smtp = smtplib.SMTP(HOST, door.port, NAME, timeout=TIMEOUT)
    with smtp:
        try:
            if door.tls == "starttls":
                smtp.starttls(context=trusting(door))
            if door.user:
                smtp.ehlo_or_helo_if_needed()
                smtp.user, smtp.password = door.user, door.password
                smtp.auth(door.mechanism, getattr(smtp, "auth_" + door.mechanism.lower()))
            for content in contents:
                options = ["BODY=8BITMIME"] if not content.isascii() else []
                if smtp.sendmail(sender, recipients, content, options):
                    raise Refused("sendmail() names recipients that were refused")
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
            raise Refused(str(error)) from error


def python_aiosmtplib(door, sender, recipients, contents):
    import aiosmtplib

    async def submit():
        context = trusting(door) if door.tls != "none" else None
        smtp = aiosmtplib.SMTP(hostname=HOST, port=door.port, local_hostname=NAME, timeout=TIMEOUT, tls_context=context,
                               use_tls=door.tls == "implicit", start_tls=door.tls == "starttls")
        async with smtp:
            if door.user:
                await smtp.ehlo()
                await getattr(smtp, f"auth_{door.mechanism.lower()}")(door.user, door.password)
            for content in contents:
                options = ["BODY=8BITMIME"] if not content.isascii() else []
                await smtp.sendmail(sender, recipients, content, mail_options=options)

    try:
        asyncio.run(submit())
    except aiosmtplib.SMTPException as error:
        raise Refused(str(error)) from error


def by_words(command):
    """`command KEY=VALUE... FILE...`, as submit.go and Submit.java take it."""
    def submit(door, sender, recipients, contents):
        words = [f"port={door.port}", f"from={sender}", f"tls={door.tls}", *(f"to={one}" for one in recipients)]
        if door.ca:
            words.append(f"ca={door.ca}")
        if door.user:
            words += [f"user={door.user}", f"password={door.password}", f"mechanism={door.mechanism}"]
        with files(contents) as folder:
            run([*command, *words, *(os.path.join(folder, str(number)) for number in range(len(contents)))])
    return submit


JARS = [postfix.PEERS / "java", *(postfix.ROOT / "usr/share/java" / f"jakarta-{name}.jar" for name in ("mail", "activation"))]
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, JARS)), "Submit"]

AGENTS = {
    "swaks": Agent(swaks(), mechanisms=("PLAIN", "LOGIN")),
    "swaks, pipelining": Agent(swaks("--pipeline"), mechanisms=("PLAIN",)),
    "msmtp": Agent(msmtp, mechanisms=("PLAIN", "LOGIN", "SCRAM-SHA-256")),
    "curl": Agent(curl, several=True, mechanisms=("PLAIN", "LOGIN")),
    "OpenSMTPD's smtp": Agent(opensmtpd, mechanisms=("PLAIN",)),
    "nodemailer": Agent(nodemailer, several=True, mechanisms=("PLAIN", "LOGIN")),
    "smtplib": Agent(python_smtplib, several=True, mechanisms=("PLAIN", "LOGIN")),
    "aiosmtplib": Agent(python_aiosmtplib, several=True, mechanisms=("PLAIN", "LOGIN")),
    "Jakarta Mail": Agent(by_words(JAVA), several=True, mechanisms=("PLAIN", "LOGIN")),
    "Go's net/smtp": Agent(by_words([str(postfix.PEERS / "go/submit")]), several=True, mechanisms=("PLAIN",)),
}
