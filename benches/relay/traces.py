"""What a relay asks of the system, counted under strace: figures that a noisy machine does not blur.

Contract: each measure runs the relay anew and gives counts per message. Each is None where strace is missing.
Invariants: strace stops the relay only at the calls that are counted, but for `calls`, which counts all.
"""

import collections
import re
import shutil
import sys
import time

from relays import HOST, Run

SYNCS = "fsync,fdatasync,sync_file_range,syncfs"
WRITES = "write,writev,pwrite64,pwritev,pwritev2"
WIRE = "connect,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"
CALL = re.compile(r"(?m)^([\d.]+) (\w+)\(\d+<(.*?)>([,)].*) = (-?\d+)(?: |$)")


def is_there():
    if shutil.which("strace"):
        return True
    print("strace is missing, so syncs, bytes, calls and round trips are not counted: apt-get install strace",
          file=sys.stderr)
    return False


def _under_strace(kind, folder, size, sessions, messages, options):
    """Runs the relay under strace; gives the folder of its traces, one for each thread, and the run."""
    traces = folder.parent / (folder.name + "-trace")
    shutil.rmtree(traces, ignore_errors=True)
    traces.mkdir(parents=True)
    prefix = ["strace", "-qq", "-e", "signal=none", *options, "-o", str(traces / "t")]
    with Run(kind, folder, size, sessions, prefix) as run:
        run.pass_on(messages)
        time.sleep(1)
    return traces, run


def _traced(kind, folder, size, sessions, messages, calls):
    """The calls that were made, in the order of time: (name, descriptor, arguments, result)."""
    # A file per thread: no call is cut in two by another's. --seccomp-bpf: other calls run at full speed.
    options = ["-ff", "--seccomp-bpf", "-yy", "-ttt", "-s", "0", "-e", f"trace={calls}"]
    traces, run = _under_strace(kind, folder, size, sessions, messages, options)
    found = []
    for path in traces.iterdir():
        for call in CALL.finditer(path.read_text(errors="replace")):
            found.append((float(call.group(1)), *call.group(2, 3, 4), int(call.group(5))))
    shutil.rmtree(traces)
    return [call[1:] for call in sorted(found)], run


def disk(kind, folder, size, sessions, messages, length):
    """Syncs, and bytes that are written to the spool for each byte of content."""
    syncs, _ = _traced(kind, folder, size, sessions, messages, SYNCS)
    writes, run = _traced(kind, folder, size, sessions, messages, WRITES)
    files = [(path, octets) for _, path, _, octets in writes
             if octets > 0 and path.startswith("/") and not path.startswith("/dev/")]
    spool = sum(octets for path, octets in files if not run.relay.is_log(path))
    return {"fsyncs_per_message": len(syncs) / messages,
            "spool_bytes_per_content_byte": spool / messages / length}


def wire(kind, folder, size, sessions, messages):
    """Connections to the sink, and on them how often the relay had written and then waited for an answer."""
    calls, run = _traced(kind, folder, size, sessions, messages, WIRE)
    sink = f"{HOST}:{run.sink.port}"
    connections = round_trips = 0
    wrote = collections.defaultdict(bool)
    for name, descriptor, arguments, result in calls:
        connections += name == "connect" and f"sin_port=htons({run.sink.port})" in arguments
        if not descriptor.endswith(f"->{sink}]"):
            continue
        if name.startswith(("write", "send")):
            wrote[descriptor] |= result > 0
        elif result > 0:
            round_trips += wrote[descriptor]
            wrote[descriptor] = False
    return {"connections_per_message": connections / messages, "round_trips_per_message": round_trips / messages}


def calls(kind, folder, size, sessions, messages):
    """All system calls. The relay is much slower meanwhile, which may cost it a few more waits for each message."""
    traces, _ = _under_strace(kind, folder, size, sessions, messages, ["-f", "-c"])
    total = re.search(r"(?m)^ *100\.00 +\S+ +\S* +(\d+) .*total$", (traces / "t").read_text())
    shutil.rmtree(traces)
    return {"calls_per_message": int(total.group(1)) / messages}
