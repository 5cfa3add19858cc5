//! Whole builds, from a Dockerfile's text to layers, config and exported files, over a store of
//! their own and a base image made of the distribution's static busybox. They need root and that
//! busybox; where one is missing they say so and pass.

#[path = "builds/cache.rs"]
mod cache;
#[path = "builds/copy.rs"]
mod copy;
#[path = "builds/export.rs"]
mod export;
#[path = "builds/run.rs"]
mod run;
#[path = "builds/yard.rs"]
mod yard;
