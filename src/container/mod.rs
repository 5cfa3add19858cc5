//! An image to a running process.
