//! The flags of an instruction: which it has, each once unless it is a list, booleans with or
//! without a value. What is wrong becomes diagnostics, and the flag counts as not given.

use crate::base::diagnostic::Diagnostic;
use crate::base::similar::nearest;
use crate::base::span::{Span, Spanned};

use super::instruction::Word;
use super::syntax::{FlagForm, Form};
use super::text::Text;
use super::word;

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One value.
    Value,
    /// Any number of values.
    Values,
    /// `true`, `false`, or none for `true`.
    Boolean,
}

/// The flags given, by name.
pub(crate) struct Flags {
    given: Vec<(String, Given)>,
    escape: char,
}

struct Given {
    /// The flag as a whole.
    span: Span,
    value: Option<Text>,
}

impl Flags {
    /// Checks the flags of `form` against those that its instruction has.
    pub(crate) fn new(
        form: &Form,
        known: &[(&'static str, Takes)],
        escape: char,
        faults: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut flags = Self { given: Vec::new(), escape };
        for flag in &form.flags {
            if let Err(fault) = flags.add(form, flag, known) {
                faults.push(fault);
            }
            if faults.len() >= super::MAX_FAULTS {
                break;
            }
        }
        flags
    }

    fn add(&mut self, form: &Form, flag: &FlagForm, known: &[(&str, Takes)]) -> Result<(), Diagnostic> {
        let name = flag.name.as_str();
        let span = flag.raw.whole();
        let Some((_, takes)) = known.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(form, flag, known));
        };
        if *takes != Takes::Values && self.find(name).is_some() {
            return Err(
                Diagnostic::error(span, format!("`--{name}` is given twice")).help("remove one of them")
            );
        }
        match (takes, &flag.value) {
            (Takes::Value | Takes::Values, None) => {
                return Err(Diagnostic::error(span, format!("`--{name}` needs a value"))
                    .help(format!("write `--{name}=…`, without a blank around the equals sign")));
            }
            (Takes::Boolean, Some(value)) if flag_boolean(value.as_str()).is_none() => {
                let message = format!("`--{name}` is `true` or `false`, not `{}`", value.as_str());
                return Err(Diagnostic::error(value_span(flag), message));
            }
            _ => {}
        }
        self.given.push((name.to_owned(), Given { span, value: flag.value.clone() }));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Given> {
        self.given.iter().find(|(given, _)| given == name).map(|(_, given)| given)
    }

    /// The value of a flag as text, with its place.
    pub(crate) fn text(&self, name: &str) -> Option<Spanned<String>> {
        let value = self.find(name)?.value.as_ref()?;
        Some(Spanned::new(value.as_str().to_owned(), value.whole()))
    }

    /// The values of a flag.
    pub(crate) fn values(&self, name: &str) -> Vec<&Text> {
        let given = self.given.iter().filter(|(given, _)| given == name);
        given.filter_map(|(_, given)| given.value.as_ref()).collect()
    }

    /// The value of a flag as a word, which may not be empty.
    pub(crate) fn word(&self, name: &str, faults: &mut Vec<Diagnostic>) -> Option<Word> {
        let given = self.find(name)?;
        let value = given.value.as_ref()?;
        if value.as_str().is_empty() {
            faults.push(Diagnostic::error(given.span, format!("the value of `--{name}` is empty")));
            return None;
        }
        self.take_apart(value, faults)
    }

    /// The values of a flag as words.
    pub(crate) fn words(&self, name: &str, faults: &mut Vec<Diagnostic>) -> Vec<Word> {
        self.values(name).into_iter().filter_map(|value| self.take_apart(value, faults)).collect()
    }

    fn take_apart(&self, value: &Text, faults: &mut Vec<Diagnostic>) -> Option<Word> {
        word::word(value, self.escape).map_err(|fault| faults.push(fault)).ok()
    }

    /// A boolean flag.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let value = &self.find(name)?.value;
        Some(value.as_ref().is_none_or(|value| flag_boolean(value.as_str()).unwrap_or(true)))
    }
}

fn flag_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn value_span(flag: &FlagForm) -> Span {
    match &flag.value {
        Some(value) if !value.as_str().is_empty() => value.whole(),
        _ => flag.raw.whole(),
    }
}

fn unknown(form: &Form, flag: &FlagForm, known: &[(&str, Takes)]) -> Diagnostic {
    let instruction = form.name.as_str().to_ascii_uppercase();
    let name = flag.name.as_str();
    let span = Span::new(flag.raw.whole().start, flag.name.whole().end.max(flag.raw.whole().start + 2));
    let fault = Diagnostic::error(span, format!("unknown flag `--{name}` for {instruction}"));
    if let Some(near) = nearest(name, known.iter().map(|(known, _)| *known)) {
        return fault.help(format!("did you mean `--{near}`?"));
    }
    match (instruction.as_str(), name) {
        ("ADD", "from") => fault.help("COPY copies from stages and images: `COPY --from=…`"),
        ("ADD", "parents") => fault.help("COPY has `--parents`"),
        ("COPY", "checksum" | "keep-git-dir" | "unpack") => fault.help(format!("ADD has `--{name}`")),
        _ if known.is_empty() => fault.help(format!("{instruction} has no flags")),
        _ => {
            let known: Vec<String> = known.iter().map(|(known, _)| format!("`--{known}`")).collect();
            fault.help(format!("its flags are {}", known.join(", ")))
        }
    }
}
