//! Words to their parts: the grammar's second level. In: a word as written. Out: a [`Word`] with
//! quotes removed, escapes resolved and variable references taken apart, or what is malformed.

use pest::iterators::Pair;

use crate::base::diagnostic::Diagnostic;

use super::grammar::{self, MAX_DEPTH, Rule, inner, range};
use super::instruction::{Modifier, Part, Variable, Word};
use super::text::Text;

/// The longest text that is taken apart, in bytes: the body of a here-document, at most.
const MAX_LENGTH: usize = 2 << 20;

/// Takes a word apart. The first fault in it is the error.
pub(crate) fn word(text: &Text, escape: char) -> Result<Word, Diagnostic> {
    take_apart(Rule::word, text, escape)
}

/// Takes a text that is no part of a Dockerfile apart as a word (a value from a command line, a
/// trigger's flag). Spans are offsets into it.
pub fn parse_word(text: &str, escape: char) -> Result<Word, Diagnostic> {
    word(&Text::at(0, text), escape)
}

/// Takes the body of a here-document apart, in which quotes stand for themselves and the escape
/// character is always a backslash. `start` is its place in `source`.
pub(crate) fn body(text: &str, start: usize) -> Result<Word, Diagnostic> {
    take_apart(Rule::body, &Text::at(start, text), '\\')
}

/// The text of a word without variables; nothing if it has some.
pub(crate) fn literal(word: &Word) -> Option<String> {
    let texts = word.parts.iter().map(|part| match part {
        Part::Literal(text) => Some(text.as_str()),
        Part::Variable(_) => None,
    });
    texts.collect()
}

/// A word that stands for exactly `text`.
pub(crate) fn verbatim(text: &Text) -> Word {
    let parts = match text.as_str() {
        "" => Vec::new(),
        some => vec![Part::Literal(some.to_owned())],
    };
    Word { span: text.whole(), raw: text.as_str().to_owned(), parts }
}

fn take_apart(rule: Rule, text: &Text, escape: char) -> Result<Word, Diagnostic> {
    let plain = if rule == Rule::word { ['$', '\'', '"', escape] } else { ['$', escape, '$', '$'] };
    if !text.as_str().contains(plain) {
        return Ok(verbatim(text));
    }
    if text.as_str().len() > MAX_LENGTH {
        let message = format!("a text with variables cannot be longer than {} MiB", MAX_LENGTH >> 20);
        return Err(Diagnostic::error(text.span(0..0), message));
    }
    if grammar::brace_depth(&text.escaped_by(escape), rule == Rule::word) > MAX_DEPTH {
        let message = format!("variable references nest deeper than {MAX_DEPTH}");
        return Err(Diagnostic::error(text.whole(), message));
    }
    let escaped = text.escaped_by(escape);
    let context = Context { text, fault: None };
    context.run(rule, &escaped)
}

struct Context<'t> {
    text: &'t Text,
    fault: Option<Diagnostic>,
}

/// How literal text is kept.
#[derive(Clone, Copy)]
struct Mode {
    /// Escape characters stay: in patterns and replacements they are not the word's own.
    raw: bool,
    /// Inside double quotes.
    quoted: bool,
}

impl Context<'_> {
    fn run(mut self, rule: Rule, escaped: &str) -> Result<Word, Diagnostic> {
        let Some(pair) = grammar::parse(rule, escaped) else {
            return Err(Diagnostic::error(self.text.whole(), "this word is too long to be taken apart"));
        };
        let word = self.word(pair, Mode { raw: false, quoted: false });
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(word),
        }
    }

    fn word(&mut self, pair: Pair<'_, Rule>, mode: Mode) -> Word {
        let range = range(&pair);
        let mut parts = Vec::new();
        for part in inner(pair) {
            self.part(part, mode, &mut parts);
        }
        Word { span: self.text.span(range.clone()), raw: self.text.as_str()[range].to_owned(), parts }
    }

    fn part(&mut self, pair: Pair<'_, Rule>, mode: Mode, parts: &mut Vec<Part>) {
        let place = range(&pair);
        match pair.as_rule() {
            Rule::variable | Rule::body_variable => {
                if let Some(variable) = self.variable(pair, mode) {
                    parts.push(Part::Variable(variable));
                }
            }
            Rule::single => {
                for part in inner(pair) {
                    match part.as_rule() {
                        Rule::unclosed => self.unclosed(place.start, "the single quote is not closed"),
                        _ => self.literal(range(&part), parts),
                    }
                }
            }
            Rule::double => {
                let mode = Mode { quoted: true, ..mode };
                for part in inner(pair) {
                    match part.as_rule() {
                        Rule::unclosed => self.unclosed(place.start, "the double quote is not closed"),
                        _ => self.part(part, mode, parts),
                    }
                }
            }
            Rule::escape | Rule::double_escape | Rule::double_end => {
                let start = if mode.raw { place.start } else { place.start + 1 };
                self.literal(start..place.end, parts);
            }
            _ => self.literal(place, parts),
        }
    }

    fn literal(&mut self, range: std::ops::Range<usize>, parts: &mut Vec<Part>) {
        let text = &self.text.as_str()[range];
        match parts.last_mut() {
            Some(Part::Literal(before)) => before.push_str(text),
            _ if text.is_empty() => {}
            _ => parts.push(Part::Literal(text.to_owned())),
        }
    }

    /// Nothing if the reference is malformed, which is a fault.
    fn variable(&mut self, pair: Pair<'_, Rule>, mode: Mode) -> Option<Variable> {
        let whole = range(&pair);
        let span = self.text.span(whole.clone());
        let mut variable = Variable { span, name: String::new(), modifier: None, quoted: mode.quoted };
        let form = inner(pair).next()?;
        if form.as_rule() == Rule::variable_name {
            variable.name = form.as_str().to_owned();
            return Some(variable);
        }
        for part in inner(form) {
            let place = range(&part);
            match part.as_rule() {
                Rule::variable_name => variable.name = part.as_str().to_owned(),
                Rule::modifier | Rule::body_modifier => variable.modifier = self.modifier(part),
                Rule::replace | Rule::body_replace => variable.modifier = self.replace(part, whole.start),
                Rule::bad_modifier => self.bad_modifier(&variable.name, place),
                Rule::bad_name => {
                    let next = self.text.as_str()[place.clone()].chars().next().map_or(0, char::len_utf8);
                    let span = self.text.span(whole.start..place.start + next);
                    let fault = Diagnostic::error(span, "no variable name follows `${`");
                    self.fault(fault.help(r"write `\$` for a dollar sign that stands for itself"));
                }
                Rule::unclosed => self.unclosed(whole.start, "the brace of this variable is not closed"),
                _ => {}
            }
        }
        Some(variable)
    }

    fn modifier(&mut self, pair: Pair<'_, Rule>) -> Option<Modifier> {
        let mut parts = inner(pair);
        let operator = parts.next()?.as_str();
        let (colon, operator) = match operator.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, operator),
        };
        let raw = operator.starts_with(['#', '%']);
        let word = self.word(parts.next()?, Mode { raw, quoted: false });
        Some(match operator {
            "-" => Modifier::Default { colon, word },
            "+" => Modifier::Alternative { colon, word },
            "?" => Modifier::Required { colon, word },
            "#" | "##" => Modifier::RemovePrefix { longest: operator.len() == 2, pattern: word },
            _ => Modifier::RemoveSuffix { longest: operator.len() == 2, pattern: word },
        })
    }

    fn replace(&mut self, pair: Pair<'_, Rule>, start: usize) -> Option<Modifier> {
        let mut all = false;
        let mut words = Vec::new();
        for part in inner(pair) {
            match part.as_rule() {
                Rule::replace_operator => all = part.as_str().len() == 2,
                Rule::unclosed => {
                    self.unclosed(start, "the pattern is not followed by `/` and its replacement")
                }
                _ => words.push(self.word(part, Mode { raw: true, quoted: false })),
            }
        }
        let replacement = words.pop()?;
        Some(Modifier::Replace { all, pattern: words.pop()?, replacement })
    }

    fn bad_modifier(&mut self, name: &str, place: std::ops::Range<usize>) {
        let text = &self.text.as_str()[place.clone()];
        let length: usize =
            text.chars().take(if text.starts_with(':') { 2 } else { 1 }).map(char::len_utf8).sum();
        let place = place.start..place.start + length;
        let modifier = &self.text.as_str()[place.clone()];
        let message = format!("`{modifier}` cannot follow a variable's name");
        let fault = Diagnostic::error(self.text.span(place), message);
        let modifiers = "`:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/` and `//` can";
        self.fault(fault.help(format!("{modifiers}; to name `{name}` alone write `${{{name}}}`")));
    }

    fn unclosed(&mut self, start: usize, message: &str) {
        let span = self.text.span(start..self.text.as_str().len());
        self.fault(Diagnostic::error(span, message));
    }

    /// Keeps the first fault: those behind it are mostly its doing.
    fn fault(&mut self, fault: Diagnostic) {
        self.fault.get_or_insert(fault);
    }
}
