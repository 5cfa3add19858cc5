//! No progress; if the build fails, the last output of what failed all the same.

use std::io::Write;
use std::time::Duration;

use super::state::State;
use super::{View, failure};
use crate::base::event::Event;

/// The view.
pub struct Quiet<W> {
    output: W,
    state: State,
}

impl<W: Write> Quiet<W> {
    /// A view that writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output, state: State::default() }
    }
}

impl<W: Write + Send> View for Quiet<W> {
    fn event(&mut self, event: &Event, now: Duration) {
        self.state.apply(event, now, |_, _| {});
    }

    fn tick(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, ok: bool) {
        if !ok {
            let _ = self.output.write_all(failure::last_output(&self.state).as_bytes());
        }
    }
}
