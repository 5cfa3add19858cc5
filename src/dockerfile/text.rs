//! Text that remembers where it came from: a logical line joined from several physical ones, a
//! flag without its quotes, a decoded JSON string. Offsets into it map back to the source.

use std::ops::Range;

use crate::base::span::Span;

/// A text and where its pieces stand in the source. Within a piece, text and source run in step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    text: String,
    /// Where the first piece stands in the source.
    start: usize,
    /// The further pieces: (offset in the text, offset in the source), rising in both.
    pieces: Vec<(usize, usize)>,
}

impl Text {
    /// `text` as it stands in the source from `source` on.
    pub(crate) fn at(source: usize, text: &str) -> Self {
        Self { text: text.to_owned(), start: source, pieces: Vec::new() }
    }

    /// Appends `piece`, which stands in the source from `source` on.
    pub(crate) fn push(&mut self, piece: &str, source: usize) {
        self.place(source);
        self.text.push_str(piece);
    }

    /// Appends the part `range` of another text.
    pub(crate) fn append(&mut self, other: &Text, range: Range<usize>) {
        let base = self.text.len();
        self.place(other.source(range.start));
        let next = other.pieces.partition_point(|(at, _)| *at <= range.start);
        let inside = other.pieces[next..].iter().take_while(|(at, _)| *at < range.end);
        self.pieces.extend(inside.map(|(at, source)| (base + at - range.start, *source)));
        self.text.push_str(&other.text[range]);
    }

    /// The text itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The part `range` with its places.
    pub(crate) fn slice(&self, range: Range<usize>) -> Text {
        let mut slice = Text::default();
        slice.append(self, range);
        slice
    }

    /// The part without white space at its end.
    pub(crate) fn trim_end(mut self) -> Text {
        self.text.truncate(self.text.trim_end().len());
        let length = self.text.len();
        self.pieces.truncate(self.pieces.partition_point(|(at, _)| *at < length));
        self
    }

    /// Where the part `range` stands in the source, from its first byte to its last.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let start = self.source(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        Span::new(start, (self.source(range.end - 1) + 1).max(start))
    }

    /// Where the whole text stands in the source.
    pub(crate) fn whole(&self) -> Span {
        self.span(0..self.text.len())
    }

    /// The same text, same places, with backslashes and backticks exchanged if `escape` is a
    /// backtick: what the grammar reads.
    pub(crate) fn escaped_by(&self, escape: char) -> std::borrow::Cow<'_, str> {
        if escape == '\\' || !self.text.contains(['\\', '`']) {
            return std::borrow::Cow::Borrowed(&self.text);
        }
        let exchange = |c| match c {
            '\\' => '`',
            '`' => '\\',
            other => other,
        };
        std::borrow::Cow::Owned(self.text.chars().map(exchange).collect())
    }

    /// Notes that what comes next stands in the source from `source` on.
    fn place(&mut self, source: usize) {
        if self.text.is_empty() {
            self.start = source;
            self.pieces.clear();
        } else if self.source(self.text.len()) != source {
            self.pieces.push((self.text.len(), source));
        }
    }

    fn source(&self, offset: usize) -> usize {
        match self.pieces.partition_point(|(at, _)| *at <= offset) {
            0 => self.start + offset,
            next => {
                let (at, source) = self.pieces[next - 1];
                source + (offset - at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_joining_and_slicing() {
        let mut text = Text::at(10, "RUN a ");
        text.push("b c", 30);
        assert_eq!(text.as_str(), "RUN a b c");
        assert_eq!(text.span(4..5), Span::new(14, 15));
        assert_eq!(text.span(4..7), Span::new(14, 31));
        assert_eq!(text.slice(5..8).span(1..3), Span::new(30, 32));
        assert_eq!(text.slice(4..9).whole(), Span::new(14, 33));
        assert_eq!(text.span(9..9), Span::new(33, 33));
    }

    #[test]
    fn the_grammar_sees_one_escape_character() {
        let text = Text::at(0, r"a`b\c");
        assert_eq!(text.escaped_by('`'), r"a\b`c");
        assert_eq!(text.escaped_by('\\'), r"a`b\c");
    }
}
