//! Ctrl-C: the first one asks the build to end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::error::{Error, Result};
use crate::build::solve::Cancel;

/// Signals that end a build, as long as this lives.
pub struct Interrupt {
    cancel: Cancel,
    caught: Arc<AtomicU8>,
    handle: Handle,
}

impl Interrupt {
    /// Takes the signals over.
    pub fn new() -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::Signals)?;
        let handle = signals.handle();
        let cancel = Cancel::new();
        let caught = Arc::new(AtomicU8::new(0));
        let (thrown, first) = (cancel.clone(), Arc::clone(&caught));
        let watch = move || {
            for signal in signals.forever() {
                let signal = u8::try_from(signal).unwrap_or(0);
                if first.swap(signal, Ordering::Relaxed) != 0 {
                    std::process::exit(128 + i32::from(signal));
                }
                thrown.cancel();
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(Error::Signals)?;
        Ok(Self { cancel, caught, handle })
    }

    /// What a signal throws.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The signal that came, if one did.
    pub fn caught(&self) -> Option<u8> {
        Some(self.caught.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.handle.close();
    }
}
