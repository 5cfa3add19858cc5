//! The form of a Dockerfile: its instructions with their flags, arguments and here-documents,
//! as written. It knows which form each instruction takes and nothing of what it means; what is
//! wrong in form (a JSON array of anything but strings, a variable without a value, a
//! here-document without its end, no instruction at all) is wrong here.

use pest::iterators::Pair;

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::span::{Source, Span};

use super::grammar::{self, MAX_DEPTH, Rule, inner, range};
use super::instruction::{Directives, Heredoc};
use super::lines::{Lines, Logical};
use super::text::Text;

/// A Dockerfile's form.
#[derive(Debug)]
pub struct File {
    /// The text it was read from.
    pub source: Source,
    /// The parser directives at its top.
    pub directives: Directives,
    /// The instructions in their order, at least one.
    pub instructions: Vec<Form>,
}

/// An instruction's form.
#[derive(Debug, Clone)]
pub struct Form {
    /// The logical line; of an instruction behind ONBUILD, what follows ONBUILD.
    pub(crate) text: Text,
    /// The name as written.
    pub(crate) name: Text,
    /// The flags.
    pub(crate) flags: Vec<FlagForm>,
    /// The arguments.
    pub(crate) args: Args,
    /// The here-documents, those of the instruction behind ONBUILD included.
    pub(crate) heredocs: Vec<Heredoc>,
    /// The first and last physical lines, from 1, bodies of here-documents included.
    pub(crate) lines: (usize, usize),
    /// The whole instruction, bodies of here-documents included.
    pub(crate) span: Span,
    /// Whether its form is wrong.
    pub(crate) faulty: bool,
}

/// `--name=value`.
#[derive(Debug, Clone)]
pub(crate) struct FlagForm {
    /// The flag as written.
    pub raw: Text,
    /// `name`
    pub name: Text,
    /// The value without quotes.
    pub value: Option<Text>,
}

/// The arguments of an instruction.
#[derive(Debug, Clone)]
pub(crate) enum Args {
    /// A JSON array of strings, decoded.
    Json(Vec<Text>),
    /// Words as written.
    Words(Vec<WordForm>),
    /// The rest of the line.
    Line(Option<Text>),
    /// `key=value`, or the old `key value`.
    Pairs(Vec<PairForm>),
    /// `name` or `name=value`.
    Declarations(Vec<DeclarationForm>),
    /// HEALTHCHECK: the first word and what follows.
    Health(Option<(Text, Box<Args>)>),
    /// The instruction behind ONBUILD.
    Trigger(Option<Box<Form>>),
}

/// A word; `opener` is the number of the here-document it opens.
#[derive(Debug, Clone)]
pub(crate) struct WordForm {
    pub text: Text,
    pub opener: Option<usize>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct PairForm {
    pub key: Text,
    pub value: Text,
}

/// An argument declared.
#[derive(Debug, Clone)]
pub(crate) struct DeclarationForm {
    pub raw: Text,
    pub name: Text,
    pub default: Option<Text>,
}

/// A here-document's opener.
struct Opener {
    raw: Text,
    name: String,
    expand: bool,
    chomp: bool,
}

/// Reads the form of the Dockerfile `text`, which errors call `name`. All faults of the file are
/// in the error, in their order.
pub fn parse_form(name: &str, text: &[u8]) -> Result<File, Diagnostics> {
    let (file, faults) = read(name, text)?;
    if faults.is_empty() { Ok(file) } else { Err(diagnostics(file.source, faults)) }
}

/// The faults of a file in their order, cut to what anyone would read.
pub(crate) fn diagnostics(source: Source, mut faults: Vec<Diagnostic>) -> Diagnostics {
    const LONGEST: usize = 400;
    faults.sort_by_key(|fault| fault.span.start);
    faults.truncate(super::MAX_FAULTS);
    for fault in &mut faults {
        for text in std::iter::once(&mut fault.message).chain(&mut fault.help) {
            if text.len() > LONGEST {
                text.truncate(text.floor_char_boundary(LONGEST));
                text.push('…');
            }
        }
        let end = source.text().floor_char_boundary(fault.span.start + LONGEST);
        fault.span.end = fault.span.end.min(end.max(fault.span.start));
    }
    Diagnostics { source, all: faults }
}

/// What is wrong with a line that is too long, or one too many.
fn excess(line: &Logical, before: usize) -> Option<Diagnostic> {
    let span = line.text.span(0..line.text.as_str().find(' ').unwrap_or(0));
    if line.text.as_str().len() > super::MAX_INSTRUCTION {
        let message = format!("this instruction is longer than {} KiB", super::MAX_INSTRUCTION >> 10);
        return Some(
            Diagnostic::error(span, message).help("put the text into a file, or into a here-document"),
        );
    }
    let message = format!("the file has more than {} instructions", super::MAX_INSTRUCTIONS);
    (before == super::MAX_INSTRUCTIONS).then(|| Diagnostic::error(span, message))
}

/// The form of the Dockerfile with its faults, if it can be read at all.
pub(crate) fn read(name: &str, text: &[u8]) -> Result<(File, Vec<Diagnostic>), Diagnostics> {
    let source = decode(name, text)?;
    let mut lines = Lines::new(source.text());
    let directives = lines.directives().map_err(|fault| Diagnostics::one(&source, fault))?;
    let mut reader = Reader { source: &source, escape: directives.escape, faults: Vec::new() };
    let mut instructions = Vec::new();
    while let Some(line) = lines.logical() {
        if let Some(fault) = excess(&line, instructions.len()) {
            reader.faults.push(fault);
            break;
        }
        instructions.push(reader.instruction(line, &mut lines));
        if reader.faults.len() >= super::MAX_FAULTS {
            break;
        }
    }
    if instructions.is_empty() && reader.faults.is_empty() {
        let end = source.text().len();
        let fault = Diagnostic::error(Span::new(end, end), "the file has no instructions");
        return Err(Diagnostics::one(&source, fault.help("a Dockerfile begins with `FROM image`")));
    }
    let faults = reader.faults;
    Ok((File { source, directives, instructions }, faults))
}

/// The text as a source, if it is text.
fn decode(name: &str, text: &[u8]) -> Result<Source, Diagnostics> {
    if text.len() > super::MAX_SIZE {
        let message = format!("the file is larger than {} MiB", super::MAX_SIZE >> 20);
        return Err(Diagnostics::one(&Source::new(name, ""), Diagnostic::error(Span::new(0, 0), message)));
    }
    let (at, message) = match std::str::from_utf8(text) {
        Err(error) => (error.valid_up_to(), "this is not UTF-8 text"),
        Ok(text) => match text.find('\0') {
            Some(at) => (at, "the text contains a NUL byte"),
            None => return Ok(Source::new(name, text)),
        },
    };
    let source = Source::new(name, String::from_utf8_lossy(text));
    // Lossy decoding keeps what precedes the fault, so the offset holds in it.
    let length = source.text()[at..].chars().next().map_or(0, char::len_utf8);
    Err(Diagnostics::one(&source, Diagnostic::error(Span::new(at, at + length), message)))
}

struct Reader<'s> {
    source: &'s Source,
    escape: char,
    faults: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn instruction(&mut self, line: Logical, lines: &mut Lines<'_>) -> Form {
        let span = line.text.whole();
        let mut openers = Vec::new();
        let before = self.faults.len();
        let mut form = self.form(line.text, line.lines, false, &mut openers);
        form.span = span;
        for opener in openers {
            let Some(body) = lines.body(&opener.name, opener.chomp) else {
                let message = format!("the here-document `{}` has no end", opener.name);
                let fault = Diagnostic::error(opener.raw.whole(), message);
                self.faults.push(fault.help(format!("end it with a line that is only `{}`", opener.name)));
                break;
            };
            form.lines.1 = body.line;
            form.span = form.span.to(body.end);
            form.heredocs.push(Heredoc {
                name: opener.name,
                opener: opener.raw.as_str().to_owned(),
                content: self.source.slice(body.content).to_owned(),
                expand: opener.expand,
                chomp: opener.chomp,
                span: body.content,
            });
        }
        form.faulty = self.faults.len() > before;
        if let Args::Trigger(Some(child)) = &mut form.args {
            child.heredocs = form.heredocs.clone();
            child.lines = form.lines;
            child.span = child.span.to(form.span);
        }
        form
    }

    /// The form of one line. `nested`: behind ONBUILD, where another ONBUILD is taken as words.
    fn form(&mut self, text: Text, lines: (usize, usize), nested: bool, openers: &mut Vec<Opener>) -> Form {
        let head =
            grammar::parse(Rule::head, text.as_str()).expect("every line that is not blank has a name");
        let mut rest = text.slice(head.as_span().end()..text.as_str().len());
        let mut name = Text::default();
        let mut flags = Vec::new();
        for part in inner(head) {
            match part.as_rule() {
                Rule::name => name = text.slice(range(&part)),
                _ => flags.push(flag(&text, part)),
            }
        }
        if rest.as_str().is_empty() {
            rest = Text::at(text.whole().end, "");
        }
        let args = self.args(&name.as_str().to_ascii_lowercase(), rest, lines, nested, openers);
        let span = text.whole();
        Form { text, name, flags, args, heredocs: Vec::new(), lines, span, faulty: false }
    }

    fn args(
        &mut self,
        name: &str,
        rest: Text,
        lines: (usize, usize),
        nested: bool,
        openers: &mut Vec<Opener>,
    ) -> Args {
        match name {
            "run" => match self.json(&rest) {
                Some(args) => args,
                None => {
                    find_openers(&rest, openers);
                    Args::Line(some(rest))
                }
            },
            "cmd" | "entrypoint" => self.json(&rest).unwrap_or_else(|| Args::Line(some(rest))),
            "maintainer" | "user" | "workdir" | "stopsignal" => Args::Line(some(rest)),
            "add" | "copy" => self.json(&rest).unwrap_or_else(|| words(Rule::copy_words, &rest, openers)),
            "shell" | "volume" => {
                self.json(&rest).unwrap_or_else(|| words(Rule::plain_words, &rest, openers))
            }
            "expose" | "from" => words(Rule::plain_words, &rest, openers),
            "env" | "label" => self.pairs(name, &rest),
            "arg" => declarations(&rest, self.escape),
            "healthcheck" => self.health(&rest),
            "onbuild" if !nested => {
                Args::Trigger(some(rest).map(|rest| Box::new(self.form(rest, lines, true, openers))))
            }
            _ => words(Rule::quoted_words, &rest, openers),
        }
    }

    /// The exec form. Text that is no JSON array is none; an array of anything but strings is
    /// an error, and counts as having none of them.
    fn json(&mut self, rest: &Text) -> Option<Args> {
        if !rest.as_str().starts_with('[') || grammar::json_depth(rest.as_str()) > MAX_DEPTH {
            return None;
        }
        let mut strings = Vec::new();
        for item in inner(grammar::parse(Rule::exec, rest.as_str())?) {
            if item.as_rule() == Rule::json_string {
                strings.push(decode_string(rest, item));
                continue;
            }
            let message = "a JSON array here may hold strings only";
            let fault = Diagnostic::error(rest.span(range(&item)), message);
            self.faults.push(fault.help("write every item in double quotes"));
        }
        Some(Args::Json(strings))
    }

    fn health(&mut self, rest: &Text) -> Args {
        let Some(head) = grammar::parse(Rule::health, rest.as_str()) else {
            return Args::Health(None);
        };
        let command = rest.slice(head.as_span().end()..rest.as_str().len());
        let word = inner(head).map(|part| rest.slice(range(&part))).next();
        let command = self.json(&command).unwrap_or_else(|| Args::Line(some(command)));
        Args::Health(word.map(|word| (word, Box::new(command))))
    }

    fn pairs(&mut self, name: &str, rest: &Text) -> Args {
        let escaped = rest.escaped_by(self.escape);
        let mut pairs = Vec::new();
        let Some(parts) = grammar::parse(Rule::pairs, &escaped) else { return Args::Pairs(pairs) };
        for part in inner(parts) {
            let place = rest.span(range(&part));
            let rule = part.as_rule();
            let word = rest.slice(range(&part));
            let mut texts = inner(part)
                .filter(|part| part.as_rule() != Rule::equals)
                .map(|part| rest.slice(range(&part)));
            match (texts.next(), texts.next()) {
                (Some(key), Some(value)) => pairs.push(PairForm { key, value }),
                _ => {
                    let name = name.to_ascii_uppercase();
                    let word = word.as_str();
                    let fault = Diagnostic::error(place, format!("{name} `{word}` has no value"));
                    let help = if rule == Rule::old_pair {
                        format!("write `{name} {word}=value`, or `{name} {word}=` for an empty one")
                    } else {
                        format!("write `{word}=value`, or put quotes around a value with blanks")
                    };
                    self.faults.push(fault.help(help));
                }
            }
        }
        Args::Pairs(pairs)
    }
}

fn some(text: Text) -> Option<Text> {
    (!text.as_str().is_empty()).then_some(text)
}

fn flag(text: &Text, part: Pair<'_, Rule>) -> FlagForm {
    let raw = text.slice(range(&part));
    let mut name = Text::default();
    let mut value = None;
    for part in inner(part) {
        match part.as_rule() {
            Rule::flag_name => name = text.slice(range(&part)),
            Rule::flag_value => value = Some(unquoted_flag(text, part)),
            _ => {}
        }
    }
    FlagForm { raw, name, value }
}

fn unquoted_flag(text: &Text, part: Pair<'_, Rule>) -> Text {
    let mut value = Text::at(text.span(range(&part)).start, "");
    for piece in inner(part) {
        let mut range = range(&piece);
        if piece.as_rule() == Rule::flag_escape {
            range.start += 1;
        }
        if !range.is_empty() {
            value.append(text, range);
        }
    }
    value
}

fn words(rule: Rule, rest: &Text, openers: &mut Vec<Opener>) -> Args {
    let Some(parts) = grammar::parse(rule, rest.as_str()) else { return Args::Words(Vec::new()) };
    let words = inner(parts).map(|part| {
        let text = rest.slice(range(&part));
        let number = openers.len();
        let opener = (part.as_rule() == Rule::opener).then(|| opener(rest, part)).flatten();
        let opener = opener.map(|opener| {
            openers.push(opener);
            number
        });
        WordForm { text, opener }
    });
    Args::Words(words.collect())
}

fn declarations(rest: &Text, escape: char) -> Args {
    let escaped = rest.escaped_by(escape);
    let Some(parts) = grammar::parse(Rule::declarations, &escaped) else {
        return Args::Declarations(Vec::new());
    };
    let declarations = inner(parts).map(|part| {
        let raw = rest.slice(range(&part));
        let mut name = Text::at(raw.whole().start, "");
        let mut default = None;
        for part in inner(part) {
            match part.as_rule() {
                Rule::key | Rule::word_key => name = rest.slice(range(&part)),
                Rule::value => default = Some(rest.slice(range(&part))),
                _ => {}
            }
        }
        DeclarationForm { raw, name, default }
    });
    Args::Declarations(declarations.collect())
}

/// Adds the openers of a shell command.
fn find_openers(rest: &Text, openers: &mut Vec<Opener>) {
    if !rest.as_str().contains("<<") {
        return;
    }
    if let Some(parts) = grammar::parse(Rule::shell, rest.as_str()) {
        openers.extend(inner(parts).filter_map(|part| opener(rest, part)));
    }
}

/// An opener; one whose delimiter is empty is none.
fn opener(text: &Text, part: Pair<'_, Rule>) -> Option<Opener> {
    let mut opener =
        Opener { raw: text.slice(range(&part)), name: String::new(), expand: true, chomp: false };
    for part in part.into_inner().flatten() {
        match part.as_rule() {
            Rule::dash => opener.chomp = !part.as_str().is_empty(),
            Rule::delimiter_single | Rule::delimiter_double => opener.expand = false,
            Rule::delimiter_escape => opener.name.push_str(&part.as_str()[1..]),
            Rule::delimiter_plain
            | Rule::delimiter_far
            | Rule::delimiter_in_single
            | Rule::delimiter_in_double => opener.name.push_str(part.as_str()),
            _ => {}
        }
    }
    (!opener.name.is_empty()).then_some(opener)
}

/// The string a JSON string stands for. Half of a surrogate pair becomes U+FFFD.
fn decode_string(rest: &Text, item: Pair<'_, Rule>) -> Text {
    let mut text = Text::at(rest.span(range(&item)).start + 1, "");
    let mut high: Option<(u32, usize)> = None;
    for part in inner(item) {
        let at = rest.span(range(&part)).start;
        let unit = match part.as_rule() {
            Rule::json_escape => unescape(part.as_str()),
            _ => None,
        };
        if let (Some((first, start)), Some(low @ 0xdc00..=0xdfff)) = (high, unit) {
            high = None;
            push_char(&mut text, 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00), start);
            continue;
        }
        if let Some((first, start)) = high.take() {
            push_char(&mut text, first, start);
        }
        match unit {
            Some(first @ 0xd800..=0xdbff) => high = Some((first, at)),
            Some(unit) => push_char(&mut text, unit, at),
            None => text.append(rest, range(&part)),
        }
    }
    if let Some((first, start)) = high {
        push_char(&mut text, first, start);
    }
    text
}

fn push_char(text: &mut Text, code: u32, at: usize) {
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    text.push(character.encode_utf8(&mut [0; 4]), at);
}

/// The code unit of a JSON escape.
fn unescape(escape: &str) -> Option<u32> {
    Some(match escape.as_bytes().get(1)? {
        b'b' => 8,
        b'f' => 12,
        b'n' => 10,
        b'r' => 13,
        b't' => 9,
        b'u' => u32::from_str_radix(&escape[2..], 16).ok()?,
        other => u32::from(*other),
    })
}
