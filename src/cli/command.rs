//! All commands in one table, and the way from the words typed to one of them.
//!
//! Only the command that is asked for is built: the table holds functions, no clap commands.

use std::ffi::OsString;
use std::fmt::Write;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches};

use super::error::{Error, Result};
use super::session::Session;
use super::usage::{self, UsageError};
use super::{
    build, completion, df, help, history, images, import, info, inspect, load, parse, prune, rmi, run, save,
    tag, version,
};
use crate::base::similar::nearest;

/// A flag that Docker has and kiln does not yet.
pub struct Later {
    long: &'static str,
    short: Option<char>,
    value: bool,
}

impl Later {
    /// One that takes a value.
    pub const fn value(long: &'static str) -> Self {
        Self { long, short: None, value: true }
    }

    /// One that takes none.
    pub const fn switch(long: &'static str) -> Self {
        Self { long, short: None, value: false }
    }

    /// The same with a letter.
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    fn arg(&self) -> clap::Arg {
        let arg = clap::Arg::new(self.long).long(self.long).hide(true);
        let arg = arg.action(if self.value { ArgAction::Append } else { ArgAction::SetTrue });
        match self.short {
            Some(short) => arg.short(short),
            None => arg,
        }
    }
}

/// A command whose arguments clap has read.
pub trait Run: CommandFactory + FromArgMatches {
    /// Flags that are understood and refused.
    const LATER: &'static [Later] = &[];

    /// Does it and gives the exit code.
    fn run(self, session: &mut Session) -> Result<u8>;
}

/// A command.
pub struct Entry {
    /// Its spellings without `kiln`, the short one first.
    pub paths: &'static [&'static str],
    /// What follows the command in a usage line.
    pub usage: &'static str,
    /// Where the list of commands shows it.
    pub section: Section,
    /// Its clap command.
    pub command: fn() -> clap::Command,
    run: fn(&ArgMatches, &mut Session) -> std::result::Result<u8, Failure>,
}

/// A section of the list of commands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What is used every day.
    Common,
    /// The rest of Docker's.
    Other,
    /// What Docker does not have.
    Own,
}

fn asked_for(later: &Later, matches: &ArgMatches) -> bool {
    matches.value_source(later.long) == Some(ValueSource::CommandLine)
        && (later.value || matches.get_flag(later.long))
}

enum Failure {
    Matches(clap::Error),
    Run(Error),
}

const fn entry<A: Run>(paths: &'static [&'static str], usage: &'static str, section: Section) -> Entry {
    fn run<A: Run>(matches: &ArgMatches, session: &mut Session) -> std::result::Result<u8, Failure> {
        if let Some(later) = A::LATER.iter().find(|later| asked_for(later, matches)) {
            return Err(Failure::Run(Error::LaterFlag { flag: later.long }));
        }
        A::from_arg_matches(matches).map_err(Failure::Matches)?.run(session).map_err(Failure::Run)
    }
    let command = || usage::prepare(A::command().args(A::LATER.iter().map(Later::arg)));
    Entry { paths, usage, section, command, run: run::<A> }
}

/// All commands.
pub const COMMANDS: &[Entry] = &[
    entry::<run::Args>(&["run", "container run"], "[OPTIONS] IMAGE [COMMAND] [ARG...]", Section::Common),
    entry::<build::Args>(
        &["build", "image build", "builder build", "buildx build"],
        "[OPTIONS] PATH | -",
        Section::Common,
    ),
    entry::<images::Args>(
        &["images", "image ls", "image list"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        Section::Common,
    ),
    entry::<version::Args>(&["version"], "[OPTIONS]", Section::Common),
    entry::<info::Args>(&["info", "system info"], "[OPTIONS]", Section::Common),
    entry::<history::Args>(&["history", "image history"], "[OPTIONS] IMAGE", Section::Other),
    entry::<inspect::Args>(&["inspect", "image inspect"], "[OPTIONS] NAME|ID [NAME|ID...]", Section::Other),
    entry::<rmi::Args>(&["rmi", "image rm", "image remove"], "[OPTIONS] IMAGE [IMAGE...]", Section::Other),
    entry::<save::Args>(&["save", "image save"], "[OPTIONS] IMAGE [IMAGE...]", Section::Other),
    entry::<load::Args>(&["load", "image load"], "[OPTIONS]", Section::Other),
    entry::<import::Args>(&["import", "image import"], "[OPTIONS] file|- [REPOSITORY[:TAG]]", Section::Other),
    entry::<tag::Args>(&["tag", "image tag"], "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Section::Other),
    entry::<parse::Args>(&["parse"], "[OPTIONS] FILE", Section::Own),
    entry::<prune::ImageArgs>(&["image prune"], "[OPTIONS]", Section::Other),
    entry::<prune::BuilderArgs>(&["builder prune", "buildx prune"], "[OPTIONS]", Section::Other),
    entry::<df::Args>(&["system df"], "[OPTIONS]", Section::Other),
    entry::<completion::Args>(&["completion"], "SHELL", Section::Other),
];

/// Groups of commands and what they are for.
const GROUPS: [(&str, &str); 5] = [
    ("builder", "Manage builds"),
    ("buildx", "Manage builds"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("system", "Manage kiln"),
];

/// Runs the command that `words` (without the program's name) ask for.
pub fn dispatch(words: Vec<OsString>) -> (Result<u8>, Session) {
    let mut globals = Globals::default();
    let rest = match globals.read(words) {
        Ok(rest) => rest,
        Err(error) => return (Err(error.into()), Session::new(None)),
    };
    let mut session = Session::new(globals.root.take());
    let result = match globals.wants {
        Wants::Version => session.print(&version::short()).map(|()| 0),
        Wants::Help => session.print(&overview(session.width())).map(|()| 0),
        Wants::Command => command(rest, &mut session),
    };
    (result, session)
}

/// Options before the command.
#[derive(Default)]
struct Globals {
    root: Option<OsString>,
    wants: Wants,
}

#[derive(Default, PartialEq)]
enum Wants {
    #[default]
    Command,
    Version,
    Help,
}

impl Globals {
    /// Takes the options off and gives the rest.
    fn read(&mut self, words: Vec<OsString>) -> std::result::Result<Vec<OsString>, UsageError> {
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next_if(|word| word.as_encoded_bytes().starts_with(b"-")) {
            match word.to_str() {
                Some("-v" | "--version") => self.wants = Wants::Version,
                Some("-h" | "--help") => self.wants = Wants::Help,
                Some("--root") => match words.next() {
                    Some(root) => self.root = Some(root),
                    None => return Err(usage_error("kiln", "flag needs an argument: --root", true)),
                },
                Some(text) if text.starts_with("--root=") => self.root = Some(text["--root=".len()..].into()),
                _ => {
                    let message = format!("unknown flag: {}", word.to_string_lossy());
                    return Err(usage_error("kiln", &message, true));
                }
            }
        }
        Ok(words.collect())
    }
}

fn usage_error(path: &str, message: &str, flag: bool) -> UsageError {
    let usage = if path == "kiln" { "kiln [OPTIONS] COMMAND".to_owned() } else { format!("{path} COMMAND") };
    UsageError { message: message.to_owned(), usage, path: path.to_owned(), flag }
}

fn command(words: Vec<OsString>, session: &mut Session) -> Result<u8> {
    let first = words.first().and_then(|word| word.to_str()).unwrap_or_default();
    if first == "help" {
        let mut asked: Vec<OsString> = words.into_iter().skip(1).collect();
        if asked.is_empty() {
            return session.print(&overview(session.width())).map(|()| 0);
        }
        asked.push("--help".into());
        return command(asked, session);
    }
    let Some(entry_path) = find(&words) else { return no_command(&words, session) };
    let (entry, taken, path) = entry_path;
    session.path = path;
    let mut clap_command = (entry.command)();
    let program = std::iter::once(OsString::from("kiln"));
    let matches = clap_command.try_get_matches_from_mut(program.chain(words.into_iter().skip(taken)));
    let failed = match matches {
        Ok(matches) => match (entry.run)(&matches, session) {
            Ok(code) => return Ok(code),
            Err(Failure::Run(error)) => return Err(error),
            Err(Failure::Matches(error)) => error,
        },
        Err(error) => error,
    };
    if usage::asks_for_help(&failed) {
        return session
            .print(&command_help(entry, &clap_command, &session.path, session.width()))
            .map(|()| 0);
    }
    Err(usage::translate(&failed, &clap_command, &session.path, entry.usage).into())
}

/// The command that the first one or two words name, how many they are, and its full name.
fn find(words: &[OsString]) -> Option<(&'static Entry, usize, String)> {
    let first = words.first()?.to_str()?;
    let second = words.get(1).and_then(|word| word.to_str());
    let two = second.map(|second| format!("{first} {second}"));
    COMMANDS.iter().find_map(|entry| {
        if two.as_deref().is_some_and(|two| entry.paths.contains(&two)) {
            return Some((entry, 2, format!("kiln {}", two.as_deref()?)));
        }
        entry.paths.contains(&first).then(|| (entry, 1, format!("kiln {first}")))
    })
}

/// What is said where the words name no command.
fn no_command(words: &[OsString], session: &mut Session) -> Result<u8> {
    let Some(first) = words.first().map(|word| word.to_string_lossy().into_owned()) else {
        session.note(overview(session.width()).trim_end());
        return Ok(0);
    };
    let group = GROUPS.iter().find(|(name, _)| *name == first);
    let Some((group, about)) = group else {
        let names = COMMANDS.iter().flat_map(|entry| entry.paths).copied().filter(|path| !path.contains(' '));
        return Err(unknown("kiln", &first, names));
    };
    let members = members(group);
    match words.get(1).map(|word| word.to_string_lossy().into_owned()).as_deref() {
        Some("--help" | "-h") => {
            session.print(&group_help(group, about, &members, session.width())).map(|()| 0)
        }
        None => {
            session.note(group_help(group, about, &members, session.width()).trim_end());
            Ok(0)
        }
        Some(second) => Err(unknown(&format!("kiln {group}"), second, members.iter().map(|(name, _)| *name))),
    }
}

fn unknown<'a>(path: &str, word: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let flag = word.starts_with('-');
    let near = nearest(word, names).map(|near| format!("\n\nDid you mean {near}?")).unwrap_or_default();
    let message = match flag {
        true => format!("unknown flag: {word}"),
        false => format!("kiln: unknown command: {path} {word}{near}"),
    };
    usage_error(path, &message, flag).into()
}

/// The commands of a group, by name.
fn members(group: &str) -> Vec<(&'static str, &'static Entry)> {
    let inside = |path: &'static str| path.split_once(' ').filter(|(name, _)| *name == group);
    let mut members: Vec<_> = COMMANDS
        .iter()
        .filter_map(|entry| entry.paths.iter().find_map(|path| Some((inside(path)?.1, entry))))
        .collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

fn about(entry: &Entry) -> String {
    (entry.command)().get_about().map(ToString::to_string).unwrap_or_default()
}

/// The help of one command under one of its names.
pub fn command_help(entry: &Entry, command: &clap::Command, path: &str, width: usize) -> String {
    let aliases: Vec<String> = entry.paths.iter().map(|path| format!("kiln {path}")).collect();
    help::command(command, path, entry.usage, &aliases, width)
}

fn group_help(group: &str, about_group: &str, members: &[(&str, &Entry)], width: usize) -> String {
    let rows: Vec<_> = members.iter().map(|(name, entry)| (format!("  {name}"), about(entry))).collect();
    format!(
        "Usage:  kiln {group} COMMAND\n\n{about_group}\n\nCommands:\n{}\n\n\
         Run 'kiln {group} COMMAND --help' for more information on a command.\n",
        help::list(&rows, width)
    )
}

/// The list of all commands.
fn overview(width: usize) -> String {
    let mut text =
        "Usage:  kiln [OPTIONS] COMMAND\n\nBuilds Dockerfiles to images and runs them\n".to_owned();
    let mut section = |title: &str, rows: Vec<(String, String)>| {
        if !rows.is_empty() {
            let _ = write!(text, "\n{title}:\n{}\n", help::list(&rows, width));
        }
    };
    let rows = |wanted: Section| {
        let mut rows: Vec<_> = COMMANDS
            .iter()
            .filter(|entry| entry.section == wanted && !entry.paths[0].contains(' '))
            .map(|entry| (format!("  {:<12}", entry.paths[0]), about(entry)))
            .collect();
        if wanted != Section::Common {
            rows.sort();
        }
        rows
    };
    section("Common Commands", rows(Section::Common));
    let groups = GROUPS.iter().filter(|(group, _)| !members(group).is_empty());
    section(
        "Management Commands",
        groups.map(|(group, about)| (format!("  {group:<12}"), (*about).to_owned())).collect(),
    );
    section("Commands", rows(Section::Other));
    section("Kiln Commands", rows(Section::Own));
    section(
        "Global Options",
        vec![
            (
                "      --root dir".to_owned(),
                "The directory of the store (default \"/var/lib/kiln\")".to_owned(),
            ),
            ("  -v, --version".to_owned(), "Print version information and quit".to_owned()),
        ],
    );
    text.push_str("\nRun 'kiln COMMAND --help' for more information on a command.\n");
    text
}

/// All commands as one clap command, for completions.
pub fn tree() -> clap::Command {
    let mut root = clap::Command::new("kiln").disable_help_subcommand(true).version(version::NUMBER);
    let mut groups: Vec<clap::Command> =
        GROUPS.iter().map(|(name, about)| clap::Command::new(*name).about(*about)).collect();
    for entry in COMMANDS {
        for path in entry.paths {
            match path.split_once(' ') {
                None => root = root.subcommand((entry.command)().name(*path)),
                Some((group, name)) => {
                    let place = groups.iter_mut().find(|known| known.get_name() == group);
                    let place = place.expect("every path's first word is a group");
                    *place = std::mem::take(place).subcommand((entry.command)().name(name));
                }
            }
        }
    }
    root.subcommands(groups.into_iter().filter(clap::Command::has_subcommands))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help of every command under its first name, as a page of the documentation.
    fn reference() -> String {
        let mut page = String::from(
            "# Command line\n\nWhat `kiln COMMAND --help` prints. A test keeps this page equal to it; \
             `KILN_UPDATE=1 cargo test --lib cli::` writes it anew.\n\n",
        );
        let _ = write!(page, "## kiln\n\n```text\n{}```\n", overview(80));
        for entry in COMMANDS {
            let path = format!("kiln {}", entry.paths[0]);
            let help = command_help(entry, &(entry.command)(), &path, 80);
            let _ = write!(page, "\n## {path}\n\n```text\n{help}```\n");
        }
        page
    }

    #[test]
    fn the_reference_says_what_help_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        if std::env::var_os("KILN_UPDATE").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            reference(),
            "see the page's first lines"
        );
    }

    #[test]
    fn every_command_can_be_built_and_completed() {
        for entry in COMMANDS {
            (entry.command)().debug_assert();
            assert!((entry.command)().get_about().is_some(), "{}", entry.paths[0]);
        }
        tree().debug_assert();
    }

    #[test]
    fn two_words_are_looked_at_before_one() {
        let find = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            find(&words).map(|(_, taken, path)| (taken, path))
        };
        assert_eq!(find(&["image", "ls", "-q"]), Some((2, "kiln image ls".to_owned())));
        assert_eq!(find(&["images", "ls"]), Some((1, "kiln images".to_owned())));
        assert_eq!(find(&["image", "nope"]), None);
        assert_eq!(find(&[]), None);
    }
}
