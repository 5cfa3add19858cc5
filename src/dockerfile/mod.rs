//! Text to typed instructions. In: the text of a Dockerfile or an ignore file. Out: typed
//! instructions with spans, or diagnostics. Pure: no file, environment variable or network is
//! touched. Follows the Dockerfile reference.

pub mod instruction;
