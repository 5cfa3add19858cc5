//! Output of steps as text that is safe to show: whole lines, invalid UTF-8 replaced, control
//! sequences taken out.

/// The longest line kept; what is longer is broken.
const MAX_LINE: usize = 16 << 10;
/// Where a tab goes to.
const TAB: usize = 8;

/// Bytes of one stream, gathered to lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Adds `bytes` and gives every line that is complete now to `sink`.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            for chunk in piece.chunks(MAX_LINE) {
                if self.partial.len() + chunk.len() > MAX_LINE {
                    self.flush(&mut sink);
                }
                self.partial.extend_from_slice(chunk);
            }
            if ends {
                sink(clean(&self.partial));
                self.partial.clear();
            }
        }
    }

    /// Gives a line that has no end yet to `sink`.
    pub fn flush(&mut self, mut sink: impl FnMut(String)) {
        if !self.partial.is_empty() {
            sink(clean(&self.partial));
            self.partial.clear();
        }
    }

    /// The line that has no end yet.
    pub fn partial(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| clean(&self.partial))
    }
}

/// A line without anything that a terminal would obey: escape sequences and control characters
/// are dropped, tabs become blanks, and of what carriage returns overwrite the last state is kept.
pub fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let last = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("");
    let mut cleaned = String::with_capacity(last.len());
    let mut chars = last.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\u{9b}' => skip_control(&mut chars),
            '\t' => {
                let blanks = TAB - cleaned.chars().count() % TAB;
                cleaned.extend(std::iter::repeat_n(' ', blanks));
            }
            c if c.is_control() || is_direction(c) => {}
            c => cleaned.push(c),
        }
    }
    cleaned
}

/// Characters that change the direction of what follows, so that text reads as what it is not.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an escape character (ECMA-48).
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => skip_control(chars),
        // Strings: operating system command, device control, privacy message, application command.
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(' '..='/') => {
            while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            chars.next();
        }
        _ => {}
    }
}

/// Skips parameters, intermediates and the final character of a control sequence.
fn skip_control(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// `text` cut to `width` columns.
pub fn fit(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    console::truncate_str(text, width, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| got.push(line));
        }
        lines.flush(|line| got.push(line));
        got
    }

    #[test]
    fn lines_across_chunks() {
        assert_eq!(lines(&[b"a", b"b\nc", b"\n\nd"]), ["ab", "c", "", "d"]);
        let long = vec![b'x'; MAX_LINE + 5];
        let got = lines(&[&long, b"\n"]);
        assert_eq!(got.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 5]);
    }

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        for (bytes, expected) in [
            (&b"\x1b[31mred\x1b[0m"[..], "red"),
            (b"\x1b]0;title\x07x", "x"),
            (b"\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"10%\r50%\r100%\r", "100%"),
            (b"a\tb", "a       b"),
            (b"a\x07\x08\x7fb", "ab"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{9b}2Jx\u{202e}y".as_bytes(), "xy"),
            (b"\x1b(Bx\x1b7y\x1b", "xy"),
            (b"\x1bPdata", ""),
            (b"\x1b[38;5;\xc3\xa9", "é"),
        ] {
            assert_eq!(clean(bytes), expected, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_control_character_survives(bytes: Vec<u8>) {
            let text = clean(&bytes);
            proptest::prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}
