//! The scheduler: keys, records, and steps that run as soon as their inputs are there.
//!
//! In: a graph of [`Node`]s, inputs before users, and [`Records`] of earlier builds. Out: the
//! output of every node. It knows operations only through [`Work`] and what is kept between
//! builds only through [`Records`]; it reads no file and holds no database.
//!
//! What it promises:
//!
//! - A step starts as soon as its inputs are there and one of `parallel` threads is free; while
//!   there is never more than one step ready, all of them run on the caller's thread.
//! - Steps with equal keys run once in a build. Between builds and processes the lock of a key
//!   keeps them apart: who had to wait for it looks for a record again before it runs. A step
//!   waits for the lock of its own key only and holds no other while it waits, so builds cannot
//!   block each other for ever.
//! - A key is made from the outputs of the inputs, not from how they came to be: a step that ran
//!   again and came to the same output disturbs nothing after it (early cutoff).
//! - The first failure starts nothing more and cancels what runs; its error is the one returned.
//!   A panic in a step is such a failure.

mod cancel;
mod error;
mod schedule;
mod work;

#[cfg(test)]
mod tests;

pub use cancel::{Cancel, CancelWatch};
pub use error::SolveError;
pub use schedule::solve;
pub use work::{Keyed, Node, Ran, Records, RunResult, Step, Work};
