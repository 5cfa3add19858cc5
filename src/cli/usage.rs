//! Arguments: a clap command made to read flags as Docker does, and clap's errors in Docker's words.

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::base::similar::nearest;

/// The name of the argument that asks for help.
const HELP: &str = "help";

/// Arguments that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information")]
pub struct UsageError {
    /// What is wrong.
    pub message: String,
    /// `kiln build [OPTIONS] PATH | -`
    pub usage: String,
    /// `kiln build`
    pub path: String,
    /// Whether a flag is at fault.
    pub flag: bool,
}

impl UsageError {
    /// 125 where a flag is at fault, 1 where the number of arguments is, as Docker does.
    pub fn exit_code(&self) -> u8 {
        if self.flag { 125 } else { 1 }
    }
}

/// Makes a derived command read its arguments as Docker reads them: booleans take `=false`, a
/// repeated flag replaces the one before, values may begin with a hyphen, and `-h` is help unless
/// the command has another use for it.
pub fn prepare(command: Command) -> Command {
    let has_h = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let help = Arg::new(HELP).long(HELP).action(ArgAction::Help).hide(true);
    let help = if has_h { help } else { help.short('h') };
    let hyphens = |arg: Arg| {
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        if takes_value && !arg.is_positional() { arg.allow_hyphen_values(true) } else { arg }
    };
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .mut_args(hyphens)
        .mut_args(boolean)
        .arg(help)
}

/// A flag that takes `=true` and `=false`.
fn boolean(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    let default = arg.get_default_values().is_empty().then_some("false");
    let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true);
    let arg = arg.default_missing_value("true").value_parser(ValueParser::new(parse_bool));
    match default {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("\"{other}\" is neither true nor false")),
    }
}

/// Whether clap stopped because help was asked for.
pub fn asks_for_help(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::DisplayHelp
}

/// clap's error in Docker's words. `path` is the command as typed, `usage` what follows it.
pub fn translate(error: &clap::Error, command: &Command, path: &str, usage: &str) -> UsageError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let invalid = context(ContextKind::InvalidArg).unwrap_or_default();
    let (message, flag) = match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with('-') => (unknown_flag(invalid, command), true),
        ErrorKind::InvalidValue | ErrorKind::NoEquals
            if context(ContextKind::InvalidValue).is_none_or(str::is_empty) =>
        {
            (format!("flag needs an argument: {}", spelling(invalid, command)), true)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let reason = std::error::Error::source(error).map(|source| format!(": {source}"));
            let reason = reason.unwrap_or_default();
            match invalid.starts_with('-') {
                true => {
                    let spelling = spelling(invalid, command);
                    (format!("invalid argument \"{value}\" for \"{spelling}\" flag{reason}"), true)
                }
                false => (format!("invalid argument \"{value}\"{reason}"), false),
            }
        }
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            (format!("kiln: '{path}' {}", arity(command)), false)
        }
        _ => (error.to_string().trim_start_matches("error: ").trim_end().to_owned(), true),
    };
    UsageError {
        message,
        usage: format!("{path} {usage}").trim_end().to_owned(),
        path: path.to_owned(),
        flag,
    }
}

fn unknown_flag(flag: &str, command: &Command) -> String {
    if !flag.starts_with("--") {
        let letter = flag.chars().nth(1).unwrap_or('-');
        return format!("unknown shorthand flag: '{letter}' in {flag}");
    }
    let name = flag.trim_start_matches('-').split('=').next().unwrap_or_default();
    let longs = command.get_arguments().filter_map(Arg::get_long);
    match nearest(name, longs) {
        Some(near) => format!("unknown flag: --{name}\n\nDid you mean --{near}?"),
        None => format!("unknown flag: --{name}"),
    }
}

/// `-m, --memory` for clap's `--memory <bytes>`.
fn spelling(invalid: &str, command: &Command) -> String {
    let long = invalid.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    match arg.and_then(Arg::get_short) {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    }
}

/// `requires 1 argument`, `accepts no arguments`, …
fn arity(command: &Command) -> String {
    let (mut least, mut most) = (0, Some(0));
    for arg in command.get_positionals() {
        let many = matches!(arg.get_action(), ArgAction::Append);
        least += usize::from(arg.is_required_set());
        most = if many { None } else { most.map(|most| most + 1) };
    }
    let arguments = |count: usize| format!("{count} argument{}", if count == 1 { "" } else { "s" });
    match (least, most) {
        (0, Some(0)) => "accepts no arguments".to_owned(),
        (least, Some(most)) if least == most => format!("requires {}", arguments(least)),
        (0, Some(most)) => format!("requires at most {}", arguments(most)),
        (least, Some(most)) => format!("requires at least {least} and at most {}", arguments(most)),
        (least, None) => format!("requires at least {}", arguments(least)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    /// Does something
    #[derive(Parser, Debug, PartialEq)]
    struct Sample {
        /// All of it
        #[arg(short, long)]
        all: bool,
        /// Kept
        #[arg(long, default_value = "true")]
        rm: bool,
        /// Text
        #[arg(short, long, value_name = "string")]
        name: Option<String>,
        /// Many
        #[arg(short, long, value_name = "list")]
        env: Vec<String>,
        /// Size
        #[arg(short, long, value_name = "bytes", value_parser = crate::cli::units::parse_size)]
        memory: Option<u64>,
        /// The image and what runs
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<String>,
    }

    fn parse(words: &[&str]) -> Result<Sample, String> {
        let mut command = prepare(Sample::command());
        let words = std::iter::once("sample").chain(words.iter().copied());
        let matches = command.try_get_matches_from_mut(words);
        matches
            .and_then(|matches| Sample::from_arg_matches(&matches))
            .map_err(|error| translate(&error, &command, "kiln sample", "[OPTIONS] IMAGE").message)
    }

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        let base = || Sample {
            all: false,
            rm: true,
            name: None,
            env: vec![],
            memory: None,
            command: vec!["i".to_owned()],
        };
        for (words, expected) in [
            (&["i"][..], base()),
            (&["--all", "--rm=false", "i"], Sample { all: true, rm: false, ..base() }),
            (&["-a=0", "--rm=T", "i"], base()),
            (
                &["-ae", "A=b", "-eC", "i"],
                Sample { all: true, env: vec!["A=b".into(), "C".into()], ..base() },
            ),
            (&["--name", "a", "--name=b", "i"], Sample { name: Some("b".into()), ..base() }),
            (&["--name", "-x", "i"], Sample { name: Some("-x".into()), ..base() }),
            (&["-m", "1k", "i"], Sample { memory: Some(1024), ..base() }),
            (&["-m1k", "i"], Sample { memory: Some(1024), ..base() }),
            (
                &["-a", "i", "--name", "-a", "--", "x"],
                Sample {
                    all: true,
                    command: ["i", "--name", "-a", "--", "x"].map(String::from).to_vec(),
                    ..base()
                },
            ),
            (&["--", "i", "-a"], Sample { command: vec!["i".into(), "-a".into()], ..base() }),
        ] {
            assert_eq!(parse(words), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn errors_are_dockers() {
        for (words, expected) in [
            (&["--nope", "i"][..], "unknown flag: --nope"),
            (&["--memry", "i"], "unknown flag: --memry\n\nDid you mean --memory?"),
            (&["-x", "i"], "unknown shorthand flag: 'x' in -x"),
            (&["-ax", "i"], "unknown shorthand flag: 'x' in -x"),
            (&["--name"], "flag needs an argument: -n, --name"),
            (&["-e"], "flag needs an argument: -e, --env"),
            (
                &["--rm=foo", "i"],
                "invalid argument \"foo\" for \"--rm\" flag: \"foo\" is neither true nor false",
            ),
            (
                &["--memory", "foo", "i"],
                "invalid argument \"foo\" for \"-m, --memory\" flag: invalid size: 'foo'",
            ),
            (&[], "kiln: 'kiln sample' requires at least 1 argument"),
        ] {
            assert_eq!(parse(words), Err(expected.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn help_is_told_from_errors() {
        let error = prepare(Sample::command()).try_get_matches_from(["sample", "-h"]).unwrap_err();
        assert!(asks_for_help(&error));
    }
}
