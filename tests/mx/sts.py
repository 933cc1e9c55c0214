"""MTA-STS with everything real, a message at the end: `unshare -rn python3 tests/mx/sts.py`.

Contract: each case has a policy at an HTTPS server, and one MX host with a certificate of some kind; `posthouse mx` must say
what the case says, and a message through a running relay must be delivered over what it says, or wait for the reason. At
last the policy server dies, the relay starts anew, and a policy in force stays so. Prints a line for each case; exit code 1
when one failed. MX_CASE names a single one.
Invariants: the relay trusts one authority, that of this run (SSL_CERT_FILE).
Not here: every way in which a policy does not come (tests/mta_sts.rs), DANE (`dane.py`).
"""

import asyncio
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import dane
import run
import servers
from run import Failure, Relay, check, mx, reached

# By our authority, by none, by ours and over, and no STARTTLS; and who serves policies.
GOOD, SELF_SIGNED, EXPIRED, CLEAR, POLICIES = (f"192.0.2.{number}" for number in (1, 2, 3, 4, 9))

# Name: mode, the host that is named, who is the MX host; what becomes of a message: by what TLS was verified, "clear", or
# the reason why it waits.
CASES = {
    "named": ("enforce", "mx.$D", GOOD, "sts"),
    "named-by-a-wildcard": ("enforce", "*.$D", GOOD, "sts"),
    "not-named": ("enforce", "other.$D", GOOD, "MTA-STS policy does not name it"),
    "by-no-authority": ("enforce", "mx.$D", SELF_SIGNED, "not from an authority"),
    "expired": ("enforce", "mx.$D", EXPIRED, "has expired"),
    "for-another-name": ("enforce", "mx.$D", GOOD, "is not valid for mx.for-another-name.test"),
    "no-starttls": ("enforce", "mx.$D", CLEAR, "the domain's MTA-STS policy demands it"),
    "in-testing": ("testing", "other.$D", CLEAR, "clear"),
    "none": ("none", "other.$D", SELF_SIGNED, "none"),
    "policy-server-for-another-name": ("enforce", "other.$D", SELF_SIGNED, "none"),
}


class Authority:
    """Signs certificates for some names."""

    def __init__(self, folder):
        self.folder, self.key, self.file = folder, folder / "ca.key", folder / "ca.pem"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-keyout", self.key, "-out", self.file, "-subj", "/CN=An authority for tests")

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def certificate(self, name, hosts, days=30, own=False):
        key, request, file = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts) + "\n")
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                     "-out", request, "-subj", "/CN=" + name)
        by = ("-signkey", key) if own else ("-CA", self.file, "-CAkey", self.key, "-CAcreateserial")
        self.openssl("x509", "-req", "-in", request, *by, "-days", days, "-out", file, "-extfile", extensions)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(file, key)
        return self.context


class Shown:
    """What a host of `dane.py` shows."""

    def __init__(self, context):
        self.context = context


class Policy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        domain = self.headers["Host"].removeprefix("mta-sts.")
        mode, named, _, _ = CASES[domain.removesuffix(".test")]
        text = f"version: STSv1\r\nmode: {mode}\r\nmx: {named.replace('$D', domain)}\r\nmax_age: 86400\r\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def serve_policies(context):
    server = http.server.ThreadingHTTPServer((POLICIES, 443), Policy)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def configure(folder):
    path = run.configure(folder, ["nsd"])
    path.write_text(path.read_text().replace("[dns]\n", "[dns]\ndane = false\n"))
    return path


async def said_of_the_policy(name, domain, config, told, is_kept):
    mode, named, _, _ = CASES[name]
    if name == "policy-server-for-another-name":
        check("mta_sts" not in told["security"], told["security"])
        check("TLS: the certificate is not valid for" in told["security"]["mta_sts_trouble"], told["security"])
        return
    for is_new in (not is_kept, False):
        policy = told["security"]["mta_sts"]
        expected = (mode, [named.replace("$D", domain)], 86400, is_new)
        check((policy["mode"], policy["mx"], policy["max_age"], policy["fetched_now"]) == expected, "policy", policy)
        told = await mx(domain, "--config", config)


async def of_case(name, config, relay, taken, is_kept=False):
    domain, (_, _, host, outcome) = f"{name}.test", CASES[name]
    told = await mx(domain, "--config", config)
    await said_of_the_policy(name, domain, config, told, is_kept)
    expected = {"sts": "sts", "none": "opportunistic", "clear": "opportunistic"}.get(outcome)
    if told["next_hops"]:
        check(told["next_hops"][0]["tls"] == (expected or "sts"), "tls", told)
    else:
        check((told["fate"], told["status"]) == ("defer", "4.7.5") and outcome in told["reason"], "reason", told)
    recipient = await relay.send(domain)
    event = (await relay.events(recipient, "SEND", "FAIL", "DEFER"))[0]
    mine = [(at, is_tls) for to, at, is_tls in taken if to == recipient]
    if expected:
        check(event["event"] == "SEND" and mine == [(host, outcome != "clear")], "delivered", event, mine)
        by = event.get("tls_verified_by")
        check(by == (None if outcome == "clear" else outcome), "verified by", event)
    else:
        check(event["event"] == "DEFER" and event["status"] == "4.7.5", "deferred", event)
        check(outcome in json.dumps(event), "the reason", event)
        check(mine == [], "it was taken", mine)


async def told(name, part):
    """Whether it went well."""
    began = time.monotonic()
    try:
        await part
        print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
        return True
    except (Failure, asyncio.TimeoutError, KeyError, OSError) as failure:
        print(f"FAILED  {name}: {failure!r}", flush=True)
        return False


async def main():
    single = os.environ.get("MX_CASE")
    run.set_up_network()
    with tempfile.TemporaryDirectory() as folder:
        folder, taken = pathlib.Path(folder), []
        zone = [{"name": name, "zone": f"@ MX 10 mx\nmx A {host}\nmta-sts A {POLICIES}\n_mta-sts TXT \"v=STSv1; id=1;\"\n"}
                for name, (_, _, host, _) in CASES.items()]
        (folder / "test.zone").write_text(run.zone_of(zone))
        authority = Authority(folder)
        os.environ["SSL_CERT_FILE"] = str(authority.file)
        hosts = [f"mx.{name}.test" for name in CASES if name != "for-another-name"]
        for address, context in (
                (GOOD, authority.certificate("good", hosts)), (EXPIRED, authority.certificate("old", hosts, days=-1)),
                (SELF_SIGNED, authority.certificate("own", hosts, own=True)), (CLEAR, None)):
            dane.Host(address, context and Shown(context), taken)
        names = [f"mta-sts.{name}.test" for name in CASES if name != "policy-server-for-another-name"]
        policies = serve_policies(authority.certificate("policies", names))
        nsd = servers.Nsd(folder, {"test": "test.zone"})
        nsd.start()
        await reached(nsd)
        config = configure(folder)
        relay = Relay(config, None)
        await relay.start()
        chosen = [name for name in CASES if single in (None, name)]
        went = [await told(name, of_case(name, config, relay, taken)) for name in chosen]
        await relay.stop()
        policies.shutdown()
        policies.server_close()
        await relay.start()
        if single is None:
            went.append(await told("a restart without the policy server", of_case("named", config, relay, taken, is_kept=True)))
        await relay.stop()
        nsd.stop()
    print(f"{len(went)} cases, {went.count(False)} failed")
    return 0 if went and all(went) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
