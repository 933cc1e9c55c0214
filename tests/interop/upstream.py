"""Upstreams for the relay: one of our own that records every command line and follows a script, and others' servers.

Contract: each listens on 127.0.0.1, is a context manager, and ends with its block. What arrived is read from
`messages` (a list that only grows) and, for `Upstream`, from `sessions`.
Invariants: `Upstream` sees bytes, never text: content is what stood between the reply 354 and the final dot, dots
unstuffed, nothing else changed.
Not here: what is asserted about it (`test_*.py`).
"""

import asyncio
import dataclasses
import os
import pathlib
import re
import ssl
import subprocess
import threading

from peers import NODE_MODULES, postfix
from waiting import HOST, free_port, wait_for

CLOSE = object()
"""A script's answer that closes the connection without a reply."""


@dataclasses.dataclass
class Message:
    """One message as it arrived; `mail` and `recipients` are whole command lines."""

    mail: str
    recipients: list
    content: bytes
    tls: bool = False
    session: int = 0

    @property
    def addresses(self):
        return [address_of(line) for line in self.recipients]

    @property
    def sender(self):
        return address_of(self.mail)

    def field(self, name):
        """The first header field of that name, unfolded; None when there is none."""
        head = self.content.split(b"\r\n\r\n")[0]
        found = re.search(rb"(?mi)^" + name.encode() + rb":([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", head)
        return re.sub(rb"\r\n[ \t]+", b" ", found.group(1)).strip().decode("latin-1") if found else None


def address_of(line):
    return line[line.index("<") + 1:line.index(">")]


class Script:
    """How the upstream behaves: each method answers with a reply, CLOSE, or (seconds to wait, reply)."""

    def greeting(self, session):
        return "220 upstream.example.net ESMTP"

    def mail(self, session, line):
        return "250 2.1.0 Ok"

    def recipient(self, session, address):
        return "250 2.1.5 Ok"

    def block(self, session, size):
        """After each line of content: False closes the connection in the midst of it."""
        return True

    def content(self, session, message):
        return "250 2.0.0 Ok"


class Upstream:
    """A recording server of our own on asyncio, in a thread of its own."""

    OFFERS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN")

    def __init__(self, script=None, port=None, offers=OFFERS, tls=None, certificate=None):
        """`tls` is None, "starttls" or "implicit", with `certificate` (certificate file, key file)."""
        self.script, self.port, self.offers, self.tls = script or Script(), port or free_port(), offers, tls
        self.sessions, self.messages, self.connections = [], [], 0
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)

    @property
    def url(self):
        return f"{'smtps' if self.tls == 'implicit' else 'smtp'}://{HOST}:{self.port}"

    def __enter__(self):
        started = threading.Event()
        self.loop = asyncio.new_event_loop()
        # A relay under test may break a connection at any byte; that is no news.
        self.loop.set_exception_handler(lambda _loop, _context: None)
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        if not started.wait(10):
            raise AssertionError("the recording upstream did not start")
        if self.failure:
            raise self.failure
        return self

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        self.failure, self.ended = None, asyncio.Event()
        try:
            self.loop.run_until_complete(self._serve(started))
        finally:
            self.loop.close()

    async def _serve(self, started):
        try:
            context = self.context if self.tls == "implicit" else None
            server = await asyncio.start_server(self._session, HOST, self.port, limit=1 << 25, ssl=context)
        except OSError as error:
            self.failure = error
            started.set()
            return
        started.set()
        await self.ended.wait()
        server.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(10)

    async def _session(self, reader, writer):
        self.connections += 1
        session = Session(self, self.connections, reader, writer)
        self.sessions.append(session.lines)
        try:
            await session.run()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, Closed):
            pass
        finally:
            writer.transport.abort() if session.broken else writer.close()


class Closed(Exception):
    """The script closed the connection."""


class Session:
    """One connection to `Upstream`: the dialogue of RFC 5321, as far as a relay uses it."""

    def __init__(self, upstream, number, reader, writer):
        self.upstream, self.number, self.reader, self.writer = upstream, number, reader, writer
        self.script, self.lines, self.broken = upstream.script, [], False
        self.encrypted = upstream.tls == "implicit"
        self.mail, self.recipients = None, []

    async def reply(self, answer):
        if isinstance(answer, tuple):
            await asyncio.sleep(answer[0])
            answer = answer[1]
        if answer is CLOSE:
            self.broken = True
            raise Closed
        self.writer.write(answer.encode() + b"\r\n")
        await self.writer.drain()
        if answer.startswith("421"):
            raise Closed
        return answer.startswith(("2", "3"))

    async def run(self):
        if not await self.reply(self.script.greeting(self.number)):
            raise Closed
        while True:
            line = (await self.reader.readuntil(b"\r\n"))[:-2].decode("latin-1")
            self.lines.append(line)
            verb = line.split(" ")[0].upper()
            if verb == "QUIT":
                await self.reply("221 2.0.0 Bye")
                return
            await self.command(verb, line)

    async def command(self, verb, line):
        if verb == "EHLO":
            self.forget()
            offers = list(self.upstream.offers)
            if self.upstream.tls == "starttls" and not self.encrypted:
                offers.append("STARTTLS")
            lines = ["upstream.example.net", *offers]
            await self.reply("\r\n".join(f"250{' ' if text is lines[-1] else '-'}{text}" for text in lines))
        elif verb == "HELO":
            self.forget()
            await self.reply("250 upstream.example.net")
        elif verb == "STARTTLS":
            await self.reply("220 2.0.0 Go ahead")
            await self.writer.start_tls(self.upstream.context)
            self.encrypted = True
        elif verb == "MAIL":
            if await self.reply(self.script.mail(self.number, line)):
                self.mail = line
        elif verb == "RCPT":
            if self.mail is None:
                await self.reply("503 5.5.1 MAIL first")
            elif await self.reply(self.script.recipient(self.number, address_of(line))):
                self.recipients.append(line)
        elif verb == "DATA":
            await self.data()
        elif verb in ("RSET", "NOOP"):
            if verb == "RSET":
                self.forget()
            await self.reply("250 2.0.0 Ok")
        else:
            await self.reply("502 5.5.1 Not here")

    def forget(self):
        self.mail, self.recipients = None, []

    async def data(self):
        if not self.recipients:
            await self.reply("554 5.5.1 No valid recipients")
            return
        await self.reply("354 Go on")
        content = bytearray()
        while (line := await self.reader.readuntil(b"\r\n")) != b".\r\n":
            content += line[1:] if line.startswith(b".") else line
            if not self.script.block(self.number, len(content)):
                await self.reply(CLOSE)
        message = Message(self.mail, self.recipients, bytes(content), self.encrypted, self.number)
        self.forget()
        answer = self.script.content(self.number, message)
        accepted = answer[1] if isinstance(answer, tuple) else answer
        # Only what gets its 2xx is received; a message whose connection dies after the dot is the script's to keep.
        if accepted is not CLOSE and accepted.startswith("2"):
            self.upstream.messages.append(message)
        await self.reply(answer)


class Aiosmtpd:
    """aiosmtpd as the upstream: a server written by others."""

    def __init__(self, port=None, certificate=None, implicit=False):
        self.port, self.certificate, self.implicit = port or free_port(), certificate, implicit
        self.messages = []

    @property
    def url(self):
        return f"{'smtps' if self.implicit else 'smtp'}://{HOST}:{self.port}"

    async def handle_DATA(self, server, session, envelope):
        mail = " ".join([f"MAIL FROM:<{envelope.mail_from or ''}>", *envelope.mail_options])
        recipients = [f"RCPT TO:<{address}>" for address in envelope.rcpt_tos]
        # aiosmtpd tells of TLS from the start only through its transport.
        secret = session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None
        self.messages.append(Message(mail, recipients, envelope.original_content, secret))
        return "250 2.0.0 Ok"

    def __enter__(self):
        from aiosmtpd.controller import Controller
        from aiosmtpd.smtp import SMTP

        context = None
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
        starttls = None if self.implicit else context

        class Quiet(Controller):
            def factory(inner):
                return SMTP(self, hostname="aiosmtpd.example.net", tls_context=starttls, data_size_limit=1 << 26,
                            ident="aiosmtpd")

        self.controller = Quiet(self, hostname=HOST, port=self.port, ssl_context=context if self.implicit else None)
        self.controller.start()
        return self

    def __exit__(self, *_):
        self.controller.stop()


class SmtpSink:
    """Postfix's smtp-sink: counts and keeps nothing but what it writes into `folder`, one file a message."""

    def __init__(self, folder, port=None):
        self.folder, self.port = folder, port or free_port()
        self.url = f"smtp://{HOST}:{self.port}"

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # As root it insists on leaving root; the account must be able to write into the folder.
        account, _ = postfix.accounts()
        as_account = []
        if os.getuid() == 0:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            as_account = ["-u", account.pw_name]
        self.process = subprocess.Popen(
            [postfix.tool("smtp-sink"), *as_account, "-d", f"{self.folder}/message.", f"{HOST}:{self.port}", "100"],
            env=postfix.environment(), stdin=subprocess.DEVNULL, preexec_fn=postfix.ends_with_parent)
        wait_for(lambda: postfix.greets(self.port), 10, "smtp-sink did not greet")
        return self

    def dumps(self):
        """The bytes of each message: smtp-sink writes X- fields and a Received of its own above the content."""
        return [path.read_bytes() for path in sorted(self.folder.iterdir()) if path.stat().st_size]

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


class NodeSmtpServer:
    """nodemailer's smtp-server, which writes each content into `folder`."""

    def __init__(self, folder, port=None):
        self.folder, self.port = folder, port or free_port()
        self.url = f"smtp://{HOST}:{self.port}"

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        script = pathlib.Path(__file__).with_name("receive.js")
        self.process = subprocess.Popen(["node", str(script), str(self.port), str(self.folder)],
                                        env={**os.environ, "NODE_PATH": str(NODE_MODULES)}, stdin=subprocess.DEVNULL,
                                        preexec_fn=postfix.ends_with_parent)
        wait_for(lambda: postfix.greets(self.port), 20, "smtp-server did not greet")
        return self

    def contents(self):
        """What it received: a file that is still being written has another name."""
        return [path.read_bytes() for path in sorted(self.folder.glob("*.eml"))]

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
