//! Tests of the whole room: text in, JSON, typed instructions or diagnostics out.

mod form;
