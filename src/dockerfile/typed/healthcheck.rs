//! HEALTHCHECK (reference, "HEALTHCHECK").

use crate::base::diagnostic::Diagnostic;
use crate::base::similar::nearest;
use crate::base::span::Span;

use super::Typer;
use crate::dockerfile::flags::{Flags, Takes};
use crate::dockerfile::instruction::{Command, Healthcheck};
use crate::dockerfile::syntax::Args;
use crate::dockerfile::values;

impl Typer<'_> {
    pub(super) fn healthcheck(&mut self) -> Option<Healthcheck> {
        let flags = self.flags(&[
            ("interval", Takes::Value),
            ("timeout", Takes::Value),
            ("start-period", Takes::Value),
            ("start-interval", Takes::Value),
            ("retries", Takes::Value),
        ]);
        let Args::Health(Some((word, command))) = &self.form.args else {
            return self.missing("`CMD command` or `NONE`");
        };
        let command = self
            .command(command)
            .filter(|command| !matches!(command, Command::Exec(argv) if argv.is_empty()));
        match word.as_str().to_ascii_uppercase().as_str() {
            "NONE" => {
                if command.is_some() {
                    let span = Span::new(word.whole().end, self.form.text.whole().end);
                    self.fault(
                        span,
                        "nothing can follow `HEALTHCHECK NONE`",
                        "write `HEALTHCHECK CMD …` to set a check",
                    );
                }
                Some(Healthcheck::None)
            }
            "CMD" => {
                let Some(command) = command else {
                    self.fault(
                        word.whole(),
                        "HEALTHCHECK CMD needs a command",
                        "write `HEALTHCHECK NONE` to have no check",
                    );
                    return None;
                };
                Some(Healthcheck::Check {
                    command,
                    interval: self.duration(&flags, "interval"),
                    timeout: self.duration(&flags, "timeout"),
                    start_period: self.duration(&flags, "start-period"),
                    start_interval: self.duration(&flags, "start-interval"),
                    retries: self.retries(&flags),
                })
            }
            _ => {
                let fault = Diagnostic::error(
                    word.whole(),
                    format!("HEALTHCHECK takes CMD or NONE, not `{}`", word.as_str()),
                );
                self.faults.push(fault.did_you_mean(nearest(word.as_str(), ["CMD", "NONE"])));
                None
            }
        }
    }

    /// A duration of at least a millisecond; zero counts as not given.
    fn duration(&mut self, flags: &Flags, name: &str) -> Option<u64> {
        const LEAST: i64 = 1_000_000;
        let text = flags.text(name)?;
        match values::duration(&text.value) {
            Ok(0) => None,
            Ok(duration) if duration >= LEAST => u64::try_from(duration).ok(),
            Ok(_) => {
                let message = format!("`--{name}` cannot be less than 1ms");
                self.faults.push(Diagnostic::error(text.span, message));
                None
            }
            Err(message) => {
                self.faults.push(Diagnostic::error(text.span, message));
                None
            }
        }
    }

    fn retries(&mut self, flags: &Flags) -> Option<u32> {
        let text = flags.text("retries")?;
        let retries = text.value.parse::<i32>().ok().and_then(|retries| u32::try_from(retries).ok());
        if retries.is_none() {
            self.faults
                .push(Diagnostic::error(text.span, format!("`{}` is no number of retries", text.value)));
        }
        retries
    }
}
