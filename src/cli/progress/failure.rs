//! What is said when all is over: warnings, and the last output of what failed.

use std::fmt::Write;
use std::time::Duration;

use super::state::State;
use super::text;

/// The last output of each step that failed and the warnings, for the end of a build.
pub fn summary(state: &State, colour: bool) -> String {
    let mut summary = last_output(state);
    if !state.warnings.is_empty() {
        let count = state.warnings.len();
        let title = format!("{count} warning{} found:", if count == 1 { "" } else { "s" });
        let (on, off) = if colour { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(summary, "\n {on}{title}{off}");
        for warning in &state.warnings {
            let _ = writeln!(summary, " - {}", one_line(warning));
        }
    }
    summary
}

/// The last output of each step that failed.
pub fn last_output(state: &State) -> String {
    let mut summary = String::new();
    for step in state.failed() {
        let _ = writeln!(summary, "------\n > {}:", one_line(&step.name));
        for (elapsed, line) in &step.tail {
            let _ = writeln!(summary, "{} {line}", stamp(*elapsed));
        }
        summary.push_str("------\n");
    }
    summary
}

/// Seconds since a step began, in five characters up to 10,000 seconds.
pub fn stamp(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let digits = match seconds {
        seconds if seconds < 10.0 => 3,
        seconds if seconds < 100.0 => 2,
        _ => 1,
    };
    format!("{seconds:.digits$}")
}

/// A text on one line: what the user wrote into names and messages cannot draw on the screen.
pub fn one_line(name: &str) -> String {
    let joined: Vec<&str> = name.split(['\n', '\r']).collect();
    text::clean(joined.join(" ").as_bytes())
}
