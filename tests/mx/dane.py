"""DANE against a real name server that serves signed zones, from a root of its own: `unshare -rn python3 tests/mx/dane.py`.

Contract: each case of dane.toml is asked of `posthouse mx`, and a message is sent through a running relay; what both do must
be what the case says. Then the same with a name server that strips signatures, and some of them with one that gives no
answer about TLSA records and with one that gives none about the NS records of hosts; and what a dead one before the good
one costs. Prints a line for each case; exit code 1 when one failed. MX_CASE names a single one.
Invariants: hosts take mail over STARTTLS with a certificate that no authority knows, and remember whether TLS was used.
Not here: the way of mail without DANE (`run.py`), the servers of both (`servers.py`).
"""

import asyncio
import hashlib
import json
import os
import pathlib
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

import run
import servers
from run import Failure, Relay, check, mx, reached

HERE = pathlib.Path(__file__).resolve().parent
PEERS = pathlib.Path(os.environ["MX_PEERS"])
NO_PROOF, NO_TLSA, NO_NS = "192.0.2.62", "192.0.2.63", "192.0.2.64"
BOXES = {servers.NSD: "", NO_PROOF: ", stripped", NO_TLSA: ", no TLSA", NO_NS: ", no NS"}
# With STARTTLS: a certificate that is valid, and one that has expired; without STARTTLS.
VALID, EXPIRED, CLEAR = "192.0.2.1", "192.0.2.2", "192.0.2.3"


class Certificate:
    """Signed by itself, for a name that nobody asks for."""

    def __init__(self, folder, name, days):
        key, request, self.file = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        openssl = lambda *arguments: subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-out", request, "-subj", "/CN=elsewhere.invalid")
        extensions = folder / "extensions"
        extensions.write_text("subjectAltName=DNS:elsewhere.invalid\n")
        openssl("x509", "-req", "-in", request, "-signkey", key, "-days", str(days), "-out", self.file,
                "-extfile", extensions)
        public = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")
        self.digest = hashlib.sha256(public).hexdigest()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.file, key)


class Host(socketserver.ThreadingTCPServer):
    """Takes every message on port 25; `taken` has the recipient, the address and whether TLS was used."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address, certificate, taken):
        self.certificate, self.taken, self.address = certificate, taken, address
        super().__init__((address, 25), Session)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self.converse()
        except OSError:
            pass

    def converse(self):
        recipients, is_tls, host = [], False, self.server
        self.wfile.write(b"220 host.test\r\n")
        while line := self.rfile.readline():
            verb, reply = line[:8].upper().strip(), b"250 ok\r\n"
            if verb[:4] == b"EHLO":
                offers = host.certificate and not is_tls
                reply = b"250-host.test\r\n" + (b"250-STARTTLS\r\n" if offers else b"") + b"250 8BITMIME\r\n"
            elif verb == b"STARTTLS":
                self.wfile.write(b"220 go on\r\n")
                self.connection = host.certificate.context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                is_tls = True
                continue
            elif verb[:4] == b"RCPT":
                recipients.append(line.split(b"<")[1].split(b">")[0].decode())
            elif verb[:4] == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() != b".\r\n":
                    pass
                host.taken += [(recipient, host.address, is_tls) for recipient in recipients]
                recipients = []
            elif verb[:4] == b"QUIT":
                reply = b"221 bye\r\n"
            self.wfile.write(reply)


class Signer:
    """Keys and signed zones, by the tools of ldns."""

    def __init__(self, folder):
        self.folder = folder
        libraries = ":".join(str(path) for path in PEERS.glob("usr/lib/*-linux-gnu*"))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": libraries}

    def tool(self, name, *arguments):
        done = subprocess.run([PEERS / "usr/bin" / name, *arguments], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True)
        check(done.returncode == 0, name, *arguments, done.stderr)
        return done.stdout.strip()

    def key(self, zone, algorithm="ECDSAP256SHA256"):
        """The base name of the key's files."""
        return self.tool("ldns-keygen", "-k", "-a", algorithm, zone)

    def ds(self, key):
        return (self.folder / f"{key}.ds").read_text()

    def sign(self, zone, text, key, *options):
        name = zone.strip(".") or "root"
        (self.folder / f"{name}.unsigned").write_text(text)
        self.tool("ldns-signzone", *options, "-o", zone, "-f", f"{name}.zone", f"{name}.unsigned", key)
        return f"{name}.zone"


def apex(zone):
    return f"$ORIGIN {zone}\n$TTL 60\n@ SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n@ NS ns.test.\n"


def zones_of(cases, folder, digests):
    """All zones, signed: those of cases stand in `test` but for the ones that say otherwise."""
    signer = Signer(folder)
    fill = lambda case, text: digests(text).replace("$D", case["name"] + ".test")
    tld = apex("test.") + f"ns A {servers.NSD}\n"
    files = {}
    for case in cases:
        zone, how = f"{case['name']}.test.", case.get("signed", "by-test")
        records = f"$ORIGIN {zone}\n" + fill(case, case["zone"])
        if how in ("by-test", "tampered"):
            tld += records
            continue
        text = apex(zone) + records
        tld += f"{zone} NS ns.test.\n"
        if how == "not":
            name = f"{zone.strip('.')}.zone"
            (folder / name).write_text(text)
            files[zone] = name
            continue
        key = signer.key(zone, "RSASHA256" if how == "rsa" else "ECDSAP256SHA256")
        tld += signer.ds(signer.key(zone) if how == "by-another-key" else key)
        options = {"too-late": ["-i", "20200101", "-e", "20200201"], "nsec3": ["-n", "-t", "0"],
                   "rsa": [], "by-another-key": []}[how]
        files[zone] = signer.sign(zone, text, key, *options)
    key, root_key = signer.key("test."), signer.key(".", "RSASHA256")
    files["test."] = signer.sign("test.", tld, key)
    # What is signed is one thing, and what is served another.
    served = (folder / files["test."]).read_text()
    (folder / files["test."]).write_text(served.replace("e" * 64, "d" * 64))
    files["."] = signer.sign(".", apex(".") + "test. NS ns.test.\nns.test. A " + servers.NSD + "\n" + signer.ds(key), root_key)
    return files, folder / f"{root_key}.key"


async def start_middle_boxes():
    """Between the relay and the name server: one that knows nothing of EDNS, two that fail for some records."""
    loop = asyncio.get_running_loop()
    end = lambda question: question.index(b"\0", 12) + 5

    def no_proof(question, reply):
        reply(servers.ask_nsd(question[:10] + b"\0\0" + question[12:end(question)]))

    def no_tlsa(question, reply):
        is_tlsa = question[end(question) - 4:end(question) - 2] == b"\0\x34" and question[12] != 0
        reply(servers.with_code(question, 2) if is_tlsa else servers.ask_nsd(question))

    def no_ns(question, reply):
        is_of_host = question[end(question) - 4:end(question) - 2] == b"\0\2" and question[13:15].lower() == b"mx"
        reply(servers.with_code(question, 2) if is_of_host else servers.ask_nsd(question))

    for address, act in ((NO_PROOF, no_proof), (NO_TLSA, no_tlsa), (NO_NS, no_ns)):
        await loop.create_datagram_endpoint(lambda act=act: servers.Datagrams(act), local_addr=(address, 53))


def configure(folder, anchor, server=servers.NSD, before=None):
    """`before`: a name server that is asked first."""
    path = run.configure(folder, ["nsd"])
    text = path.read_text().replace(servers.NSD + ":53", server + ":53")
    text = text.replace("servers = [", f'servers = ["{before}:53", ') if before else text
    path = folder / f"dane-{server}.toml"
    path.write_text(text.replace("[dns]\n", f"[dns]\nmta_sts = false\ntrust_anchor = {json.dumps(str(anchor))}\n")
                    .replace(json.dumps(str(folder / "spool")), json.dumps(str(folder / f"spool-{server}"))))
    return path


async def of_case(case, config, relay, taken, stripped=False):
    """`stripped`: what is said of it where no signatures come through."""
    domain = case["name"] + ".test"
    tls, fate = case.get("tls"), case.get("fate", "deliver")
    if stripped:
        tls, fate = "opportunistic", "deliver"
    told = await mx(domain, "--config", config)
    check(told["by_relay"], "the relay was not asked")
    is_remarked = any("DANE is unavailable" in remark for remark in told["remarks"])
    check(is_remarked == stripped, "remarks", told["remarks"])
    check(told["fate"] == fate, "fate", told)
    if fate == "deliver":
        check(told["next_hops"][0]["tls"] == tls, "tls", told)
    else:
        check(told["status"] == case["status"] and case["reason"] in told["reason"], "reason", told)
    outcome = case.get("outcome", "tls" if fate == "deliver" else "deferred")
    if stripped:
        check("signed" not in told["security"] and "signatures" in told["security"]["signed_trouble"], told["security"])
    elif tls == "dane" and fate == "deliver":
        check(told["security"]["signed"] and told["security"]["hosts"][0]["tlsa"], "security", told["security"])
        # What the probe makes of certificates is what comes to pass.
        probes = (await mx(domain, "--config", config, "--probe"))["probes"]
        good = [probe for probe in probes if probe["answers"]]
        check(bool(good) == (outcome == "tls"), "probes", probes)
        check(all(probe["certificate"]["dane"]["matching"] for probe in good), "matching", good)
    recipient = await relay.send(domain)
    event = (await relay.events(recipient, "SEND", "FAIL", "DEFER"))[0]
    mine = [(host, is_tls) for to, host, is_tls in taken if to == recipient]
    if stripped:
        outcome = "clear" if case.get("clear") else "tls"
    if outcome == "deferred":
        check(event["event"] == "DEFER" and event["status"] == case["status"], "deferred", event)
        check(case["reason"] in json.dumps(event), "the reason", event)
        check(mine == [], "it was taken", mine)
    else:
        check(event["event"] == "SEND" and len(mine) == 1, "delivered", event, mine)
        check(mine[0][1] == (outcome == "tls"), "over TLS", mine)


async def dead_first(folder, anchor, taken):
    """The first of two name servers is dead, or dies: mail goes by the other, as secure as before, and hardly later."""
    alive = False
    relayed = lambda question, reply: reply(servers.ask_nsd(question)) if alive else None
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: servers.Datagrams(relayed), local_addr=(servers.SERVERS["silent"], 53))
    config = configure(folder, anchor, before=servers.SERVERS["silent"])
    relay = Relay(config, None)
    relay.number = 9000

    async def takes(name, seconds):
        began = time.monotonic()
        recipient = await relay.send(name + ".test")
        event = (await relay.events(recipient, "SEND", "FAIL", "DEFER"))[0]
        took = time.monotonic() - began
        print(f"        {name} took {took:.1f} s", flush=True)
        check(event["event"] == "SEND" and event["tls_verified_by"] == "dane", "delivered", event)
        check(took < seconds, f"took {took:.1f} s")

    # Plain DNS gives the dead one five seconds, once; DNSSEC does not wait for it, or five seconds where it was well before.
    for alive, (first, second) in ((False, (9, 3)), (True, (3, 3))):
        await relay.start()
        await takes("match", first)
        await takes("one-of-two-matches", second)
        if alive:
            alive = False
            await takes("expired-and-self-signed-and-matching", 14)
            await takes("match", 3)
        await relay.stop()


async def main():
    cases = tomllib.loads((HERE / "dane.toml").read_text())["case"]
    single = os.environ.get("MX_CASE")
    servers.SERVERS.update({"no-proof": NO_PROOF, "no-tlsa": NO_TLSA, "no-ns": NO_NS})
    run.set_up_network()
    failed, parts, taken = 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        valid, expired = Certificate(folder, "valid", 30), Certificate(folder, "expired", -1)
        digests = lambda text: text.replace("$VALID", valid.digest).replace("$EXPIRED", expired.digest)
        for address, certificate in ((VALID, valid), (EXPIRED, expired), (CLEAR, None)):
            Host(address, certificate, taken)
        files, anchor = zones_of(cases, folder, digests)
        nsd = servers.Nsd(folder, files)
        nsd.start()
        await reached(nsd)
        await start_middle_boxes()
        chosen = [case for case in cases if single in (None, case["name"])]
        for turn, server in enumerate(BOXES):
            config = configure(folder, anchor, server)
            relay = Relay(config, None)
            relay.number = 1000 * turn
            await relay.start()
            for case in chosen:
                if server in (NO_TLSA, NO_NS):
                    otherwise = case.get("without_tlsa" if server == NO_TLSA else "without_ns")
                    if otherwise is None:
                        continue
                    case = {**case, **otherwise}
                name = case["name"] + BOXES[server]
                began = time.monotonic()
                try:
                    await of_case(case, config, relay, taken, server == NO_PROOF)
                    print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
                except (Failure, asyncio.TimeoutError, KeyError, OSError) as failure:
                    failed += 1
                    print(f"FAILED  {name}: {failure!r}", flush=True)
                parts.append(name)
            await relay.stop()
        if single in (None, "dead-first"):
            parts.append("dead-first")
            try:
                await dead_first(folder, anchor, taken)
                print("ok      dead-first", flush=True)
            except (Failure, asyncio.TimeoutError, KeyError, OSError) as failure:
                failed += 1
                print(f"FAILED  dead-first: {failure!r}", flush=True)
        nsd.stop()
    print(f"{len(parts)} cases, {failed} failed")
    return 1 if failed or not parts else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
