//! Places in a source text. Spans are byte offsets into the text as it was read; a [`Source`]
//! turns them into lines for people.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A range of bytes of a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The span as a range.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span::new(self.start.min(other.start), self.end.max(other.end))
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value` at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with what `f` makes of the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

/// A text with a name, and the offsets of its lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// A source named `name`, as errors should print it (`Dockerfile`, `docker/web.Dockerfile`).
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1))
            .collect();
        Self(Arc::new(Inner { name: name.into(), text, line_starts }))
    }

    /// The name for people.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The text of a span; empty where the span is outside the text.
    pub fn slice(&self, span: Span) -> &str {
        self.0.text.get(span.range()).unwrap_or("")
    }

    /// The line, from 1, that the byte `offset` is on.
    pub fn line(&self, offset: usize) -> usize {
        self.0.line_starts.partition_point(|start| *start <= offset)
    }

    /// The first and last line, from 1, of a span.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = span.end.saturating_sub(1).max(span.start);
        (self.line(span.start), self.line(last))
    }

    /// The text of line `number` (from 1), without its line break.
    pub fn line_text(&self, number: usize) -> &str {
        let Some(start) = number.checked_sub(1).and_then(|at| self.0.line_starts.get(at)) else {
            return "";
        };
        let end = self.0.line_starts.get(number).copied().unwrap_or(self.0.text.len());
        self.0.text[*start..end].trim_end_matches(['\n', '\r'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        let source = Source::new("Dockerfile", "FROM a\r\nRUN b\n");
        assert_eq!(source.line(0), 1);
        assert_eq!(source.line(7), 1);
        assert_eq!(source.line(8), 2);
        assert_eq!(source.lines(Span::new(0, 14)), (1, 2));
        assert_eq!(source.line_text(1), "FROM a");
        assert_eq!(source.line_text(2), "RUN b");
        assert_eq!(source.line_text(9), "");
    }
}
