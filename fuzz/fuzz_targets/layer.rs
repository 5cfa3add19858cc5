//! Any bytes as a layer: compressed, as a tar, and as a stream of both.
#![no_main]

use std::io::Read;

use kiln::layer::decompress::decompress;
use kiln::layer::from_tar::index_tar;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = index_tar(bytes);
    if let Ok((_, stream)) = decompress(bytes) {
        let _ = index_tar(stream.take(1 << 24));
    }
});
