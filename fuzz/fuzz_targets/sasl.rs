//! libFuzzer's way into `tests/fuzz/sasl.rs`, which says what is promised.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzz::sasl::run(octets));
