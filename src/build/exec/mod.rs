//! Runs operations, a file per operation.
