"""An upstream that breaks the protocol in every dialogue, at a stage and in a way of chance, until it is `calm`.

Contract: what goes wrong follows from the seed and the number of the connection alone. `taken` has each content that was
read to its end, with all that was said since the go-ahead for it.
Invariants: whoever gets this upstream's content has got it as a good server would have: only replies are bad.
Not here: what a relay must make of it (`test_hostile.py`); upstreams that refuse and defer by the rules (`upstream.py`).
"""

import contextlib
import dataclasses
import random
import socket
import struct
import threading
import time

from waiting import HOST

STAGES = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "dot", "RSET", "QUIT")
OFFERS = (b"hostile.example.net", b"PIPELINING", b"8BITMIME", b"ENHANCEDSTATUSCODES")
GOOD = {"MAIL": b"250 2.1.0 Ok\r\n", "RCPT": b"250 2.1.5 Ok\r\n", "DATA": b"354 Go on\r\n", "RSET": b"250 2.0.0 Ok\r\n",
        "QUIT": b"221 2.0.0 Bye\r\n", "dot": b"250 2.0.0 Taken\r\n", "content": b"250 2.0.0 Too soon\r\n"}
CODES = (0, 99, 100, 199, 300, 399, 421, 450, 500, 554, 600, 999, 1000, 10**22)


class Over(Exception):
    """The dialogue has ended."""


@dataclasses.dataclass
class Taken:
    content: bytes
    said: bytes


class Hostile:
    def __init__(self, seed, patience=1.0):
        """`patience`: seconds after which it gives up a relay that it keeps waiting."""
        self.seed, self.patience = seed, patience
        self.calm, self.dialogues, self.taken, self.ways = False, 0, [], set()

    def __enter__(self):
        self.socket = socket.create_server((HOST, 0), backlog=128)
        self.url = f"smtp://{HOST}:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # Wakes whoever waits for a connection, which closing alone does not.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.dialogues += 1
                threading.Thread(target=self._serve, args=(connection, self.dialogues), daemon=True).start()

    def _serve(self, connection, number):
        connection.settimeout(30)
        with connection, contextlib.suppress(Over, OSError):
            Dialogue(self, connection, random.Random(f"{self.seed} {number}")).run()


class Dialogue:
    def __init__(self, upstream, connection, chance):
        self.upstream, self.connection, self.chance = upstream, connection, chance
        self.buffer, self.said = b"", b""
        self.stage = None if upstream.calm else chance.choice(STAGES)
        self.way = chance.choice(WAYS)
        if self.stage:
            upstream.ways.add((self.stage, self.way.__name__))

    def run(self):
        self.answer("greeting", b"220 hostile.example.net ESMTP\r\n")
        while True:
            line = self.until(b"\n")
            verb = line[:4].decode("latin-1").strip().upper()
            if verb == "EHLO":
                offers = OFFERS + (b"CHUNKING",) * self.chance.randrange(2)
                self.answer(verb, b"".join(b"250-%s\r\n" % offer for offer in offers) + b"250 DSN\r\n")
            elif verb == "BDAT":
                self.chunk(int(line.split()[1]))
            elif verb in GOOD:
                self.said = b""
                self.answer(verb, GOOD[verb])
                if verb == "DATA":
                    self.content()
                elif verb == "QUIT":
                    raise Over
            else:
                self.say(b"502 5.5.1 Not here\r\n")

    def content(self):
        if self.stage == "content":
            self.answer("content", GOOD["content"])
        self.take(self.until(b"\r\n.\r\n"))

    def chunk(self, size):
        while len(self.buffer) < size:
            self.read()
        content, self.buffer = self.buffer[:size], self.buffer[size:]
        self.take(content)

    def take(self, content):
        taken = Taken(content, b"")
        self.upstream.taken.append(taken)
        try:
            self.answer("dot", GOOD["dot"])
        finally:
            taken.said = self.said

    def answer(self, stage, good):
        if self.stage != stage:
            return self.say(good)
        self.stage = None
        self.way(self, good)

    def say(self, octets):
        self.said += octets
        self.connection.sendall(octets)

    def until(self, end):
        while end not in self.buffer:
            self.read()
        octets, _, self.buffer = self.buffer.partition(end)
        return octets + end

    def read(self):
        octets = self.connection.recv(1 << 16)
        if not octets:
            raise Over
        self.buffer += octets

    def noise(self, _):
        self.say(self.chance.randbytes(self.chance.randrange(1, 3000)))

    def bent(self, good):
        octets = bytearray(good)
        for _ in range(self.chance.randrange(1, 6)):
            octets[self.chance.randrange(len(octets))] = self.chance.randrange(256)
        self.say(bytes(octets))

    def noise_behind(self, good):
        self.say(good + self.chance.randbytes(self.chance.randrange(1, 400)))

    def odd_code(self, _):
        self.say(b"%d 2.0.0 What\r\n" % self.chance.choice(CODES))

    def other_class(self, _):
        self.say(self.chance.choice((b"354 Go\r\n", b"220 Hello\r\n", b"334 \r\n", b"250-\r\n", b"250-a\r\n550 b\r\n")))

    def endless_line(self, _):
        self.say(b"250 " + b"x" * 1_000_000)

    def endless_reply(self, _):
        self.say(b"250-and on\r\n" * 30_000)

    def empty_lines(self, _):
        self.say(b"\n" * 5000)

    def escapes(self, _):
        self.say(self.chance.choice((b"250", b"451", b"550")) + b" \0\x1b[2J\x1b]0;title\x07\x80\xff\r\r\n")

    def ahead(self, good):
        self.say(good + b"250 2.1.0 Ahead\r\n" * self.chance.randrange(1, 30))

    def drip(self, good):
        for octet in good:
            self.say(bytes([octet]))
            time.sleep(self.upstream.patience / 10)

    def reset(self, _):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Over

    def close(self, _):
        raise Over

    def half_close(self, _):
        self.connection.shutdown(socket.SHUT_WR)
        self.silence(_)

    def silence(self, _):
        time.sleep(self.upstream.patience)
        raise Over


WAYS = (Dialogue.noise, Dialogue.bent, Dialogue.noise_behind, Dialogue.odd_code, Dialogue.other_class, Dialogue.endless_line,
        Dialogue.endless_reply, Dialogue.empty_lines, Dialogue.escapes, Dialogue.ahead, Dialogue.drip, Dialogue.reset,
        Dialogue.close, Dialogue.half_close, Dialogue.silence)
