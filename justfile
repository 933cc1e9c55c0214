# The words for what one does here. Each is a line that can be typed without just.

# What is said by a `just` alone.
_default:
    @just --list

# Formatting, lints and the compiler's own checks: the quick look before a commit.
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# Every test there is; fetches what it needs (README.md, "Tests").
test:
    tests/all

# Rates, CPU, fsyncs and bytes beside Postfix. `just bench --rounds 2` is quicker; needs tests/peers/install.
bench *ARGUMENTS:
    cargo bench --locked --bench relay -- {{ARGUMENTS}}

# The front door alone, beside Postfix's smtpd and mailin; needs tests/peers/install.
bench-accept *ARGUMENTS:
    cargo bench --locked --bench accept -- {{ARGUMENTS}}

# Looks for octets that break a promise: `just fuzz session -max_total_time=600`. Needs nightly and cargo-fuzz.
fuzz TARGET *ARGUMENTS:
    cargo +nightly fuzz run {{TARGET}} -- {{ARGUMENTS}}

# A flaky upstream with the relay in front of it, an hour in each second; Ctrl-C ends it.
lab *ARGUMENTS:
    cargo run --locked --release -- lab up {{ARGUMENTS}}

# Every scenario, in well under a second.
scenarios *ARGUMENTS:
    cargo run --locked --release -- lab run {{ARGUMENTS}} config/scenarios

# The relay with everything embedded; without arguments it says what it needs.
run *ARGUMENTS:
    cargo run --locked --release -- run {{ARGUMENTS}}

# The documentation of the library, with broken links as errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
