//! Forms to typed instructions: which arguments and flags each instruction takes (reference, the
//! section of each). In: a [`Form`]. Out: what it says, with its words taken apart. All that is
//! wrong is collected; an instruction with faults is none.

mod copy;
mod healthcheck;

use crate::base::diagnostic::Diagnostic;
use crate::base::similar::nearest;
use crate::base::span::{Span, Spanned};

use super::flags::{Flags, Takes};
use super::instruction::{
    Arg, ArgDeclaration, Command, From, Instruction, Kind, Pair, Run, RunNetwork, RunSecurity, Word,
};
use super::mount;
use super::syntax::{Args, Form};
use super::text::Text;
use super::word;

/// The names of all instructions.
pub(crate) const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction as it stands in a file.
pub(crate) enum Typed {
    From(Box<From>),
    Other(Box<Instruction>),
}

/// Types one instruction. With any fault there is none.
pub(crate) fn typed(form: &Form, escape: char, faults: &mut Vec<Diagnostic>) -> Option<Typed> {
    let before = faults.len();
    let name = form.name.as_str().to_ascii_uppercase();
    let mut typer = Typer { form, name: &name, escape, faults };
    let text = form.text.as_str().to_owned();
    let typed = if name == "FROM" {
        typer.from().map(|from| Typed::From(Box::new(from)))
    } else {
        typer.kind().map(|kind| Typed::Other(Box::new(Instruction { span: form.span, text, kind })))
    };
    typed.filter(|_| faults.len() == before)
}

struct Typer<'a> {
    form: &'a Form,
    name: &'a str,
    escape: char,
    faults: &'a mut Vec<Diagnostic>,
}

impl Typer<'_> {
    fn kind(&mut self) -> Option<Kind> {
        Some(match self.name {
            "RUN" => Kind::Run(self.run()?),
            "CMD" => Kind::Cmd(self.plain_command("write `CMD []` for none")?),
            "ENTRYPOINT" => Kind::Entrypoint(self.plain_command("write `ENTRYPOINT []` for none")?),
            "LABEL" => Kind::Label(self.pairs()?),
            "ENV" => Kind::Env(self.pairs()?),
            "MAINTAINER" => Kind::Maintainer(self.line("a name")?.as_str().to_owned()),
            "EXPOSE" => Kind::Expose(self.words("a port, such as `EXPOSE 80/tcp`")?),
            "VOLUME" => Kind::Volume(self.volume()?),
            "ADD" => Kind::Add(self.copy()?),
            "COPY" => Kind::Copy(self.copy()?),
            "USER" => Kind::User(self.line_word("a user")?),
            "WORKDIR" => Kind::Workdir(self.line_word("a directory")?),
            "STOPSIGNAL" => Kind::Stopsignal(self.line_word("a signal")?),
            "ARG" => Kind::Arg(self.arg()?),
            "ONBUILD" => Kind::Onbuild(self.onbuild()?),
            "HEALTHCHECK" => Kind::Healthcheck(self.healthcheck()?),
            "SHELL" => Kind::Shell(self.shell()?),
            _ => return self.unknown(),
        })
    }

    fn fault(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Diagnostic::error(span, message).help(help));
    }

    fn unknown<T>(&mut self) -> Option<T> {
        let written = self.form.name.as_str();
        let fault = Diagnostic::error(self.form.name.whole(), format!("unknown instruction `{written}`"));
        self.faults.push(fault.did_you_mean(nearest(written, NAMES)));
        None
    }

    fn flags(&mut self, known: &[(&'static str, Takes)]) -> Flags {
        Flags::new(self.form, known, self.escape, self.faults)
    }

    fn word(&mut self, text: &Text) -> Option<Word> {
        word::word(text, self.escape).map_err(|fault| self.faults.push(fault)).ok()
    }

    /// The instruction lacks its argument.
    fn missing<T>(&mut self, what: &str) -> Option<T> {
        let message = format!("{} needs {what}", self.name);
        self.faults.push(Diagnostic::error(self.form.text.whole(), message));
        None
    }

    /// The single argument of an instruction without flags.
    fn line(&mut self, what: &str) -> Option<Text> {
        self.flags(&[]);
        match &self.form.args {
            Args::Line(Some(line)) => Some(line.clone()),
            _ => self.missing(what),
        }
    }

    fn line_word(&mut self, what: &str) -> Option<Word> {
        let line = self.line(what)?;
        self.word(&line)
    }

    /// The words of an instruction without flags, at least one.
    fn words(&mut self, what: &str) -> Option<Vec<Word>> {
        self.flags(&[]);
        let texts: Vec<Text> = match &self.form.args {
            Args::Words(words) => words.iter().map(|word| word.text.clone()).collect(),
            Args::Json(strings) => strings.clone(),
            _ => Vec::new(),
        };
        if texts.is_empty() {
            return self.missing(what);
        }
        Some(texts.iter().filter_map(|text| self.word(text)).collect())
    }

    fn volume(&mut self) -> Option<Vec<Word>> {
        let words = self.words("a path")?;
        for word in words.iter().filter(|word| word.raw.trim().is_empty()) {
            self.faults.push(Diagnostic::error(word.span, "a volume's path is empty"));
        }
        Some(words)
    }

    fn pairs(&mut self) -> Option<Vec<Pair>> {
        self.flags(&[]);
        let Args::Pairs(pairs) = &self.form.args else { return None };
        if pairs.is_empty() {
            return self.missing("`key=value`");
        }
        let mut typed = Vec::new();
        for pair in pairs {
            if pair.key.as_str().is_empty() {
                let at = pair.key.whole().start;
                self.fault(
                    Span::new(at, at + 1),
                    "there is no name before `=`",
                    "write `key=value` without blanks around the equals sign",
                );
            }
            if let (Some(key), Some(value)) = (self.word(&pair.key), self.word(&pair.value)) {
                typed.push(Pair { key, value });
            }
        }
        Some(typed)
    }

    fn arg(&mut self) -> Option<Arg> {
        self.flags(&[]);
        let Args::Declarations(forms) = &self.form.args else { return None };
        if forms.is_empty() {
            return self.missing("a name");
        }
        let mut declarations = Vec::new();
        for form in forms {
            if form.name.as_str().is_empty() {
                self.fault(form.raw.whole(), "there is no name before `=`", "write `ARG name=default`");
            }
            let name = Spanned::new(form.name.as_str().to_owned(), form.name.whole());
            let default = form.default.as_ref().and_then(|default| self.word(default));
            declarations.push(ArgDeclaration { name, default });
        }
        Some(Arg { span: self.form.span, declarations, text: self.form.text.as_str().to_owned() })
    }

    fn from(&mut self) -> Option<From> {
        let flags = self.flags(&[("platform", Takes::Value)]);
        let platform = flags.word("platform", self.faults);
        let Args::Words(words) = &self.form.args else { return None };
        let texts: Vec<&Text> = words.iter().map(|word| &word.text).collect();
        let (image, name) = match texts[..] {
            [] => return self.missing("an image"),
            [image] => (image, None),
            [image, by, name] if by.as_str().eq_ignore_ascii_case("as") => (image, Some(name)),
            [_, by] if by.as_str().eq_ignore_ascii_case("as") => {
                self.fault(by.whole(), "no name follows `AS`", "write `FROM image AS name`");
                return None;
            }
            [_, second, ..] => {
                let last = texts[texts.len() - 1];
                let place = if second.as_str().eq_ignore_ascii_case("as") { texts[3] } else { second };
                let span = place.whole().to(last.whole());
                self.fault(
                    span,
                    "FROM takes an image and a name only",
                    "write `FROM image` or `FROM image AS name`",
                );
                return None;
            }
        };
        let name = name.and_then(|name| self.stage_name(name));
        let image = self.word(image)?;
        Some(From { span: self.form.span, platform, image, name, text: self.form.text.as_str().to_owned() })
    }

    fn stage_name(&mut self, text: &Text) -> Option<Spanned<String>> {
        let name = text.as_str().to_lowercase();
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(good) {
            return Some(Spanned::new(name, text.whole()));
        }
        self.fault(
            text.whole(),
            format!("`{}` cannot name a stage", text.as_str()),
            "a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`",
        );
        None
    }

    /// A command, with the here-documents of its shell form. `Exec` may be empty.
    fn command(&mut self, args: &Args) -> Option<Command> {
        match args {
            Args::Json(strings) => {
                Some(Command::Exec(strings.iter().map(|text| text.as_str().to_owned()).collect()))
            }
            Args::Line(Some(line)) => Some(Command::Shell {
                text: Spanned::new(line.as_str().to_owned(), line.whole()),
                heredocs: if self.name == "RUN" { self.form.heredocs.clone() } else { Vec::new() },
            }),
            _ => None,
        }
    }

    fn plain_command(&mut self, help: &str) -> Option<Command> {
        self.flags(&[]);
        let command = self.command(&self.form.args);
        if command.is_none() {
            self.fault(self.form.text.whole(), format!("{} needs a command", self.name), help);
        }
        command
    }

    fn run(&mut self) -> Option<Run> {
        let flags = self.flags(&[
            ("mount", Takes::Values),
            ("network", Takes::Value),
            ("security", Takes::Value),
            ("device", Takes::Values),
        ]);
        let mounts = flags.values("mount").into_iter();
        let mounts = mounts.filter_map(|text| mount::mount(text, self.escape, self.faults)).collect();
        let network = self.choice(
            &flags,
            "network",
            &[("default", RunNetwork::Default), ("none", RunNetwork::None), ("host", RunNetwork::Host)],
        );
        let security = self.choice(
            &flags,
            "security",
            &[("sandbox", RunSecurity::Sandbox), ("insecure", RunSecurity::Insecure)],
        );
        let devices = flags.words("device", self.faults);
        let command = match self.command(&self.form.args) {
            Some(Command::Exec(argv)) if argv.is_empty() => None,
            other => other,
        };
        let Some(command) = command else { return self.missing("a command") };
        Some(Run { command, mounts, network, security, devices })
    }

    /// A flag that takes one of a few words.
    fn choice<T: Copy>(&mut self, flags: &Flags, name: &str, values: &[(&str, T)]) -> Option<Spanned<T>> {
        let text = flags.text(name)?;
        if let Some((_, value)) = values.iter().find(|(value, _)| *value == text.value) {
            return Some(Spanned::new(*value, text.span));
        }
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let fault = Diagnostic::error(text.span, format!("`--{name}` cannot be `{}`", text.value))
            .did_you_mean(nearest(&text.value, names.iter().copied()))
            .help(format!("it is one of {}", names.join(", ")));
        self.faults.push(fault);
        None
    }

    fn onbuild(&mut self) -> Option<Spanned<String>> {
        self.flags(&[]);
        let Args::Trigger(Some(child)) = &self.form.args else { return self.missing("an instruction") };
        let name = child.name.as_str().to_ascii_uppercase();
        if matches!(name.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            let message = format!("{name} cannot stand behind ONBUILD");
            self.faults.push(Diagnostic::error(child.name.whole(), message));
            return None;
        }
        typed(child, self.escape, self.faults)?;
        let mut text = child.text.as_str().to_owned();
        for heredoc in &child.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Some(Spanned::new(text, child.span))
    }

    fn shell(&mut self) -> Option<Vec<String>> {
        self.flags(&[]);
        match &self.form.args {
            Args::Json(strings) if strings.is_empty() => self.missing("at least one string"),
            Args::Json(strings) => Some(strings.iter().map(|text| text.as_str().to_owned()).collect()),
            Args::Words(words) if !words.is_empty() => {
                let span = words[0].text.whole().to(words[words.len() - 1].text.whole());
                let quoted: Vec<String> =
                    words.iter().map(|word| format!("{:?}", word.text.as_str())).collect();
                self.fault(
                    span,
                    "SHELL takes a JSON array",
                    format!("write `SHELL [{}]`", quoted.join(", ")),
                );
                None
            }
            _ => self.missing("a JSON array, such as `SHELL [\"/bin/sh\", \"-c\"]`"),
        }
    }
}
