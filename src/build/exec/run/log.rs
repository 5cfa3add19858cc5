//! The output of a RUN, as much of it as is kept: its beginning and its end.

use std::collections::VecDeque;

/// How many bytes of the beginning are kept, and how many of the end.
pub const KEPT: usize = 8 << 20;

/// Output in the order in which it came, both streams together.
#[derive(Debug, Default)]
pub struct Log {
    first: Vec<u8>,
    last: VecDeque<u8>,
    dropped: u64,
}

impl Log {
    /// Adds output.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT - self.first.len()));
        self.first.extend_from_slice(first);
        let rest_kept = &rest[rest.len().saturating_sub(KEPT)..];
        let over = (self.last.len() + rest_kept.len()).saturating_sub(KEPT);
        self.last.drain(..over);
        self.last.extend(rest_kept);
        self.dropped += (over + rest.len() - rest_kept.len()) as u64;
    }

    /// What is kept, with a line that says how much is left out where something is.
    pub fn into_bytes(mut self) -> Vec<u8> {
        if self.dropped > 0 {
            self.first.extend_from_slice(format!("\n[{} bytes left out]\n", self.dropped).as_bytes());
        }
        self.first.extend(self.last);
        self.first
    }

    /// The last `lines` lines, at most `bytes` bytes of them.
    pub fn tail(self, lines: usize, bytes: usize) -> Vec<u8> {
        let all = self.into_bytes();
        let end = all.len() - usize::from(all.ends_with(b"\n"));
        let breaks = all[..end].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let start = breaks.map(|(at, _)| at + 1).nth(lines.saturating_sub(1)).unwrap_or(0);
        all[start.max(all.len().saturating_sub(bytes))..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut log = Log::default();
        log.push(b"begin\n");
        for _ in 0..40 {
            log.push(&vec![b'x'; 1 << 20]);
        }
        log.push(b"\nend\n");
        let bytes = log.into_bytes();
        assert!(bytes.starts_with(b"begin\nxxx") && bytes.ends_with(b"xxx\nend\n"));
        let left_out = (40 << 20) + 11 - 2 * KEPT;
        assert!(String::from_utf8(bytes).unwrap().contains(&format!("\n[{left_out} bytes left out]\n")));
        let mut log = Log::default();
        log.push(&vec![b'y'; 3 * KEPT]);
        assert!(log.into_bytes().len() < 2 * KEPT + 100);
    }

    #[test]
    fn tails() {
        let tail = |text: &str, lines, bytes| {
            let mut log = Log::default();
            log.push(text.as_bytes());
            String::from_utf8(log.tail(lines, bytes)).unwrap()
        };
        assert_eq!(tail("a\nb\nc\n", 2, 100), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 1, 100), "c");
        assert_eq!(tail("a\nb\n", 9, 100), "a\nb\n");
        assert_eq!(tail("", 9, 100), "");
        assert_eq!(tail("aaaa\nbbbb\n", 9, 3), "bb\n");
    }
}
