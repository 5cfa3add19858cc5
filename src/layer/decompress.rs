//! A compressed stream of any form that images and archives come in, told by its first bytes.

use std::io::{self, BufReader, Chain, Cursor, Read};

use super::{LayerError, Result};

/// What xz may ask for; its largest preset takes 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// The largest window of zstd, as a power of two: that of its command without options.
const ZSTD_WINDOW: u32 = 27;
const BUFFER: usize = 128 * 1024;
/// The largest stream, uncompressed: a few bytes can stand for any number of them.
const LARGEST: u64 = 256 << 30;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not, as far as its first bytes tell.
    Plain,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Format {
    /// The format of a stream that begins with `bytes`; six are enough.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame of user data that readers skip; layers that can be pulled in parts begin so.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The uncompressed bytes of `stream`. They may be many more than went in, though no more than
/// 256 GiB: whoever reads them bounds what it keeps. Memory is bounded whatever the stream asks for.
pub fn decompress<'a>(mut stream: impl Read + Send + 'a) -> Result<(Format, Box<dyn Read + Send + 'a>)> {
    let mut head = Vec::with_capacity(6);
    stream.by_ref().take(6).read_to_end(&mut head).map_err(|source| LayerError::Decompress { source })?;
    let format = Format::of(&head);
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(stream));
    let reader = decoder(format, whole).map_err(|source| LayerError::Decompress { source })?;
    let bounded = Bounded { reader, left: LARGEST };
    Ok((format, Box::new(bounded)))
}

/// Gives an error where there is more than a bound.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more tells the end from the bound.
        let room = buffer.len().min(usize::try_from(self.left + 1).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..room])?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "the stream is larger than 256 GiB uncompressed")
        })?;
        Ok(count)
    }
}

fn decoder<'a, R: Read + Send + 'a>(
    format: Format,
    whole: Whole<R>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match format {
        Format::Plain => Box::new(whole),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Format::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(whole, stream))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Format, io::Result<Vec<u8>>) {
        let (format, mut reader) = decompress(bytes).unwrap();
        let mut raw = Vec::new();
        (format, reader.read_to_end(&mut raw).map(|_| raw))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 1).unwrap()
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const ALL: [(Format, Encode); 4] =
        [(Format::Gzip, gzip), (Format::Bzip2, bzip2), (Format::Xz, xz), (Format::Zstd, zstd)];

    #[test]
    fn every_format_in_one_part_or_two() {
        for (format, encode) in ALL {
            let one = encode(b"content");
            assert_eq!(read(&one).0, format);
            assert_eq!(read(&one).1.unwrap(), b"content");
            assert_eq!(read(&[one, encode(b" more")].concat()).1.unwrap(), b"content more", "{format:?}");
        }
        for plain in [&b""[..], b"x", b"plain text", b"\x1f\x8b"] {
            let (format, raw) = read(plain);
            assert_eq!((format, raw.unwrap()), (Format::Plain, plain.to_vec()));
        }
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstd(b"content")].concat();
        assert_eq!(read(&skippable).1.unwrap(), b"content");
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let content = vec![7; 100_000];
        for (format, encode) in ALL {
            let whole = encode(&content);
            for length in 6..whole.len() {
                assert!(read(&whole[..length]).1.is_err(), "{format:?} cut to {length}");
            }
        }
    }

    #[test]
    fn large_windows_are_refused() {
        // Window descriptor for 2^40 bytes.
        let (format, raw) = read(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0xf0, 0, 0, 0]);
        assert_eq!(format, Format::Zstd);
        assert!(raw.is_err());
    }

    #[test]
    fn a_bound_is_reached_and_not_passed() {
        let read = |left| io::copy(&mut Bounded { reader: &[0; 100][..], left }, &mut io::sink());
        assert_eq!(read(100).unwrap(), 100);
        assert_eq!(read(99).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    proptest! {
        #[test]
        fn damaged_streams_never_panic(
            kind in 0usize..4,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = ALL[kind].1(&[b"some content ".repeat(20), vec![0; 3000]].concat());
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok((_, reader)) = decompress(&bytes[..]) {
                let _ = std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink());
            }
        }
    }
}
