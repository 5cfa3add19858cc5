//! RUN to a vertex (reference, "RUN", "Here-Documents").

use crate::base::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{Command, Heredoc, Instruction, Run, RunNetwork, RunSecurity};

use super::arguments;
use super::copy::without_tabs;
use super::operation::{Operation, RunOperation, Script};
use super::stage::Stage;

/// Where a here-document with an interpreter line is found, as in BuildKit.
const SCRIPTS: &str = "/dev/pipes";

impl Stage<'_, '_> {
    /// Lowers RUN.
    pub(super) fn run(&mut self, instruction: &Instruction, run: &Run) -> Result<(), Diagnostic> {
        let (argv, script) = self.command_line(&run.command);
        let Some(mounts) = self.mounts(&run.mounts)? else { return Ok(()) };
        let environment = &self.state.scope.environment;
        let request = self.planner.request;
        let created_by = format!("RUN {}{}", self.state.scope.history_prefix(), argv.join(" "));
        let devices = run.devices.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
        let operation = RunOperation {
            base: self.state.vertex,
            argv,
            env: environment.pairs(),
            unkeyed_env: arguments::proxies(&request.build_args, environment),
            cwd: self.directory().to_owned(),
            user: self.state.config.config.user.clone(),
            platform: self.state.platform.clone(),
            network: match run.network.as_ref().map(|network| network.value) {
                None | Some(RunNetwork::Default) => request.network,
                Some(network) => network,
            },
            insecure: run.security.as_ref().is_some_and(|security| security.value == RunSecurity::Insecure),
            add_hosts: request.add_hosts.clone(),
            hostname: arguments::hostname(request),
            shm_size: request.shm_size,
            ulimits: request.ulimits.clone(),
            mounts,
            devices,
            script,
        };
        let text = format!("{}{}", instruction.text, summary(&run.command));
        self.step(Operation::Run(Box::new(operation)), instruction.span, &text, created_by)
    }

    /// The working directory of RUN.
    pub(super) fn directory(&self) -> &str {
        match self.state.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    fn command_line(&self, command: &Command) -> (Vec<String>, Option<Script>) {
        let (text, heredocs) = match command {
            Command::Exec(argv) => return (argv.clone(), None),
            Command::Shell { text, heredocs } => (&text.value, heredocs),
        };
        let Some(only) = lone(text, heredocs) else {
            return (self.in_shell(with_bodies(text, heredocs)), None);
        };
        let content = if only.chomp { without_tabs(&only.content) } else { only.content.clone() };
        if !content.starts_with("#!") {
            return (self.in_shell(content), None);
        }
        let path = format!("{SCRIPTS}/{}", file_name(&only.name));
        (self.in_shell(path.clone()), Some(Script { path, content }))
    }
}

/// The here-document that is all of a command.
fn lone<'a>(text: &str, heredocs: &'a [Heredoc]) -> Option<&'a Heredoc> {
    match heredocs {
        [only] if text.trim() == only.opener.trim() => Some(only),
        _ => None,
    }
}

/// A command with its here-documents as they were written: the shell knows what to do with them.
fn with_bodies(text: &str, heredocs: &[Heredoc]) -> String {
    heredocs
        .iter()
        .fold(text.to_owned(), |text, heredoc| format!("{text}\n{}{}", heredoc.content, heredoc.name))
}

/// The delimiter as a file name, where it can be one.
fn file_name(delimiter: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let usable = !delimiter.is_empty() && !delimiter.starts_with('.') && delimiter.len() <= 64;
    if usable && delimiter.chars().all(plain) { delimiter } else { "script" }
}

/// The first line of a command that is a here-document, for the name of the step.
fn summary(command: &Command) -> String {
    let Command::Shell { text, heredocs } = command else { return String::new() };
    let Some(only) = lone(&text.value, heredocs) else { return String::new() };
    let mut lines = only.content.trim().lines();
    let first = lines.next().unwrap_or("");
    let more = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{more})")
}
