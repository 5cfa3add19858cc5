//! Instructions to a graph. In: a [`Dockerfile`](crate::dockerfile::instruction::Dockerfile), the
//! arguments of a build, and a resolver of images. Out: vertices of plain data, and for the
//! target its config and history. Reads no file and runs nothing.

pub mod operation;
