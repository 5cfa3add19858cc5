//! Text to a typed Dockerfile: the ways in.

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::span::Span;

use super::instruction::{Arg, Dockerfile, Instruction, Kind, Stage};
use super::syntax::{File, Form, diagnostics, parse_form, read};
use super::typed::{NAMES, Typed, typed};

/// Reads the Dockerfile `text`, which errors call `name`. All faults of the file are in the
/// error, in their order; its spans are byte offsets into `text`.
pub fn parse(name: &str, text: &[u8]) -> Result<Dockerfile, Diagnostics> {
    let (file, faults) = read(name, text)?;
    let escape = file.directives.escape;
    let mut assembly = Assembly { faults, ..Assembly::default() };
    for form in &file.instructions {
        if assembly.faults.len() >= super::MAX_FAULTS {
            break;
        }
        let typed = if form.faulty { None } else { typed(form, escape, &mut assembly.faults) };
        assembly.add(form, typed);
    }
    assembly.finish(file)
}

/// Reads the one instruction that an ONBUILD of a base image runs, here-documents included.
/// Spans are offsets into `text`.
pub fn parse_trigger(text: &str) -> Result<Instruction, Diagnostics> {
    single("ONBUILD", text, &["FROM", "MAINTAINER", "ONBUILD"], &[])
}

/// Reads the one instruction of a change to an image (`import --change`, `commit --change`).
pub fn parse_change(text: &str) -> Result<Instruction, Diagnostics> {
    const ALLOWED: [&str; 11] = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    single("--change", text, &[], &ALLOWED)
}

/// One instruction that is none of `refused` and, if `allowed` is not empty, one of it.
fn single(name: &str, text: &str, refused: &[&str], allowed: &[&str]) -> Result<Instruction, Diagnostics> {
    let file = parse_form(name, text.as_bytes())?;
    let fault =
        |span: Span, message: String| Diagnostics::one(&file.source, Diagnostic::error(span, message));
    let [form] = &file.instructions[..] else {
        return Err(fault(file.instructions[1].span, "only one instruction can stand here".to_owned()));
    };
    let instruction = form.name.as_str().to_ascii_uppercase();
    let known = NAMES.contains(&instruction.as_str());
    if known && (refused.contains(&&*instruction) || !allowed.is_empty() && !allowed.contains(&&*instruction))
    {
        return Err(fault(form.name.whole(), format!("{instruction} cannot stand here")));
    }
    let mut faults = Vec::new();
    match typed(form, file.directives.escape, &mut faults) {
        Some(Typed::Other(instruction)) => Ok(*instruction),
        Some(Typed::From(_)) => Err(fault(form.name.whole(), "FROM cannot stand here".to_owned())),
        None => Err(diagnostics(file.source.clone(), faults)),
    }
}

/// Stages as they come together.
#[derive(Default)]
struct Assembly {
    global_args: Vec<Arg>,
    stages: Vec<Stage>,
    /// Whether a FROM was seen, even a faulty one.
    begun: bool,
    /// Whether an instruction before the first FROM was complained of.
    complained: bool,
    faults: Vec<Diagnostic>,
}

impl Assembly {
    fn add(&mut self, form: &Form, typed: Option<Typed>) {
        if form.name.as_str().eq_ignore_ascii_case("from") {
            self.begun = true;
        }
        match typed {
            Some(Typed::From(from)) => self.stages.push(Stage { from: *from, instructions: Vec::new() }),
            Some(Typed::Other(instruction)) if self.begun => {
                // Without a stage its FROM was faulty, and nothing is built.
                if let Some(stage) = self.stages.last_mut() {
                    stage.instructions.push(*instruction);
                }
            }
            Some(Typed::Other(instruction)) => match instruction.kind {
                Kind::Arg(arg) => self.global_args.push(arg),
                _ => self.before_from(form),
            },
            None => {}
        }
    }

    fn before_from(&mut self, form: &Form) {
        if std::mem::replace(&mut self.complained, true) {
            return;
        }
        let name = form.name.as_str().to_ascii_uppercase();
        let fault = Diagnostic::error(form.name.whole(), format!("{name} stands before the first FROM"));
        self.faults.push(fault.help("begin with `FROM image`; only ARG can stand before it"));
    }

    fn finish(mut self, file: File) -> Result<Dockerfile, Diagnostics> {
        if !self.begun && self.faults.is_empty() {
            let last = file.instructions.last().map_or(Span::default(), |form| form.span);
            let fault = Diagnostic::error(last, "the file has no FROM");
            self.faults.push(fault.help("add `FROM image`, or `FROM scratch` to begin with nothing"));
        }
        if !self.faults.is_empty() {
            return Err(diagnostics(file.source, self.faults));
        }
        Ok(Dockerfile {
            source: file.source,
            directives: file.directives,
            global_args: self.global_args,
            stages: self.stages,
        })
    }
}
