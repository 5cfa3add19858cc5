//! Tests of the whole room: text in, JSON, typed instructions or diagnostics out.

mod errors;
mod expansion;
mod form;
mod properties;
mod typed;
