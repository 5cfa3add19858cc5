//! Progress on a terminal: a picture of the steps, drawn anew ten times a second.
//!
//! ```text
//! [+] Building 3.2s (5/7)
//!  => CACHED [1/3] FROM busybox                  0.0s
//!  => [2/3] RUN make                             3.1s
//!  => => # cc -c a.c
//! ```
//!
//! [`frame`] makes the picture and knows no terminal; indicatif puts it on the screen.

use std::time::Duration;

use console::measure_text_width;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::state::{State, Status, Step};
use super::text::fit;
use super::{FRAMES_PER_SECOND, View, failure};
use crate::base::event::Event;

/// How many lines of output a running step shows.
const OUTPUT_LINES: usize = 6;
const SMALLEST: (usize, usize) = (20, 4);

/// The view.
pub struct Tty {
    state: State,
    bar: ProgressBar,
    colour: bool,
}

impl Tty {
    /// A view on standard error.
    pub fn new(colour: bool) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND);
        let style =
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Self { state: State::default(), bar, colour }
    }

    fn draw(&self, now: Duration) {
        let (height, width) = console::Term::stderr().size();
        let size = Size { width: width.into(), height: Some(usize::from(height)) };
        // The cursor rests on an empty line, so that what the terminal echoes spoils no line.
        let mut picture = frame(&self.state, now, size, self.colour, "");
        picture.push(String::new());
        self.bar.set_message(picture.join("\n"));
    }
}

impl View for Tty {
    fn event(&mut self, event: &Event, now: Duration) {
        self.state.apply(event, now, |_, _| {});
    }

    fn tick(&mut self, now: Duration) {
        self.draw(now);
    }

    fn finish(&mut self, now: Duration, ok: bool) {
        self.bar.finish_and_clear();
        let (_, width) = console::Term::stderr().size();
        let size = Size { width: width.into(), height: None };
        let ending = if ok { " FINISHED" } else { "" };
        let mut text = frame(&self.state, now, size, self.colour, ending).join("\n");
        text.push('\n');
        text.push_str(&failure::summary(&self.state, self.colour));
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    }
}

/// How much room there is, in characters; without a height all finished steps are shown.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: Option<usize>,
}

/// The picture at `now`, a line each.
pub fn frame(state: &State, now: Duration, size: Size, colour: bool, ending: &str) -> Vec<String> {
    let width = size.width.max(SMALLEST.0) - 1;
    let (over, all) = state.count();
    let header = format!("[+] Building {:.1}s ({over}/{all}){ending}", now.as_secs_f64());
    let mut blocks: Vec<(bool, Vec<String>)> = Vec::new();
    for vertex in &state.shown {
        if let Some(step) = state.steps.get(vertex) {
            blocks.push((step.over(), block(step, now, width, colour, size.height.is_some())));
        }
    }
    if let Some(height) = size.height {
        collapse(&mut blocks, height.max(SMALLEST.1) - 3);
    }
    let lines = blocks.into_iter().flat_map(|(_, lines)| lines);
    std::iter::once(fit(&header, width).into_owned()).chain(lines).collect()
}

/// Takes away what does not fit: finished steps first, the oldest before the others, then lines
/// of output, then running steps.
fn collapse(blocks: &mut Vec<(bool, Vec<String>)>, room: usize) {
    let used = |blocks: &[(bool, Vec<String>)]| blocks.iter().map(|(_, lines)| lines.len()).sum::<usize>();
    while used(blocks) > room {
        if let Some(finished) = blocks.iter().position(|(over, _)| *over) {
            blocks.remove(finished);
        } else if let Some((_, lines)) = blocks.iter_mut().rev().find(|(_, lines)| lines.len() > 1) {
            lines.pop();
        } else if blocks.pop().is_none() {
            return;
        }
    }
}

fn block(step: &Step, now: Duration, width: usize, colour: bool, live: bool) -> Vec<String> {
    let name = failure::one_line(&step.name);
    let (label, paint) = match &step.status {
        Status::Waiting | Status::Running => (name, ""),
        Status::Cached => (format!("CACHED {name}"), "\x1b[34m"),
        Status::Done(_) => (name, "\x1b[34m"),
        Status::Failed(_) => (format!("ERROR {name}"), "\x1b[31m"),
        Status::Cancelled => (format!("CANCELED {name}"), "\x1b[33m"),
    };
    let mut lines = vec![row(&format!(" => {label}"), step.elapsed(now), width, colour.then_some(paint))];
    if !live && step.tasks.is_empty() {
        return lines;
    }
    for task in &step.tasks {
        let text = format!(" => => {}{}", failure::one_line(&task.what), task.amount());
        let paint = if task.done { "\x1b[34m" } else { "" };
        lines.push(row(&text, task.elapsed(now), width, colour.then_some(paint)));
    }
    if live && step.status == Status::Running {
        let output = step.last_lines(OUTPUT_LINES);
        lines.extend(output.iter().map(|line| fit(&format!(" => => # {line}"), width).into_owned()));
    }
    lines
}

/// `text` on the left, the time at the right edge.
fn row(text: &str, elapsed: Duration, width: usize, paint: Option<&str>) -> String {
    let time = format!("{:.1}s", elapsed.as_secs_f64());
    let room = width.saturating_sub(time.len() + 1);
    let shown = fit(text, room);
    let blanks = width.saturating_sub(measure_text_width(&shown) + time.len());
    let line = format!("{shown}{}{time}", " ".repeat(blanks));
    match paint {
        Some(paint) if !paint.is_empty() => format!("{paint}{line}\x1b[0m"),
        _ => line,
    }
}
