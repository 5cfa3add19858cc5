//! Instructions that change the config only: no vertex, an empty layer in the history.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::dockerfile::instruction::{Arg, Command, Healthcheck as Check, Instruction, Kind, Pair, Word};
use crate::image::config::Healthcheck;

use super::expansion::{expand, words};
use super::history::{duration, quoted_list};
use super::stage::Stage;
use super::{ports, signal};

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Stage<'_, '_> {
    /// Lowers an instruction that changes the config only.
    pub(super) fn configure(&mut self, instruction: &Instruction) -> Result<(), Diagnostic> {
        match &instruction.kind {
            Kind::Env(pairs) => self.env(pairs, instruction.span),
            Kind::Label(pairs) => self.label(pairs, instruction.span),
            Kind::Arg(arg) => self.arg(arg),
            Kind::Cmd(command) => self.cmd(command),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Expose(ports) => self.expose(ports),
            Kind::Volume(volumes) => self.volume(volumes),
            Kind::User(user) => self.user(user),
            Kind::Stopsignal(signal) => self.stop_signal(signal),
            Kind::Healthcheck(check) => {
                self.healthcheck(check);
                Ok(())
            }
            Kind::Shell(shell) => {
                self.record(format!("SHELL [{}]", shell.join(" ")));
                self.state.config.config.shell = Some(shell.clone());
                Ok(())
            }
            Kind::Maintainer(name) => {
                self.state.config.author.clone_from(name);
                self.record(format!("MAINTAINER {name}"));
                Ok(())
            }
            // A trigger is in the config and, as in Docker, not in the history.
            Kind::Onbuild(text) => {
                self.state.config.config.on_build.push(text.value.clone());
                Ok(())
            }
            // These have a vertex and are lowered elsewhere.
            Kind::Run(_) | Kind::Add(_) | Kind::Copy(_) | Kind::Workdir(_) => Ok(()),
        }
    }

    /// Keys and values, all expanded with what held before the instruction.
    fn pairs(&mut self, pairs: &[Pair], span: Span) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (key, value) = (self.expand(&pair.key)?, self.expand(&pair.value)?);
            if key.is_empty() {
                return Err(Diagnostic::error(pair.key.span, "the name is empty"));
            }
            self.planner.spend(key.len() + value.len(), span)?;
            expanded.push((key, value));
        }
        Ok(expanded)
    }

    fn env(&mut self, pairs: &[Pair], span: Span) -> Result<(), Diagnostic> {
        let pairs = self.pairs(pairs, span)?;
        for (name, value) in &pairs {
            self.state.scope.set_env(name, value);
        }
        self.record(listed("ENV", &pairs));
        Ok(())
    }

    fn label(&mut self, pairs: &[Pair], span: Span) -> Result<(), Diagnostic> {
        let pairs = self.pairs(pairs, span)?;
        self.record(listed("LABEL", &pairs));
        self.state.config.config.labels.extend(pairs);
        Ok(())
    }

    /// Each argument sees those before it in the same instruction.
    fn arg(&mut self, arg: &Arg) -> Result<(), Diagnostic> {
        let mut text = "ARG".to_owned();
        for declaration in &arg.declarations {
            let name = &declaration.name.value;
            if self.span.is_none() {
                self.planner.triggered_args.push(name.clone());
            }
            let given = self.planner.request.build_args.get(name).cloned();
            let value = match (given, &declaration.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(expand(default, &self.state.scope.environment)?),
                (None, None) => self.planner.globals.get(name).map(str::to_owned),
            };
            self.planner.spend(name.len() + value.as_ref().map_or(0, String::len), arg.span)?;
            self.state.scope.declare(name, value.as_deref());
            text = match value {
                Some(value) => format!("{text} {name}={value}"),
                None => format!("{text} {name}"),
            };
        }
        self.record(text);
        Ok(())
    }

    fn cmd(&mut self, command: &Command) -> Result<(), Diagnostic> {
        let command = self.command(command);
        self.record(format!("CMD {}", quoted_list(&command)));
        self.state.config.config.cmd = Some(command);
        self.has_command = true;
        Ok(())
    }

    /// An inherited CMD was meant for the inherited ENTRYPOINT.
    fn entrypoint(&mut self, command: &Command) -> Result<(), Diagnostic> {
        let command = self.command(command);
        self.record(format!("ENTRYPOINT {}", quoted_list(&command)));
        self.state.config.config.entrypoint = Some(command);
        if !self.has_command {
            self.state.config.config.cmd = None;
        }
        Ok(())
    }

    fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(argv) => argv.clone(),
            Command::Shell { text, .. } => self.in_shell(text.value.clone()),
        }
    }

    /// The command that runs `text` in the stage's shell.
    pub(super) fn in_shell(&self, text: String) -> Vec<String> {
        let mut argv = match &self.state.config.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
        };
        argv.push(text);
        argv
    }

    fn expose(&mut self, list: &[Word]) -> Result<(), Diagnostic> {
        let mut exposed = Vec::new();
        for word in list {
            for port in words(word, &self.state.scope.environment)? {
                let ports = ports::parse(&port).map_err(|fault| {
                    Diagnostic::error(word.span, format!("invalid port `{port}`")).help(fault)
                })?;
                exposed.extend(ports);
            }
        }
        self.record(format!("EXPOSE [{}]", exposed.join(" ")));
        self.state.config.config.exposed_ports.extend(exposed);
        Ok(())
    }

    fn volume(&mut self, list: &[Word]) -> Result<(), Diagnostic> {
        let mut volumes = Vec::new();
        for word in list {
            let path = self.expand(word)?;
            if path.is_empty() {
                return Err(Diagnostic::error(word.span, "the path of a volume is empty"));
            }
            volumes.push(path);
        }
        self.record(format!("VOLUME [{}]", volumes.join(" ")));
        self.state.config.config.volumes.extend(volumes);
        Ok(())
    }

    fn user(&mut self, user: &Word) -> Result<(), Diagnostic> {
        let user = self.expand(user)?;
        self.record(format!("USER {user}"));
        self.state.config.config.user = user;
        Ok(())
    }

    fn stop_signal(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let name = self.expand(word)?;
        if !signal::is_signal(&name) {
            return Err(Diagnostic::error(word.span, format!("`{name}` is no signal"))
                .did_you_mean(signal::nearest(&name).as_deref())
                .help("a signal is a number from 1 to 64 or a name like `SIGTERM`"));
        }
        self.record(format!("STOPSIGNAL {name}"));
        self.state.config.config.stop_signal = Some(name);
        Ok(())
    }

    fn healthcheck(&mut self, check: &Check) {
        let check = match check {
            Check::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
            Check::Check { command, interval, timeout, start_period, start_interval, retries } => {
                Healthcheck {
                    test: test(command),
                    interval: interval.unwrap_or(0),
                    timeout: timeout.unwrap_or(0),
                    start_period: start_period.unwrap_or(0),
                    start_interval: start_interval.unwrap_or(0),
                    retries: retries.unwrap_or(0),
                }
            }
        };
        self.record(format!(
            "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            check.test.join(" "),
            duration(check.interval),
            duration(check.timeout),
            duration(check.start_period),
            duration(check.start_interval),
            check.retries
        ));
        self.state.config.config.healthcheck = Some(check);
    }
}

/// The command of a HEALTHCHECK behind the word that says how it is run.
fn test(command: &Command) -> Vec<String> {
    let (kind, words) = match command {
        Command::Exec(argv) => ("CMD", argv.clone()),
        Command::Shell { text, .. } => ("CMD-SHELL", vec![text.value.clone()]),
    };
    std::iter::once(kind.to_owned()).chain(words).collect()
}

/// `ENV a=b c=d`
fn listed(instruction: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(instruction.to_owned(), |text, (key, value)| format!("{text} {key}={value}"))
}
