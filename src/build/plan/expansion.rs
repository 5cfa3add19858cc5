//! Words to text, with the variables of a scope in place of their references.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::dockerfile::expand;
use crate::dockerfile::instruction::{Part, Word};

use super::scope::Variables;

/// The text of a word.
pub(super) fn expand(word: &Word, variables: &Variables) -> Result<String, Diagnostic> {
    expand::word(word, &|name| variables.get(name).map(str::to_owned))
}

/// The words that a word becomes: where a variable's value has blanks there are several.
pub(super) fn words(word: &Word, variables: &Variables) -> Result<Vec<String>, Diagnostic> {
    expand::words(word, &|name| variables.get(name).map(str::to_owned))
}

/// The body of a here-document; its quotes stay.
pub(super) fn heredoc(content: &str, span: Span, variables: &Variables) -> Result<String, Diagnostic> {
    expand::heredoc(content, span, &|name| variables.get(name).map(str::to_owned))
}

/// The names of the variables that a word refers to directly.
pub(super) fn variables(word: &Word) -> impl Iterator<Item = &str> {
    word.parts.iter().filter_map(|part| match part {
        Part::Variable(variable) => Some(variable.name.as_str()),
        Part::Literal(_) => None,
    })
}
