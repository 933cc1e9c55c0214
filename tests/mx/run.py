"""Every case of cases.toml, in a network namespace of its own: `unshare -rn python3 tests/mx/run.py`.

Contract: `posthouse mx` must say of each domain what the case says, and a running relay must do with a message what was
said. Then the name server dies and comes back under the relay. Prints a line for each case; exit code 1 when one failed.
MX_POSTHOUSE is the program, MX_PEERS the folder of tests/mx/install, MX_CASE the name of a single case.
Not here: the servers (`servers.py`).
"""

import asyncio
import json
import os
import pathlib
import smtplib
import subprocess
import sys
import tempfile
import time
import tomllib

from servers import HOSTS, NSD, SERVERS, Nsd, Sink, start_name_servers

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = os.environ["MX_POSTHOUSE"]
# Of cases whose order has chance in it: that all rounds are alike is one chance in 2^24.
ROUNDS = 25

GENERATED = {
    "hundred": lambda: "".join(f"@ MX {n} mx{n:02}\nmx{n:02} A 192.0.2.1\n" for n in range(100)),
    "hundred-dead-but-17": lambda: "".join(f"@ MX {n} mx{n:02}\n" for n in range(100)) + "mx17 A 192.0.2.1\n",
    "addresses": lambda: "@ MX 10 many\n@ MX 20 other\nother A 192.0.2.2\n" + "".join(
        f"many A 192.0.2.{n}\nmany AAAA 2001:db8::{n}\n" for n in range(1, 10)),
}


def set_up_network():
    run = lambda *command: subprocess.run(command, check=True)
    run("ip", "link", "set", "lo", "up")
    for address in {*HOSTS, *SERVERS.values(), "192.0.2.19", "2001:db8::19", "192.0.2.250", "2001:db8::250"}:
        if ":" in address:
            run("ip", "address", "add", address + "/128", "dev", "lo", "nodad")
        else:
            run("ip", "address", "add", address + "/32", "dev", "lo")


def zone_of(cases):
    text = "$ORIGIN test.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n"
    for case in cases:
        records = case["zone"]
        records = GENERATED[records]() if records in GENERATED else records
        domain = case["name"] + ".test"
        text += f"$ORIGIN {domain}.\n" + records.replace("$D", domain)
    return text


def configure(folder, servers):
    path = folder / f"{'-'.join(servers)}.toml"
    addresses = [f"[{a}]:53" if ":" in a else a + ":53" for a in (SERVERS[server] for server in servers)]
    path.write_text(f"""\
hostname = "relay.example.org"
[spool]
path = {json.dumps(str(folder / "spool"))}
min_free = "1MiB"
[[listener]]
address = "127.0.0.1:2525"
[[listener]]
address = "192.0.2.250:25"
[[listener]]
address = "[2001:db8::250]:25"
[[route]]
domains = ["*"]
via = "mx"
[dns]
servers = {json.dumps(addresses)}
[relaying]
networks = ["127.0.0.1/32"]
""")
    return path


class Failure(Exception):
    pass


def check(condition, *told):
    if not condition:
        raise Failure(" ".join(str(part) for part in told))


async def mx(domain, *arguments):
    command = [PROGRAM, "mx", domain, "--format", "json", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
    out, error = await asyncio.wait_for(process.communicate(), 60)
    check(out, "no answer:", error.decode())
    check(b"hickory" not in error, "the resolver's own log:", error.decode())
    told = json.loads(out)
    if "--probe" in arguments:
        return told
    check(process.returncode == (0 if told["fate"] == "deliver" else 1), "exit code", process.returncode, told)
    return told


def hops(told):
    return [f"{hop['host']} {hop['address'].rsplit(':', 1)[0].strip('[]')}" for hop in told["next_hops"]]


def check_said(case, told, fill):
    fate = case.get("fate", "deliver")
    check(told["fate"] == fate, "fate", told)
    check(told.get("status") == case.get("status"), "status", told)
    found = hops(told)
    rest = list(found)
    for group in case.get("order", []):
        part, rest = rest[:len(group)], rest[len(group):]
        check(sorted(part) == sorted(map(fill, group)), "order", found)
    check(not case.get("order") or not rest, "more hops", found)
    check(len(found) == case.get("hops", len(found)), "hops", found)
    check("first_host" not in case or found[0].split()[0] == fill(case["first_host"]), "first", found)
    for host, reason in case.get("skipped", {}).items():
        reasons = [line["decision"] for line in told["hosts"] if line["host"] == fill(host) and not line["chosen"]]
        check(any(fill(reason) in said for said in reasons), f"{fill(host)} skipped for {fill(reason)!r}:", told["hosts"])
    for remark in case.get("remarks", []):
        check(any(fill(remark) in said for said in told["remarks"]), f"remark {fill(remark)!r}:", told["remarks"])
    for answer in case.get("answers", []):
        said = [f"{q['name']} alias of {alias}" for q in told["questions"] for alias in q.get("aliases", [])]
        said += [q.get("error", "") for q in told["questions"]]
        check(any(fill(answer) in line for line in said), f"answer {fill(answer)!r}:", said)


class Relay:
    """The program itself, with the real name server."""

    def __init__(self, config, sink):
        self.config, self.sink, self.number = config, sink, 0

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(PROGRAM, "run", "--config", str(self.config),
                                                            stdout=-3, stderr=-3)
        for _ in range(200):
            health = await asyncio.create_subprocess_exec(PROGRAM, "health", "--config", str(self.config),
                                                          stdout=-3, stderr=-3)
            if await health.wait() == 0:
                return
            await asyncio.sleep(0.05)
        raise Failure("the relay does not start")

    async def stop(self):
        self.process.terminate()
        await asyncio.wait_for(self.process.wait(), 20)

    async def send(self, domain):
        self.number += 1
        recipient = f"user{self.number}@{domain}"
        mail = f"Subject: {self.number}\r\n\r\nHello\r\n".encode()

        def submit():
            with smtplib.SMTP("127.0.0.1", 2525, timeout=10) as client:
                options = ["SMTPUTF8"] if not domain.isascii() else []
                client.sendmail("sender@[127.0.0.1]", [recipient], mail, mail_options=options)

        await asyncio.to_thread(submit)
        return recipient

    async def events(self, recipient, *names):
        """The first event of one of these names about this recipient."""
        for _ in range(300):
            process = await asyncio.create_subprocess_exec(
                PROGRAM, "track", "--config", str(self.config), "--recipient", recipient, "--event",
                ",".join(names), "--format", "json", stdout=-1, stderr=-3)
            out, _ = await process.communicate()
            events = json.loads(out or b"[]") if out.lstrip().startswith(b"[") else [
                json.loads(line) for line in out.splitlines()]
            if events:
                return events
            await asyncio.sleep(0.1)
        raise Failure(f"nothing of {names} about {recipient}")

    async def must(self, case, domain, told):
        """Sends a message, and sees that what was said comes to pass."""
        recipient = await self.send(domain)
        event = (await self.events(recipient, "SEND", "FAIL", "DEFER"))[0]
        expected = {"deliver": "SEND", "bounce": "FAIL", "defer": "DEFER"}[told["fate"]]
        check(event["event"] == expected, f"the relay, in place of {expected}:", event)
        if expected == "SEND":
            at = [host for to, host in self.sink.taken if to.split("@")[0] == recipient.split("@")[0]]
            tier = [hop.split()[1] for hop in case["order"][0]] if "order" in case else HOSTS
            check(len(at) == 1 and at[0] in case.get("delivered", tier), "taken at", at)
        else:
            check(event["status"] == told["status"], "the relay's status", event)


async def of_case(case, folder, relay):
    name = case["name"] + ".test"
    fill = lambda text: text.replace("$D", name)
    domain = fill(case.get("domain", "$D"))
    config = configure(folder, case.get("servers", ["nsd"]))
    # A spool on which nothing runs: the configuration decides.
    alone = ["--config", config, "--spool", folder / "nothing"]
    told = await mx(domain, *alone)
    check(not told["by_relay"], "a relay was asked")
    check_said(case, told, fill)
    if case.get("varies"):
        firsts = {hops(told)[0]}
        for _ in range(ROUNDS):
            again = await mx(domain, *alone)
            check_said(case, again, fill)
            firsts.add(hops(again)[0])
            if len(firsts) > 1:
                break
        check(len(firsts) > 1, "always the same first:", firsts)
    if "servers" not in case:
        by_relay = await mx(domain, "--config", config)
        check(by_relay["by_relay"], "the relay was not asked")
        check_said(case, by_relay, fill)
        server = await mx(domain, "--server", NSD, "--spool", folder / "nothing")
        check(case["name"].startswith("we-are") or server["fate"] == told["fate"], "--server", server)
        if case.get("delivered"):
            probes = (await mx(domain, "--config", config, "--probe"))["probes"]
            answering = {probe["address"].rsplit(":", 1)[0] for probe in probes if probe["answers"]}
            check(answering == set(case["delivered"]), "probes", probes)
        if not domain.endswith("."):
            await relay.must(case, domain, told)


async def outage(nsd, relay, folder):
    """The name server dies: what is known stays known, all else waits, and goes out when it is back."""
    config = configure(folder, ["nsd"])
    await relay.must({"delivered": ["192.0.2.1"]}, "one-host.test", await mx("one-host.test", "--config", config))
    nsd.stop()
    known = await mx("one-host.test", "--config", config)
    check(known["fate"] == "deliver", "a known answer is kept for its TTL", known)
    await relay.must({"delivered": ["192.0.2.1"]}, "one-host.test", known)
    unknown = await mx("outage.test", "--config", config)
    check((unknown["fate"], unknown["status"]) == ("defer", "4.4.3"), "without DNS", unknown)
    check("that is a matter of the servers asked" in unknown["remarks"][0], unknown["remarks"])
    recipient = await relay.send("outage.test")
    event = (await relay.events(recipient, "DEFER"))[0]
    check(event["status"] == "4.4.3", "deferred without DNS", event)
    nsd.start()
    await reached(nsd)
    subprocess.run([PROGRAM, "queue", "retry", "--all", "--config", config], check=False, stdout=-3, stderr=-3)
    event = (await relay.events(recipient, "SEND", "FAIL"))[0]
    check(event["event"] == "SEND", "it went out when DNS came back", event)


async def reached(nsd):
    import servers
    for _ in range(100):
        try:
            await asyncio.to_thread(servers.ask_nsd, b"\0\1\1\0\0\1\0\0\0\0\0\0\4test\0\0\6\0\1")
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise Failure("nsd does not answer: " + nsd.out.read_text(errors="replace"))


async def main():
    cases = tomllib.loads((HERE / "cases.toml").read_text())["case"]
    single = os.environ.get("MX_CASE")
    outages = {"name": "outage", "zone": "@ MX 10 a\na A 192.0.2.1\n"}
    set_up_network()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "test.zone").write_text(zone_of([*cases, outages]))
        # Without data it answers SERVFAIL.
        nsd, sink = Nsd(folder, {"test": "test.zone", "servfail": "there-is-no-such-file"}), Sink()
        nsd.start()
        await reached(nsd)
        await start_name_servers()
        await sink.start()
        relay = Relay(configure(folder, ["nsd"]), sink)
        await relay.start()
        parts = [(case["name"], of_case(case, folder, relay)) for case in cases if single in (None, case["name"])]
        if single in (None, "outage"):
            parts.append(("outage", outage(nsd, relay, folder)))
        for name, part in parts:
            began = time.monotonic()
            try:
                await part
                print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except (Failure, asyncio.TimeoutError, KeyError, OSError) as failure:
                failed += 1
                print(f"FAILED  {name}: {failure!r}", flush=True)
        await relay.stop()
        nsd.stop()
    print(f"{len(parts)} cases, {failed} failed")
    return 1 if failed or not parts else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
