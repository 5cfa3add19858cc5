//! Text to typed instructions. In: the text of a Dockerfile or an ignore file. Out: typed
//! instructions with spans, or diagnostics. Pure: no file, environment variable or network is
//! touched. Follows the Dockerfile reference.
//!
//! ```text
//! text ─lines─▶ logical lines ─syntax─▶ forms ─typed─▶ instructions ─expand─▶ texts
//!                               │ (pest)       (pest: words)
//!                               └─dump─▶ JSON
//! ```
//!
//! No input makes it panic, recurse without bound, or take more than time in proportion to its
//! size. All faults of a file are collected, each with the place of exactly what is wrong.

mod dump;
pub mod expand;
mod flags;
mod grammar;
pub mod ignore;
pub mod instruction;
mod lines;
mod mount;
mod parse;
pub mod pattern;
pub mod properties;
mod syntax;
mod text;
mod typed;
pub mod values;
mod word;

pub use dump::dump;
pub use parse::{parse, parse_change, parse_trigger};
pub use syntax::{File, Form, parse_form};
pub use word::parse_word;

/// The largest Dockerfile that is read, in bytes.
pub const MAX_SIZE: usize = 32 << 20;

/// The longest instruction, in bytes, bodies of here-documents not counted. The kernel takes no
/// command of an eighth of it.
pub const MAX_INSTRUCTION: usize = 1 << 20;

/// The most instructions of a file.
pub const MAX_INSTRUCTIONS: usize = 50_000;

/// The most faults of a file that are told.
pub const MAX_FAULTS: usize = 50;

#[cfg(test)]
mod tests;
