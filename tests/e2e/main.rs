//! Whole builds and runs on real input, judged by programs that are not kiln's: skopeo, umoci,
//! crun and GNU tar. Base images are made from Debian's packages.
//!
//! Root is needed, and the packages that `tests/run` installs. `KILN_TEST_OFFLINE=1` leaves out
//! the tests whose RUN steps reach package registries.

mod builds;
mod harness;
mod images;
mod layers;
mod peers;
mod registries;
mod running;
mod steps;
