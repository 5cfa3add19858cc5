//! What holds for every input: the bodies of the property tests and of the fuzz targets. Each
//! panics where something does not hold; none looks at results beyond that.

use crate::base::diagnostic::Diagnostics;
use crate::base::span::Span;

use super::ignore::IgnoreFile;
use super::instruction::Kind;
use super::syntax::{Args, File, Form};
use super::{dump, expand, parse, parse_form, parse_trigger, parse_word};

/// Any bytes as a Dockerfile: no panic; every span inside the text and on character boundaries;
/// lines that rise; triggers that can be read again.
pub fn dockerfile(bytes: &[u8]) {
    match parse_form("Dockerfile", bytes) {
        Ok(file) => forms(&file),
        Err(faults) => diagnostics(&faults),
    }
    match parse("Dockerfile", bytes) {
        Err(faults) => diagnostics(&faults),
        Ok(file) => {
            let text = file.source.text();
            for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                span(text, instruction.span);
                if let Kind::Onbuild(trigger) = &instruction.kind
                    && file.directives.escape == '\\'
                {
                    assert!(parse_trigger(&trigger.value).is_ok(), "the trigger {:?} is lost", trigger.value);
                }
            }
        }
    }
}

/// Any bytes as a word and as a here-document's body: no panic, and a bounded result.
pub fn expansion(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lookup = |name: &str| match name {
        "a" => Some("a/b*c".to_owned()),
        "b" => Some(String::new()),
        "c" => Some(text.chars().rev().collect()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        let faults = match parse_word(&text, escape) {
            Ok(word) => {
                let whole = expand::word(&word, &lookup);
                let split = expand::words(&word, &lookup);
                assert_eq!(whole.is_ok(), split.is_ok());
                whole.err()
            }
            Err(fault) => Some(fault),
        };
        faults.into_iter().for_each(|fault| span(&text, fault.span));
    }
    if let Err(fault) = expand::heredoc(&text, Span::new(0, text.len()), &lookup) {
        span(&text, fault.span);
    }
}

/// Any bytes as a path, a line break and an ignore file: no panic, and a walk comes to the
/// verdict that the whole path gets.
pub fn ignore_file(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, file) = bytes.split_at(end);
    let file = match IgnoreFile::parse(".dockerignore", file) {
        Ok(file) => file,
        Err(faults) => return diagnostics(&faults),
    };
    let named = path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if !named {
        return;
    }
    let mut level = file.root();
    let mut pruned = false;
    for at in (0..path.len()).filter(|at| path[*at] == b'/') {
        level = file.directory(&level, &path[..at]);
        assert_eq!(level.ignored(), file.is_ignored(&path[..at]));
        pruned |= level.prunable();
    }
    let verdict = file.is_ignored(path);
    assert_eq!(file.entry(&level, path), verdict);
    assert!(verdict || !pruned, "a path below a pruned directory is not ignored");
}

fn forms(file: &File) {
    let text = file.source.text();
    let value = dump(file);
    assert_eq!(value["instructions"].as_array().map(Vec::len), Some(file.instructions.len()));
    let mut last = 0;
    for form in &file.instructions {
        assert!(last < form.lines.0 && form.lines.0 <= form.lines.1, "lines do not rise");
        last = form.lines.1;
        self::form(text, form);
    }
}

fn form(text: &str, form: &Form) {
    span(text, form.span);
    span(text, form.name.whole());
    assert_eq!(text.get(form.name.whole().range()).map(|name| name.is_empty()), Some(false));
    for flag in &form.flags {
        span(text, flag.raw.whole());
    }
    match &form.args {
        Args::Json(strings) => strings.iter().for_each(|string| span(text, string.whole())),
        Args::Words(words) => words.iter().for_each(|word| span(text, word.text.whole())),
        Args::Line(line) => line.iter().for_each(|line| span(text, line.whole())),
        Args::Pairs(pairs) => {
            pairs
                .iter()
                .for_each(|pair| [&pair.key, &pair.value].iter().for_each(|part| span(text, part.whole())));
        }
        Args::Declarations(list) => list.iter().for_each(|one| span(text, one.raw.whole())),
        Args::Health(health) => health.iter().for_each(|(word, _)| span(text, word.whole())),
        Args::Trigger(child) => child.iter().for_each(|child| self::form(text, child)),
    }
}

fn diagnostics(faults: &Diagnostics) {
    assert!(!faults.all.is_empty());
    let text = faults.source.text();
    faults.all.iter().for_each(|fault| span(text, fault.span));
    assert!(!faults.render(false).is_empty());
}

fn span(text: &str, span: Span) {
    assert!(span.start <= span.end, "{span:?} runs backwards");
    assert!(text.get(span.range()).is_some(), "{span:?} is not in a text of {} bytes", text.len());
}
