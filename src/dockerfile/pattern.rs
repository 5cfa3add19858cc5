//! Path patterns: Go's `filepath.Match`, as COPY and ADD use it for their sources, and its
//! extension by `**` for ignore files, `--exclude` and `--parents`. In: a pattern. Out: whether a
//! path matches, or may match below a directory. Paths are relative, with single slashes; bytes
//! that are no UTF-8 count as U+FFFD on both sides.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::OnceLock;

use regex::Regex;

/// Longer patterns are refused.
const MAX_LENGTH: usize = 4096;

/// Patterns of up to this length always compile within the regex engine's bounds.
const SURE_LENGTH: usize = 128;

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `[` without its `]`.
    #[error("the bracket of a character class is not closed")]
    Unclosed,
    /// `[]`, `[a-]`, `[-a]`
    #[error("a character class is malformed: write `[abc]`, `[a-z]`, `[^a]`, and `\\` before `]` and `-`")]
    Class,
    /// `[z-a]`
    #[error("a range of a character class runs backwards")]
    Range,
    /// A backslash at the end.
    #[error("the pattern ends with a backslash")]
    Escape,
    /// More than 4096 bytes, or too many character classes.
    #[error("the pattern is too long")]
    Length,
    /// `!` with nothing behind it.
    #[error("nothing follows `!`")]
    Empty,
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Glob {
    text: String,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// The path itself.
    Exact(String),
    /// Everything that begins so (`a/**`).
    Prefix(String),
    /// Everything that ends so; what begins with a slash also matches without it (`**/a`).
    Suffix(String),
    /// Anything else.
    Wild(Box<Wild>),
}

#[derive(Debug)]
struct Wild {
    source: String,
    regex: OnceLock<Option<Regex>>,
    /// What every match begins and ends with.
    prefix: String,
    suffix: String,
    /// How many slashes every match has, where that is fixed.
    slashes: Option<usize>,
}

#[derive(Debug, PartialEq)]
enum Token {
    Character(char),
    Any,
    Star,
    /// `**/` or `**`: any number of components.
    Directories,
    /// `**` at the end: anything.
    Rest,
    /// A character class, as a regular expression.
    Class(String),
}

impl Glob {
    /// A pattern of `filepath.Match`: `*` and `?` match within a component, `[…]` one character.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, false)
    }

    /// The same with `**` for any number of components.
    pub fn recursive(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, true)
    }

    /// Whether `text` has anything in it that a pattern gives a meaning to.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every path that matches begins with.
    pub fn literal_prefix(&self) -> &str {
        match &self.shape {
            Shape::Exact(text) | Shape::Prefix(text) => text,
            Shape::Suffix(_) => "",
            Shape::Wild(wild) => &wild.prefix,
        }
    }

    /// The only path that matches, if there is only one.
    pub fn literal(&self) -> Option<&str> {
        match &self.shape {
            Shape::Exact(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        self.matches_text(&path, path.bytes().filter(|byte| *byte == b'/').count())
    }

    /// The same for text with a known number of slashes.
    pub(crate) fn matches_text(&self, path: &str, slashes: usize) -> bool {
        match &self.shape {
            Shape::Exact(text) => path == text,
            Shape::Prefix(text) => path.starts_with(text.as_str()),
            Shape::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/').is_some_and(|text| path == text)
            }
            Shape::Wild(wild) => wild.matches(path, slashes),
        }
    }

    /// Whether some path below the directory `path` may match; yes if in doubt. `slashes` is the
    /// number of slashes in `path`.
    pub(crate) fn may_match_below(&self, path: &str, slashes: usize) -> bool {
        let leads_below =
            |text: &str| text.as_bytes().get(path.len()) == Some(&b'/') && text.starts_with(path);
        let meets =
            |text: &str| leads_below(text) || path.starts_with(text) || text.strip_suffix('/') == Some(path);
        match &self.shape {
            Shape::Exact(text) => leads_below(text),
            Shape::Prefix(text) => meets(text),
            Shape::Suffix(_) => true,
            Shape::Wild(wild) => wild.slashes.is_none_or(|count| count > slashes) && meets(&wild.prefix),
        }
    }

    fn compile(pattern: &str, recursive: bool) -> Result<Self, PatternError> {
        if pattern.len() > MAX_LENGTH {
            return Err(PatternError::Length);
        }
        let tokens = tokens(pattern, recursive)?;
        let shape = shape(pattern, &tokens);
        let glob = Self { text: pattern.to_owned(), shape };
        match &glob.shape {
            Shape::Wild(wild) if pattern.len() > SURE_LENGTH && wild.regex().is_none() => {
                Err(PatternError::Length)
            }
            _ => Ok(glob),
        }
    }
}

impl Wild {
    fn matches(&self, path: &str, slashes: usize) -> bool {
        self.slashes.is_none_or(|count| count == slashes)
            && path.ends_with(&self.suffix)
            && path.starts_with(&self.prefix)
            && self.regex().is_some_and(|regex| regex.is_match(path))
    }

    /// Compiled when first needed: most patterns of most ignore files are never in doubt.
    fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| Regex::new(&self.source).ok()).as_ref()
    }
}

fn tokens(pattern: &str, recursive: bool) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' if recursive && rest.next_if_eq(&'*').is_some() => {
                let _ = rest.next_if_eq(&'/');
                if rest.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Star,
            '?' => Token::Any,
            '[' => Token::Class(class(&mut rest)?),
            '\\' => Token::Character(rest.next().ok_or(PatternError::Escape)?),
            other => Token::Character(other),
        });
    }
    Ok(tokens)
}

/// A character class behind its `[`, as a regular expression.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, PatternError> {
    let mut class = String::from("[");
    if rest.next_if_eq(&'^').is_some() {
        class.push('^');
    }
    let mut empty = true;
    while empty || rest.next_if_eq(&']').is_none() {
        let low = class_character(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_character(rest)? } else { low };
        if low > high {
            return Err(PatternError::Range);
        }
        // Writing to a string cannot fail.
        let _ = write!(class, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high));
        empty = false;
    }
    class.push(']');
    Ok(class)
}

fn class_character(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, PatternError> {
    match rest.next() {
        None => Err(PatternError::Unclosed),
        Some('-' | ']') => Err(PatternError::Class),
        Some('\\') => rest.next().ok_or(PatternError::Unclosed),
        Some(other) => Ok(other),
    }
}

fn shape(pattern: &str, tokens: &[Token]) -> Shape {
    let prefix: String = tokens.iter().map_while(literal).collect();
    let suffix: Vec<char> = tokens.iter().rev().map_while(literal).collect();
    let suffix: String = suffix.into_iter().rev().collect();
    let (first, last) = (prefix.chars().count(), suffix.chars().count());
    match tokens {
        _ if first == tokens.len() => Shape::Exact(prefix),
        // Behind `**` the text counts as written: `**a` is anything that ends with `a`, and
        // `**/a` anything whose last component is.
        [Token::Directories, ..] if last + 1 == tokens.len() && !pattern.contains('\\') => {
            Shape::Suffix(pattern[2..].to_owned())
        }
        [Token::Rest] => Shape::Prefix(String::new()),
        [.., Token::Rest] if first + 1 == tokens.len() => Shape::Prefix(prefix),
        _ => Shape::Wild(Box::new(wild(tokens, prefix, suffix))),
    }
}

fn literal(token: &Token) -> Option<char> {
    match token {
        Token::Character(character) => Some(*character),
        _ => None,
    }
}

fn wild(tokens: &[Token], prefix: String, suffix: String) -> Wild {
    let mut source = String::from("(?s)^");
    let mut slashes = Some(0);
    for token in tokens {
        match token {
            Token::Character(character) => {
                source.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])))
            }
            Token::Any => source.push_str("[^/]"),
            Token::Star => source.push_str("[^/]*"),
            Token::Directories => source.push_str("(?:.*/)?"),
            Token::Rest => source.push_str(".*"),
            Token::Class(class) => source.push_str(class),
        }
        slashes = match token {
            Token::Character('/') => slashes.map(|count| count + 1),
            // A class may match a slash.
            Token::Directories | Token::Rest | Token::Class(_) => None,
            _ => slashes,
        };
    }
    source.push('$');
    Wild { source, regex: OnceLock::new(), prefix, suffix, slashes }
}

/// The path without empty and `.` components and with `..` taken back, as Go's `filepath.Clean`
/// has it; `.` for nothing.
pub(crate) fn clean(path: &str) -> Cow<'_, str> {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => Cow::Owned(format!("/{joined}")),
        (false, true) => Cow::Borrowed("."),
        (false, false) if joined == path => Cow::Borrowed(path),
        (false, false) => Cow::Owned(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filepath_match() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            (r"[\]a]", "]", true),
            (r"[\-]", "-", true),
            (r"[x\-]", "-", true),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("*x", "xxx", true),
            ("**", "ab", true),
            ("**", "a/b", false),
            ("a.c", "abc", false),
            ("a]", "a]", true),
            ("{a}+", "{a}+", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(Glob::new("a?b").unwrap().matches(b"a\xffb"));
        assert!(Glob::new("a\u{fffd}*").unwrap().matches(b"a\xffb"));
    }

    #[test]
    fn recursive_patterns() {
        for (pattern, path, expected) in [
            ("**", "a/b/c", true),
            ("**/a", "a", true),
            ("**/a", "b/c/a", true),
            ("**/a", "ba", false),
            ("**a", "b/ca", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**", "ab", false),
            ("a**", "ab/c", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/c/d/b", true),
            ("a/**/b", "a/cb", false),
            ("**/*.go", "x.go", true),
            ("**/*.go", "a/b/x.go", true),
            ("**/*.go", "a/b/x.gox", false),
            ("**/a/**", "x/a/y", true),
            ("**/a/**", "a/y", true),
            ("**/a/**", "x/a", false),
            ("**/*", "a/b", true),
            ("*/b", "a/b", true),
            ("*/b", "a/a/b", false),
        ] {
            assert_eq!(
                Glob::recursive(pattern).unwrap().matches(path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        use PatternError::{Class, Escape, Length, Range, Unclosed};
        let long = "[^a]".repeat(1024);
        for (pattern, expected) in [
            ("[", Unclosed),
            ("[^", Unclosed),
            ("[a", Unclosed),
            ("[a-", Unclosed),
            ("[]", Class),
            ("[]a]", Class),
            ("[-]", Class),
            ("[x-]", Class),
            ("[a-b-c]", Class),
            ("[-x]", Class),
            ("[z-a]", Range),
            ("a\\", Escape),
            (&"a".repeat(5000), Length),
        ] {
            assert_eq!(Glob::new(pattern).err(), Some(expected), "{pattern}");
        }
        // Either it compiles or it says that it is too long; it may not fail later.
        assert!(matches!(Glob::new(&long), Ok(_) | Err(Length)));
    }

    #[test]
    fn below_a_directory() {
        for (pattern, directory, expected) in [
            ("a/b", "a", true),
            ("a/b", "a/b", false),
            ("a/b", "b", false),
            ("ab/c", "a", false),
            ("**/x", "a/b", true),
            ("a/**", "a", true),
            ("a/**", "a/b", true),
            ("a/**", "b", false),
            ("a/**", "ab", false),
            ("*.md", "a", false),
            ("*/x", "a", true),
            ("*/x", "a/b", false),
            ("src/*.rs", "src", true),
            ("src/*.rs", "lib", false),
            ("src/**/*.rs", "src/a/b", true),
            ("a/b*/c", "a", true),
            ("a/b*/c", "a/bx", true),
            ("a/b*/c", "x", false),
        ] {
            let slashes = directory.matches('/').count();
            let glob = Glob::recursive(pattern).unwrap();
            assert_eq!(glob.may_match_below(directory, slashes), expected, "{pattern} {directory}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("a/b", "a/b"),
            ("a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("/", "/"),
            ("//a", "/a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
