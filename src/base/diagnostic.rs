//! What is wrong with a text and where: collected by the rooms, rendered in one place.
//!
//! A rendered diagnostic names file and line (`Dockerfile:3`), shows the excerpt with the fault
//! underlined, and says what to do where that is known.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::span::{Source, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The build cannot go on.
    Error,
    /// The build goes on.
    Warning,
}

/// One fault in a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// The faulty part.
    pub span: Span,
    /// A word or two under the faulty part.
    pub label: String,
    /// What to do, one sentence each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span,
            label: String::new(),
            help: Vec::new(),
        }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Adds a word or two under the faulty part.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds a sentence that says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds "did you mean" when there is something near.
    pub fn did_you_mean(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(nearest) => self.help(format!("did you mean `{nearest}`?")),
            None => self,
        }
    }

    /// `Dockerfile:3`.
    pub fn place(&self, source: &Source) -> String {
        format!("{}:{}", source.name(), source.line(self.span.start))
    }

    /// The whole message with its excerpt, for a terminal if `colour`; ends without a line break.
    pub fn render(&self, source: &Source, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let end = source.text().ceil_char_boundary(self.span.end);
        let start = source.text().floor_char_boundary(self.span.start.min(end));
        // Only the lines concerned: the renderer reads all that it is given.
        let from = source.text()[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = source.text()[end..].find('\n').map_or(source.text().len(), |at| end + at);
        let excerpt = &source.text()[from..to];
        let mut annotation = AnnotationKind::Primary.span(start - from..end - from);
        if !self.label.is_empty() {
            annotation = annotation.label(self.label.as_str());
        }
        let title = format!("{}: {}", self.place(source), self.message);
        let snippet =
            Snippet::source(excerpt).line_start(source.line(from)).path(source.name()).annotation(annotation);
        let group = level.primary_title(title.as_str()).element(snippet);
        let group =
            self.help.iter().fold(group, |group, help| group.element(Level::HELP.message(help.as_str())));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group]).to_string()
    }
}

/// Diagnostics that stopped something, with the text they speak of.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// The text.
    pub source: Source,
    /// At least one, in the order of the text.
    pub all: Vec<Diagnostic>,
}

impl Diagnostics {
    /// One diagnostic of `source`.
    pub fn one(source: &Source, diagnostic: Diagnostic) -> Self {
        Self { source: source.clone(), all: vec![diagnostic] }
    }

    /// All of them rendered, a blank line between two.
    pub fn render(&self, colour: bool) -> String {
        let texts: Vec<String> =
            self.all.iter().map(|diagnostic| diagnostic.render(&self.source, colour)).collect();
        texts.join("\n\n")
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, diagnostic) in self.all.iter().enumerate() {
            let separator = if at > 0 { "; " } else { "" };
            write!(f, "{separator}{}: {}", diagnostic.place(&self.source), diagnostic.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_line_excerpt_and_help() {
        let source = Source::new("Dockerfile", "FROM scratch\nRNU true\n");
        let diagnostic =
            Diagnostic::error(Span::new(13, 16), "unknown instruction `RNU`").did_you_mean(Some("RUN"));
        insta::assert_snapshot!(diagnostic.render(&source, false), @r"
        error: Dockerfile:2: unknown instruction `RNU`
         --> Dockerfile:2:1
          |
        2 | RNU true
          | ^^^
          |
          = help: did you mean `RUN`?
        ");
    }

    #[test]
    fn a_span_past_the_end_is_no_panic() {
        let source = Source::new("Dockerfile", "");
        let text = Diagnostic::error(Span::new(5, 9), "no instructions").render(&source, false);
        assert!(text.contains("no instructions"), "{text}");
    }
}
