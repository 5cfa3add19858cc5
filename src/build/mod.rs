//! A build request to a build result.

pub mod context;
pub mod exec;
pub mod export;
pub mod plan;
pub mod solve;
