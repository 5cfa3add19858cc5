//! Physical lines to logical lines. In: the whole text. Out: the parser directives at its top,
//! then one logical line at a time with the places of its pieces, and the bodies of
//! here-documents on request, since only the grammar knows which line opens one.
//!
//! Follows the Dockerfile reference, "Format", "Parser directives" and "escape". Where it leaves
//! a choice, a line whose last characters are two escape characters does not continue, and a
//! continuation takes blank lines and comments with it.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::{Span, Spanned};

use super::instruction::Directives;
use super::text::Text;

/// A logical line.
#[derive(Debug)]
pub(crate) struct Logical {
    /// The pieces joined, without leading and trailing white space.
    pub text: Text,
    /// The first and last physical lines, from 1.
    pub lines: (usize, usize),
}

/// The body of a here-document.
#[derive(Debug)]
pub(crate) struct Body {
    /// The place of its lines.
    pub content: Span,
    /// The place of the line with the delimiter.
    pub end: Span,
    /// The number of that line.
    pub line: usize,
}

/// A reader of lines.
pub(crate) struct Lines<'s> {
    source: &'s str,
    at: usize,
    number: usize,
    escape: char,
}

/// A physical line: where it starts, and its text without the line break.
struct Physical<'s> {
    start: usize,
    text: &'s str,
}

impl<'s> Lines<'s> {
    /// A reader of the whole text, which may begin with a byte order mark.
    pub(crate) fn new(source: &'s str) -> Self {
        let at = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { source, at, number: 0, escape: '\\' }
    }

    /// Reads the directives at the top and goes by them from here on.
    pub(crate) fn directives(&mut self) -> Result<Directives, Diagnostic> {
        let mut directives = Directives { syntax: None, escape: '\\', check: None };
        let mut escape = None;
        loop {
            let (at, number) = (self.at, self.number);
            let Some(line) = self.physical() else { return Ok(directives) };
            let Some((name, value)) = directive(&line) else {
                (self.at, self.number) = (at, number);
                return Ok(directives);
            };
            let place = name.span.to(value.span);
            let known = match name.value.as_str() {
                "syntax" => directives.syntax.replace(value),
                "check" => directives.check.replace(value),
                _ => {
                    directives.escape = escape_character(&value)?;
                    self.escape = directives.escape;
                    escape.replace(value)
                }
            };
            if known.is_some() {
                let message = format!("the parser directive `{}` is given twice", name.value);
                return Err(Diagnostic::error(place, message).help("remove one of the two lines"));
            }
        }
    }

    /// The next logical line.
    pub(crate) fn logical(&mut self) -> Option<Logical> {
        loop {
            let line = self.physical()?;
            let first = self.number;
            let trimmed = line.text.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let (piece, mut continues) = continued(trimmed, self.escape);
            let mut text = Text::at(line.start + line.text.len() - trimmed.len(), piece);
            while continues && let Some(line) = self.physical() {
                let trimmed = line.text.trim_start();
                if trimmed.is_empty() || trimmed.starts_with('#') {
                    continue;
                }
                let piece;
                (piece, continues) = continued(line.text, self.escape);
                text.push(piece, line.start);
            }
            let start = text.as_str().len() - text.as_str().trim_start().len();
            let text = text.slice(start..text.as_str().len()).trim_end();
            if !text.as_str().is_empty() {
                return Some(Logical { text, lines: (first, self.number) });
            }
        }
    }

    /// The body of a here-document that ends with `delimiter`, before which tabs are dropped if
    /// `chomp`; nothing if its end is missing, in which case all that is left was read.
    pub(crate) fn body(&mut self, delimiter: &str, chomp: bool) -> Option<Body> {
        let start = self.at;
        while let Some(line) = self.physical() {
            let candidate = if chomp { line.text.trim_start_matches('\t') } else { line.text };
            if candidate == delimiter {
                let end = Span::new(line.start, line.start + line.text.len());
                return Some(Body { content: Span::new(start, line.start), end, line: self.number });
            }
        }
        None
    }

    fn physical(&mut self) -> Option<Physical<'s>> {
        let rest = &self.source[self.at..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let line = Physical { start: self.at, text: rest[..length].trim_end_matches(['\n', '\r']) };
        self.at += length;
        self.number += 1;
        Some(line)
    }
}

/// The line without the escape character that ends it, and whether there was one.
fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// `# name=value` with a known name, which comes in lower case.
fn directive(line: &Physical<'_>) -> Option<(Spanned<String>, Spanned<String>)> {
    let spanned = |text: &str| {
        // The text is a part of the line, so the distance of the two is an offset into it.
        let offset = line.start + (text.as_ptr() as usize - line.text.as_ptr() as usize);
        Spanned::new(text.to_owned(), Span::new(offset, offset + text.len()))
    };
    let (name, value) = line.text.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if value.is_empty() {
        return None;
    }
    let name = spanned(name).map(|name| name.to_ascii_lowercase());
    matches!(name.value.as_str(), "syntax" | "escape" | "check").then(|| (name, spanned(value)))
}

fn escape_character(value: &Spanned<String>) -> Result<char, Diagnostic> {
    match value.value.as_str() {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        other => {
            let message = format!("`{other}` cannot be the escape character");
            Err(Diagnostic::error(value.span, message).help(r"write `# escape=\` or a backtick instead"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> Vec<(String, (usize, usize))> {
        let mut lines = Lines::new(text);
        lines.directives().unwrap();
        std::iter::from_fn(|| lines.logical())
            .map(|line| (line.text.as_str().to_owned(), line.lines))
            .collect()
    }

    #[test]
    fn lines_are_joined() {
        type Expected = &'static [(&'static str, usize, usize)];
        let table: &[(&str, Expected)] = &[
            ("", &[]),
            ("\n \n# c\n", &[]),
            ("RUN a", &[("RUN a", 1, 1)]),
            ("\u{feff}FROM a\r\nRUN b\r\n", &[("FROM a", 1, 1), ("RUN b", 2, 2)]),
            ("RUN a \\\n  b\n", &[("RUN a   b", 1, 2)]),
            ("RUN a \\ \t\n  b\n", &[("RUN a   b", 1, 2)]),
            ("RUN a \\\r\n  b\r\n", &[("RUN a   b", 1, 2)]),
            ("RUN a \\\n# c\n\n  # d\nb\nRUN e", &[("RUN a b", 1, 5), ("RUN e", 6, 6)]),
            ("RUN a \\\n\n\n", &[("RUN a", 1, 3)]),
            ("RUN a \\", &[("RUN a", 1, 1)]),
            ("RUN a \\\\\nRUN b", &[("RUN a \\\\", 1, 1), ("RUN b", 2, 2)]),
            ("\\\nRUN a", &[("RUN a", 1, 2)]),
            ("  # c \\\nRUN a", &[("RUN a", 2, 2)]),
            ("# escape=`\nRUN a `\n b\\\n", &[("RUN a  b\\", 2, 3)]),
            ("#escape = \\\n# syntax=x\nRUN a", &[("RUN a", 3, 3)]),
            ("# c\n# escape=`\nRUN a`\n", &[("RUN a`", 3, 3)]),
            ("# unknown=1\n# escape=`\nRUN a`\n", &[("RUN a`", 3, 3)]),
            ("\n# escape=`\nRUN a`\n", &[("RUN a`", 3, 3)]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> =
                expected.iter().map(|(line, first, last)| ((*line).to_owned(), (*first, *last))).collect();
            assert_eq!(joined(text), expected, "{text:?}");
        }
    }

    #[test]
    fn directives_are_read() {
        let mut lines = Lines::new("#  SynTax = a/b:1 \n# check=skip=all;error=true\n# escape=`\n");
        let directives = lines.directives().unwrap();
        assert_eq!(directives.syntax.map(|value| value.value), Some("a/b:1".to_owned()));
        assert_eq!(directives.check.map(|value| value.value), Some("skip=all;error=true".to_owned()));
        assert_eq!(directives.escape, '`');
        for text in ["# escape=x\n", "# syntax=a\n# Syntax=b\n", "# escape=\\\\\n"] {
            assert!(Lines::new(text).directives().is_err(), "{text}");
        }
    }

    #[test]
    fn bodies_end_at_their_delimiter() {
        let text = "a\n\tEOF\nEOF\nb";
        let body = Lines::new(text).body("EOF", false).unwrap();
        assert_eq!((&text[body.content.range()], body.line), ("a\n\tEOF\n", 3));
        let body = Lines::new(text).body("EOF", true).unwrap();
        assert_eq!((&text[body.content.range()], body.line), ("a\n", 2));
        assert!(Lines::new(text).body("END", false).is_none());
    }
}
