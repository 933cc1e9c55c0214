"""Where other makers' programs are: makes `tests/peers` and the unpacked aiosmtpd importable.

Contract: importing this module fails with a sentence when `tests/peers/install` has not been run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peers"))

import postfix  # noqa: E402

if not (postfix.PEERS / "stamp").exists():
    raise SystemExit(f"other makers' mail programs are missing from {postfix.PEERS}: run tests/peers/install")

sys.path.insert(0, str(postfix.PEERS / "python"))
NODE_MODULES = postfix.PEERS / "node/node_modules"
SWAKS = postfix.ROOT / "usr/bin/swaks"
