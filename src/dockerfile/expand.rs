//! Variable references to their values (reference, "Environment replacement").
//!
//! As in Docker's own builder the word of a modifier is expanded whether or not it is used, so
//! that an error in it is always one.

use regex::{NoExpand, Regex};

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;

use super::instruction::{Modifier, Part, Variable, Word};
use super::word::body;

/// The values of variables by name; `None` for one that is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The longest text an expansion may come to, in bytes. A chain of variables that double each
/// other would have no end otherwise.
pub const MAX_LENGTH: usize = 8 << 20;

/// What a word came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The variables that were looked up and are set, in the order of their first use.
    pub used: Vec<String>,
    /// Those that are not set.
    pub undefined: Vec<String>,
}

/// The text of a word. A variable that is not set stands for nothing.
pub fn word(word: &Word, lookup: Lookup<'_>) -> Result<String, Diagnostic> {
    expand(word, lookup).map(|expanded| expanded.text)
}

/// The text of a word with the names of the variables looked up for it.
pub fn expand(word: &Word, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
    let mut expansion = Expansion { lookup, result: Expanded::default() };
    let text = expansion.word(word)?;
    Ok(Expanded { text, ..expansion.result })
}

/// The words that a word becomes: the values of variables outside double quotes are split at
/// white space. A word that comes to nothing becomes none.
pub fn words(word: &Word, lookup: Lookup<'_>) -> Result<Vec<String>, Diagnostic> {
    let mut expansion = Expansion { lookup, result: Expanded::default() };
    let mut words = Vec::new();
    let mut current = String::new();
    for part in &word.parts {
        match part {
            Part::Literal(text) => current.push_str(text),
            Part::Variable(variable) if variable.quoted => current.push_str(&expansion.variable(variable)?),
            Part::Variable(variable) => {
                for character in expansion.variable(variable)?.chars() {
                    if !character.is_whitespace() {
                        current.push(character);
                    } else if !current.is_empty() {
                        words.push(std::mem::take(&mut current));
                    }
                }
            }
        }
    }
    if !current.is_empty() {
        words.push(current);
    }
    Ok(words)
}

/// The content of a here-document of COPY or ADD, which stands at `span`. Quotes stand for
/// themselves; a backslash makes the character behind it stand for itself.
pub fn heredoc(content: &str, span: Span, lookup: Lookup<'_>) -> Result<String, Diagnostic> {
    word(&body(content, span.start)?, lookup)
}

struct Expansion<'a> {
    lookup: Lookup<'a>,
    result: Expanded,
}

impl Expansion<'_> {
    fn word(&mut self, word: &Word) -> Result<String, Diagnostic> {
        let mut text = String::new();
        for part in &word.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(variable) => text.push_str(&self.variable(variable)?),
            }
            if text.len() > MAX_LENGTH {
                let size = MAX_LENGTH >> 20;
                return Err(Diagnostic::error(word.span, format!("this comes to more than {size} MiB")));
            }
        }
        Ok(text)
    }

    fn variable(&mut self, variable: &Variable) -> Result<String, Diagnostic> {
        let Some(modifier) = &variable.modifier else {
            return Ok(self.look_up(&variable.name).unwrap_or_default());
        };
        let missing = |value: &Option<String>, colon: bool| match value {
            None => true,
            Some(value) => colon && value.is_empty(),
        };
        match modifier {
            Modifier::Default { colon, word } => {
                let word = self.word(word)?;
                let value = self.look_up(&variable.name);
                Ok(if missing(&value, *colon) { word } else { value.unwrap_or_default() })
            }
            Modifier::Alternative { colon, word } => {
                let word = self.word(word)?;
                let value = self.look_up(&variable.name);
                Ok(if missing(&value, *colon) { String::new() } else { word })
            }
            Modifier::Required { colon, word } => {
                let message = self.word(word)?;
                let value = self.look_up(&variable.name);
                if missing(&value, *colon) {
                    Err(required(variable, &value, &message))
                } else {
                    Ok(value.unwrap_or_default())
                }
            }
            Modifier::RemovePrefix { longest, pattern } => {
                let (glob, value) = self.pattern(variable, pattern)?;
                let end = glob.prefix(&value, *longest, pattern.span)?;
                Ok(value[end..].to_owned())
            }
            Modifier::RemoveSuffix { longest, pattern } => {
                let (mut glob, value) = self.pattern(variable, pattern)?;
                glob.0.reverse();
                let reversed: String = value.chars().rev().collect();
                let end = glob.prefix(&reversed, *longest, pattern.span)?;
                Ok(value[..value.len() - end].to_owned())
            }
            Modifier::Replace { all, pattern, replacement } => {
                let span = pattern.span;
                let (glob, value) = self.pattern(variable, pattern)?;
                let replacement = self.word(replacement)?;
                let regex = glob.regex("", true, span)?;
                let replaced = regex.replacen(&value, usize::from(!*all), NoExpand(&replacement));
                Ok(replaced.into_owned())
            }
        }
    }

    /// The pattern of a modifier and the value it is matched against.
    fn pattern(&mut self, variable: &Variable, pattern: &Word) -> Result<(Glob, String), Diagnostic> {
        let text = self.word(pattern)?;
        let value = self.look_up(&variable.name).unwrap_or_default();
        let glob = Glob::new(&text).map_err(|message| Diagnostic::error(pattern.span, message))?;
        Ok((glob, value))
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let names = if value.is_some() { &mut self.result.used } else { &mut self.result.undefined };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        value
    }
}

fn required(variable: &Variable, value: &Option<String>, message: &str) -> Diagnostic {
    let name = &variable.name;
    let text = match (message, value) {
        ("", None) => format!("the variable `{name}` must be set"),
        ("", Some(_)) => format!("the variable `{name}` must not be empty"),
        (message, _) => format!("{name}: {message}"),
    };
    Diagnostic::error(variable.span, text).help(format!("set it with `--build-arg {name}=…`, ARG or ENV"))
}

/// A pattern of a modifier: characters, `?` and `*`.
struct Glob(Vec<Token>);

#[derive(Clone, Copy)]
enum Token {
    Character(char),
    Any,
    Star,
}

impl Glob {
    fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Character(escaped),
                    Some(other) => return Err(format!("`\\{other}` means nothing in a pattern")),
                    None => return Err("the pattern ends with a backslash".to_owned()),
                },
                other => Token::Character(other),
            });
        }
        Ok(Self(tokens))
    }

    /// How many bytes at the start of `value` match, none if they do not.
    fn prefix(&self, value: &str, longest: bool, span: Span) -> Result<usize, Diagnostic> {
        let literal = self.0.iter().map(|token| match token {
            Token::Character(character) => Some(*character),
            _ => None,
        });
        if let Some(text) = literal.collect::<Option<String>>() {
            return Ok(if value.starts_with(&text) { text.len() } else { 0 });
        }
        Ok(self.regex("^", longest, span)?.find(value).map_or(0, |found| found.end()))
    }

    fn regex(&self, anchor: &str, longest: bool, span: Span) -> Result<Regex, Diagnostic> {
        let mut text = format!("(?s){anchor}");
        for token in &self.0 {
            match token {
                Token::Star if longest => text.push_str(".*"),
                Token::Star => text.push_str(".*?"),
                Token::Any => text.push('.'),
                Token::Character(character) => {
                    text.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])))
                }
            }
        }
        Regex::new(&text).map_err(|_| Diagnostic::error(span, "this pattern is too long"))
    }
}
