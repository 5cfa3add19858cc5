//! A path, a line break, and any bytes as an ignore file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kiln::dockerfile::properties::ignore_file(bytes));
