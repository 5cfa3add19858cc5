//! COPY and ADD: what is copied where is settled by name ([`selection`]), from trees that nobody
//! mounts ([`source`]), before anything is read; then it is streamed into a layer ([`step`]).

pub mod archive;
pub mod chmod;
pub mod context;
pub mod error;
mod explain;
pub mod layers;
pub mod owner;
pub mod pattern;
pub mod placing;
pub mod selection;
pub mod source;
pub mod step;
pub mod tree;

#[cfg(test)]
mod tests;
