//! One switch that ends a build, from any thread.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use rustix::event::EventfdFlags;

type Callback = Box<dyn Fn() + Send + Sync>;

/// A switch that can be thrown once. Clones are the same switch.
///
/// Who works in a loop asks [`is_cancelled`](Self::is_cancelled); who waits in `poll` adds
/// [`fd`](Self::fd); who does neither has a callback run by [`watch`](Self::watch).
#[derive(Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Default)]
struct Switch {
    thrown: AtomicBool,
    /// Made when first asked for: a cached build never needs it.
    event: OnceLock<OwnedFd>,
    /// What is told when the switch is thrown.
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    callbacks: Vec<(u64, Callback)>,
    next: u64,
}

/// Gives up a callback when dropped.
#[must_use = "the callback is given up as soon as this is dropped"]
pub struct CancelWatch {
    switch: Weak<Switch>,
    number: u64,
}

impl Cancel {
    /// A switch that is not thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Throws the switch; doing so again does nothing. Not for use in a signal handler.
    pub fn cancel(&self) {
        let callbacks = {
            let mut watches = self.0.lock();
            if self.0.thrown.swap(true, Ordering::SeqCst) {
                return;
            }
            if let Some(event) = self.0.event.get() {
                raise(event);
            }
            std::mem::take(&mut watches.callbacks)
        };
        callbacks.iter().for_each(|(_, callback)| callback());
    }

    /// Whether the switch was thrown.
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::SeqCst)
    }

    /// A descriptor that is readable from the moment the switch is thrown. Never read from it:
    /// everybody polls the same one.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(event) = self.0.event.get() {
            return Ok(event.as_fd());
        }
        // The lock keeps `cancel` from passing between the two steps.
        let _watches = self.0.lock();
        if self.0.event.get().is_none() {
            let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            if self.is_cancelled() {
                raise(&event);
            }
            let _ = self.0.event.set(event);
        }
        Ok(self.0.event.get().expect("set above, under the lock").as_fd())
    }

    /// Runs `callback` when the switch is thrown, on the thread that throws it, or at once if it
    /// is thrown already; no more once the watch is dropped.
    pub fn watch(&self, callback: impl Fn() + Send + Sync + 'static) -> CancelWatch {
        let mut watches = self.0.lock();
        let number = watches.next;
        watches.next += 1;
        if self.is_cancelled() {
            drop(watches);
            callback();
        } else {
            watches.callbacks.push((number, Box::new(callback)));
        }
        CancelWatch { switch: Arc::downgrade(&self.0), number }
    }

    /// A switch of its own that is thrown with this one too.
    pub(super) fn child(&self) -> (Cancel, CancelWatch) {
        let child = Cancel::new();
        let weak = Arc::downgrade(&child.0);
        let watch = self.watch(move || {
            if let Some(switch) = weak.upgrade() {
                Cancel(switch).cancel();
            }
        });
        (child, watch)
    }
}

impl Switch {
    fn lock(&self) -> MutexGuard<'_, Watches> {
        // Nothing that can panic runs under this lock.
        self.watches.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for CancelWatch {
    fn drop(&mut self) {
        if let Some(switch) = self.switch.upgrade() {
            let mut watches = switch.lock();
            let place = watches.callbacks.iter().position(|(number, _)| *number == self.number);
            let callback = place.map(|place| watches.callbacks.swap_remove(place));
            // What the callback holds is let go without the lock.
            drop(watches);
            drop(callback);
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// Makes an event descriptor readable for good. Its count starts at 0, so the write cannot block.
fn raise(event: &OwnedFd) {
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use rustix::event::{PollFd, PollFlags, Timespec};

    use super::*;

    fn readable(cancel: &Cancel) -> bool {
        let fd = cancel.fd().unwrap();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn the_descriptor_tells_before_and_after() {
        let cancel = Cancel::new();
        assert!(!readable(&cancel) && !cancel.is_cancelled());
        cancel.clone().cancel();
        cancel.cancel();
        assert!(readable(&cancel) && readable(&cancel) && cancel.is_cancelled());
        let late = Cancel::new();
        late.cancel();
        assert!(readable(&late));
    }

    #[test]
    fn watches_run_once_and_can_be_given_up() {
        let count = Arc::new(AtomicUsize::new(0));
        let add = |by: usize| {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(by, Ordering::SeqCst);
            }
        };
        let cancel = Cancel::new();
        let kept = cancel.watch(add(1));
        drop(cancel.watch(add(10)));
        cancel.cancel();
        cancel.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let late = cancel.watch(add(100));
        assert_eq!(count.load(Ordering::SeqCst), 101);
        drop((kept, late));
    }

    #[test]
    fn a_child_follows_its_parent_but_not_the_reverse() {
        let parent = Cancel::new();
        let (first, _watch) = parent.child();
        let (second, _watch) = parent.child();
        first.cancel();
        assert!(!parent.is_cancelled() && !second.is_cancelled());
        parent.cancel();
        assert!(second.is_cancelled() && readable(&second));
    }
}
