"""The other side: name servers, good and bad, and hosts that take mail.

Contract: everything is bound to addresses of this network namespace and ends with this process.
Not here: the cases and what is expected (`run.py`).
"""

import asyncio
import os
import pathlib
import socket
import struct
import subprocess

NSD, NSD6, OTHER = "192.0.2.53", "2001:db8::53", "192.0.2.59"
SERVERS = {
    "nsd": NSD, "nsd6": NSD6, "silent": "192.0.2.54", "closed": "192.0.2.55", "slow": "192.0.2.56",
    "broken": "192.0.2.57", "refusing": "192.0.2.58", "garbling": "192.0.2.60", "udp-only": "192.0.2.61",
    "chaotic": "192.0.2.62", "terse": "192.0.2.63", "stranger": "192.0.2.64", "upward": "192.0.2.65",
    "old": "192.0.2.66", "no-aaaa": "192.0.2.67",
}
REPLIES = {b"EHLO": b"250-sink.test\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n", b"QUIT": b"221 bye\r\n"}
HOSTS = [f"192.0.2.{number}" for number in range(1, 10)] + [f"2001:db8::{number}" for number in range(1, 10)]


class Nsd:
    """NSD with these zones, by their names and files in this folder; everything else it refuses."""

    def __init__(self, folder, zones):
        peers = pathlib.Path(os.environ["MX_PEERS"])
        libraries = ":".join(str(path) for path in peers.glob("usr/lib/*-linux-gnu*"))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
        self.program, self.config, self.out = peers / "usr/sbin/nsd", folder / "nsd.conf", folder / "nsd.out"
        self.config.write_text(f"""\
server:
    ip-address: {NSD}
    ip-address: {NSD6}
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    pidfile: ""
    database: ""
    xfrdfile: "{folder}/xfrd.state"
    zonelistfile: "{folder}/zone.list"
    server-count: 1
    rrl-ratelimit: 0
remote-control:
    control-enable: no
""" + "".join(f'zone:\n    name: "{name}"\n    zonefile: "{file}"\n' for name, file in zones.items()))
        self.process = None

    def start(self):
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen([self.program, "-d", "-c", self.config], stdout=out, stderr=out,
                                            env=self.environment, start_new_session=True)

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, 15)
            self.process.wait(10)
            self.process = None


class Datagrams(asyncio.DatagramProtocol):
    """A name server over UDP that does `act` with each question: (question, reply) -> None."""

    def __init__(self, act):
        self.act = act

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.act(data, lambda answer: self.transport.sendto(answer, address))


def with_code(question, code, truncated=False):
    """The question as an answer without records."""
    identity, flags = struct.unpack("!HH", question[:4])
    flags |= 0x8080 | (0x0200 if truncated else 0) | code
    end = question.index(b"\0", 12) + 5
    return struct.pack("!HHHHHH", identity, flags, 1, 0, 0, 0) + question[12:end]


def type_of(question):
    end = question.index(b"\0", 12)
    return struct.unpack("!H", question[end + 1:end + 3])[0]


def of_a_stranger(question, referral=False):
    """No records, from one who neither resolves names nor has the domain; or that the root be asked."""
    answer = bytearray(with_code(question, 0))
    answer[2:4] = bytes((answer[2] & ~0x04, answer[3] & ~0x80))
    if referral:
        answer[8:10] = b"\0\1"
        answer += b"\0" + struct.pack("!HHIH", 2, 1, 3600, 8) + b"\1a\4root\0"
    return bytes(answer)


def of_class_chaos(answer):
    """The same MX records, of a class that nobody asked for."""
    return answer.replace(b"\xc0\x0c\x00\x0f\x00\x01", b"\xc0\x0c\x00\x0f\x00\x03")


def ask_nsd(question):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as up:
        up.settimeout(5)
        up.sendto(question, (NSD, 53))
        return up.recv(65535)


async def start_name_servers():
    loop = asyncio.get_running_loop()

    def later(question, reply):
        loop.call_later(1.5, lambda: reply(ask_nsd(question)))

    acts = {
        "silent": lambda question, reply: None,
        "slow": later,
        "broken": lambda question, reply: reply(with_code(question, 2)),
        "refusing": lambda question, reply: reply(with_code(question, 5)),
        "garbling": lambda question, reply: reply(question[:2] + b"\xff" * 40),
        "chaotic": lambda question, reply: reply(of_class_chaos(ask_nsd(question))),
        "terse": lambda question, reply: reply(with_code(question, 0)),
        "stranger": lambda question, reply: reply(of_a_stranger(question)),
        "upward": lambda question, reply: reply(of_a_stranger(question, referral=True)),
        "old": lambda question, reply: None if question[10:12] != b"\0\0" else reply(ask_nsd(question)),
        "no-aaaa": lambda question, reply: None if type_of(question) == 28 else reply(ask_nsd(question)),
        "udp-only": lambda question, reply: reply(with_code(question, 0, truncated=True)),
    }
    for name, act in acts.items():
        await loop.create_datagram_endpoint(lambda act=act: Datagrams(act), local_addr=(SERVERS[name], 53))


class Sink:
    """Takes every message on port 25 of every host, and remembers the address at which it came."""

    def __init__(self):
        self.taken = []

    async def start(self):
        for host in HOSTS:
            await asyncio.start_server(lambda reader, writer, host=host: self.session(host, reader, writer), host, 25)

    async def session(self, host, reader, writer):
        recipients = []
        writer.write(b"220 sink.test\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper().strip()
                if verb == b"RCPT":
                    recipients.append(line.split(b"<")[1].split(b">")[0].decode())
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    while await reader.readline() != b".\r\n":
                        pass
                    self.taken += [(recipient, host) for recipient in recipients]
                    recipients = []
                writer.write(REPLIES.get(verb, b"250 ok\r\n"))
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()
