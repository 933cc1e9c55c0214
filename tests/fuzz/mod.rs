//! What is fuzzed: one function for each target, which panics when a promise is broken.
//!
//! Contract: [`TARGETS`] names them all; each takes any octets. `fuzz/` runs them under libFuzzer, `fuzz_corpus` runs
//! them over the kept corpus on stable. [`Input`] is how a target takes its choices off the front of its octets, so
//! that what is left is a dialogue that a person can read.
//! Invariants: a function has no memory between two calls, and the same octets always do the same.
//! Not here: how octets are found (`fuzz/`), what is right to say in one dialogue (`tests/dialogues`).

#![allow(dead_code)] // each fuzz target uses its part

pub mod address;
pub mod bdat;
pub mod command;
pub mod content;
pub mod gate;
pub mod proxy;
pub mod reply;
pub mod sasl;
pub mod session;
pub mod taped;
pub mod wire;
pub mod xtext;

/// Panics when the octets break a promise.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("address", address::run),
    ("bdat", bdat::run),
    ("command", command::run),
    ("content", content::run),
    ("proxy", proxy::run),
    ("reply", reply::run),
    ("sasl", sasl::run),
    ("session", session::run),
    ("xtext", xtext::run),
];

/// Choices, then octets.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next choice; 0 when there is none.
    pub fn choice(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn choices<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.choice())
    }

    /// What is left.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }
}

/// `octets` in pieces of these lengths, which repeat; 0 is "all there is".
pub fn pieces<'a>(mut octets: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if octets.is_empty() {
            break;
        }
        let length = if *length == 0 { octets.len() } else { usize::from(*length).min(octets.len()) };
        let (piece, rest) = octets.split_at(length);
        pieces.push(piece);
        octets = rest;
    }
    pieces
}
