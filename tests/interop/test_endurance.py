"""Endurance of the front door: thousands of idle clients, a flood of connections, and no descriptors left.

Contract: what an idle client costs is measured and bounded; sessions that are open go on whatever the crowd does, and
so do deliveries; a stop with thousands of idle clients is quick.
INTEROP_IDLE sets the number of idle clients; what the system's limit of open files does not allow is left out.
Not here: the same without a network of the system (`tests/front_door.rs`).
"""

import os
import pathlib
import re
import resource
import selectors
import socket
import ssl
import time

import clients
import contents
from relay import Scenario, needs_posthouse
from upstream import Upstream
from waiting import HOST, wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]
SELF_SIGNED = "[tls]\nself_signed = true\n"
# Beside the idle clients: the test's own files, and the relay's.
RESERVE = 1500


def many_files():
    """Raises this process's limit, which the relay inherits; returns how many clients fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - RESERVE if hard != resource.RLIM_INFINITY else 1 << 20


def memory(relay):
    """Octets of memory of its own that the relay has."""
    status = pathlib.Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def descriptors(relay):
    return len(os.listdir(f"/proc/{relay.process.pid}/fd"))


def connected(port):
    connection = socket.create_connection((HOST, port), 20)
    connection.settimeout(20)
    return connection


def greeted(port):
    connection = connected(port)
    line = connection.recv(200)
    if not line.startswith(b"220 "):
        raise AssertionError(f"220 expected: {line}")
    return connection


def under_tls(port, context):
    connection = greeted(port)
    connection.sendall(b"EHLO client.example.org\r\n")
    while b"250 " not in connection.recv(4096):
        pass
    connection.sendall(b"STARTTLS\r\n")
    if not connection.recv(200).startswith(b"220 "):
        raise AssertionError("STARTTLS should be offered")
    connection = context.wrap_socket(connection)
    connection.sendall(b"EHLO client.example.org\r\n")
    while b"250 " not in connection.recv(4096):
        pass
    return connection


@needs_posthouse
class Endurance(Scenario):
    def setUp(self):
        super().setUp()
        self.room = many_files()
        self.upstream = self.enter(Upstream())
        self.crowd = []
        self.addCleanup(lambda: [connection.close() for connection in self.crowd])

    def accepts_and_delivers(self, relay, before=0):
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        self.received(self.upstream, before + 1)

    def cost(self, relay, count, connect):
        """Octets of memory for each of `count` more idle clients."""
        # What the first ones bring about is no client's own.
        self.crowd += [connect(relay.port) for _ in range(20)]
        before = memory(relay)
        self.crowd += [connect(relay.port) for _ in range(count)]
        return (memory(relay) - before) / count

    def test_ten_thousand_idle_clients_cost_little_and_disturb_nobody(self):
        count = min(int(os.environ.get("INTEROP_IDLE", 10_000)), self.room)
        relay = self.relay(self.upstream, settings="[limits]\nsessions = 12000\n")
        each = self.cost(relay, count, greeted)
        print(f"{count} idle clients in clear: {each:.0f} octets each")
        self.assertLess(each, 6144)
        self.accepts_and_delivers(relay)
        status, seconds = relay.stop()
        self.assertEqual(status, 0, relay.log())
        print(f"a stop with {count} idle clients: {seconds:.1f} s")
        self.assertLess(seconds, 15)

    def test_idle_clients_under_tls_cost_little(self):
        count = min(1_000, self.room)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        relay = self.relay(self.upstream, tls="starttls", settings="[limits]\nsessions = 12000\n" + SELF_SIGNED)
        each = self.cost(relay, count, lambda port: under_tls(port, context))
        print(f"{count} idle clients under TLS: {each:.0f} octets each")
        self.assertLess(each, 20 * 1024)
        self.accepts_and_delivers(relay)

    def test_a_flood_is_told_421_and_sessions_go_on(self):
        relay = self.relay(self.upstream, settings="[limits]\nsessions = 50\n")
        inside = [greeted(relay.port) for _ in range(49)]
        self.crowd += inside
        self.accepts_and_delivers(relay)
        wait_for(lambda: self.is_let_in(relay), 10, "there is room for one more")
        flood = [connected(relay.port) for _ in range(2_000)]
        self.crowd += flood
        told = [self.farewell(connection) for connection in flood]
        self.assertLessEqual(set(told), {b"", b"421 4.3.2 too many sessions at once, try again later\r\n"})
        self.assertGreater(sum(map(bool, told)), 200)
        for connection in inside:
            connection.sendall(b"NOOP\r\n")
            self.assertEqual(connection.recv(100)[:3], b"250")
        wait_for(lambda: descriptors(relay) < 150, 10, lambda: f"{descriptors(relay)} descriptors are open")
        # One of those inside leaves, and there is room again.
        inside[0].close()
        self.crowd.pop(50).close()
        wait_for(lambda: self.is_let_in(relay), 10, "somebody should be let in")

    def is_let_in(self, relay):
        connection = connected(relay.port)
        line = connection.recv(200)
        if not line.startswith(b"220 "):
            connection.close()
            return False
        self.crowd.append(connection)
        return True

    def farewell(self, connection):
        """All that is said until the end, which must come."""
        said = b""
        try:
            while octets := connection.recv(200):
                said += octets
        except ConnectionResetError:
            pass
        return said

    def test_without_descriptors_clients_are_told_421_and_the_rest_goes_on(self):
        relay = self.relay(self.upstream, settings="[limits]\nsessions = 5000\n")
        inside = greeted(relay.port)
        self.crowd.append(inside)
        # As many as are open already, and twenty more: the sessions' own limit is far away.
        limit = descriptors(relay) + 20
        resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, (limit, self.room))
        told, late = [], []
        for _ in range(60):
            connection = connected(relay.port)
            late.append(connection)
            told.append(connection.recv(200))
        self.crowd += late
        self.assertIn(b"421 4.3.2 no room for more connections, try again later\r\n", told)
        self.assertEqual({line[:3] for line in told}, {b"220", b"421"})
        inside.sendall(b"NOOP\r\n")
        self.assertEqual(inside.recv(100)[:3], b"250", "a session that is open goes on")
        for connection in late:
            connection.close()
        wait_for(lambda: self.is_let_in(relay), 10, "somebody should be let in again")
        self.accepts_and_delivers(relay)
        self.assertEqual(relay.said().count("no descriptors for more connections"), 1, "it is said once")

    def test_slow_writers_end_in_their_time_and_hold_up_nobody(self):
        relay = self.relay(self.upstream, settings='[limits]\nidle_timeout = "3s"\ncontent_time = "4s"\n')
        drip = greeted(relay.port)
        writer = greeted(relay.port)
        clients_lines = [b"EHLO client.example.org\r\n", b"MAIL FROM:<a@example.org>\r\n",
                         b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n"]
        for line in clients_lines:
            writer.sendall(line)
            wait_for(lambda: writer.recv(4096), 10, "a reply")
        self.crowd += [drip, writer]
        began, ended = time.monotonic(), {}
        with selectors.DefaultSelector() as selector:
            for connection, name in ((drip, "command"), (writer, "content")):
                selector.register(connection, selectors.EVENT_READ, name)
            while len(ended) < 2 and time.monotonic() < began + 20:
                for key, _ in selector.select(0.5):
                    self.assertEqual(key.fileobj.recv(300), b"421 4.4.2 it comes too slowly, closing the connection\r\n")
                    ended[key.data] = time.monotonic() - began
                    selector.unregister(key.fileobj)
                for connection, name in ((drip, "command"), (writer, "content")):
                    if name not in ended:
                        connection.sendall(b"x")
        self.assertLess(abs(ended["command"] - 3), 2, ended)
        self.assertLess(abs(ended["content"] - 4), 2, ended)
        self.accepts_and_delivers(relay)
