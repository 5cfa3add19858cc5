//! The pest grammar (`grammar/dockerfile.pest`) and the bounds it is run in.

use std::num::NonZeroUsize;
use std::sync::Once;

use pest::Parser as _;
use pest::iterators::{Pair, Pairs};

/// The generated parser and its rules.
// The derive gives its rule enum no doc comments.
#[allow(missing_docs)]
mod generated {
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar/dockerfile.pest"]
    pub(crate) struct Dockerfile;
}

pub(crate) use generated::Rule;

/// How deep `${…}` and JSON values may nest. pest recurses without a limit of its own, so depth
/// is measured before it runs.
pub(crate) const MAX_DEPTH: usize = 40;

/// Far more calls than the longest text that is parsed needs; a guard, not a limit anyone meets.
const MAX_CALLS: usize = 1_000_000_000;

/// The parts of `text` by `rule`, which must match all of it or as far as the rule says; nothing
/// if it does not match.
pub(crate) fn parse(rule: Rule, text: &str) -> Option<Pair<'_, Rule>> {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| pest::set_call_limit(NonZeroUsize::new(MAX_CALLS)));
    generated::Dockerfile::parse(rule, text).ok().and_then(|mut pairs| pairs.next())
}

/// The parts inside a part, without the mark of the end of input.
pub(crate) fn inner(pair: Pair<'_, Rule>) -> impl Iterator<Item = Pair<'_, Rule>> {
    let pairs: Pairs<'_, Rule> = pair.into_inner();
    pairs.filter(|pair| pair.as_rule() != Rule::EOI)
}

/// The byte range of a part.
pub(crate) fn range(pair: &Pair<'_, Rule>) -> std::ops::Range<usize> {
    let span = pair.as_span();
    span.start()..span.end()
}

/// How deep braces nest in a word (`quotes`) or a here-document's body, following the quoting of
/// the grammar's second level.
pub(crate) fn brace_depth(text: &str, quotes: bool) -> usize {
    let bytes = text.as_bytes();
    // The brackets that are open: `{` and, only with quotes, `"`.
    let mut open: Vec<u8> = Vec::new();
    let (mut at, mut depth, mut deepest) = (0, 0usize, 0usize);
    while at < bytes.len() {
        let inside = open.last().copied();
        match bytes[at] {
            b'\\' => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                at += 1;
                open.push(b'{');
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' if inside == Some(b'{') => {
                open.pop();
                depth -= 1;
            }
            b'"' if quotes && inside == Some(b'"') => {
                open.pop();
            }
            b'"' if quotes => open.push(b'"'),
            b'\'' if quotes && inside != Some(b'"') => {
                at += bytes[at + 1..].iter().position(|byte| *byte == b'\'').map_or(bytes.len(), |n| n + 1);
            }
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// How deep arrays and objects nest in what may be JSON.
pub(crate) fn json_depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_measured_as_the_grammar_nests() {
        for (text, depth) in [
            ("", 0),
            ("$a ${b}", 1),
            ("${a}${b}", 1),
            ("${a:-${b:-${c}}}", 3),
            ("${a:-'}'${b}", 2),
            (r"${a:-\}${b}}", 2),
            (r#""${a:-"${b}"}""#, 2),
            (r#"'"'${a}"#, 1),
        ] {
            assert_eq!(brace_depth(text, true), depth, "{text}");
        }
        assert_eq!(brace_depth("it's ${a}", false), 1);
        assert_eq!(json_depth(r#"["[[[", [{}]]"#), 3);
    }

    #[test]
    fn the_deepest_allowed_nesting_fits_a_small_stack() {
        let text = "${a:-\"".repeat(MAX_DEPTH) + &"\"}".repeat(MAX_DEPTH);
        let pairs = std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn(move || parse(Rule::word, &text).is_some())
            .map(|thread| thread.join());
        assert!(pairs.is_ok_and(|joined| joined.is_ok_and(|matched| matched)));
    }
}
