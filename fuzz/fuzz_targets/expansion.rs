//! Any bytes as a word and as a here-document's body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kiln::dockerfile::properties::expansion(bytes));
