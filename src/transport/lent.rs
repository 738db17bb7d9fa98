//! Code of the user's, a source or a copy, and its place.
//!
//! Refuses to know what the code does.
//!
//! Rule: whoever calls it takes it out of its place, and calls it with no lock held. Whoever looks meanwhile finds the
//! place empty, goes on without it, and is woken once it is back: also after a panic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::waiting::Flag;

pub(super) trait Code {
    /// Calls it.
    fn ask(&mut self);

    /// Set once it has more to say.
    fn flag(&self) -> &Arc<Flag>;
}

/// Shared by the pipe and whoever calls the code.
pub(super) struct Place<T: Code>(Arc<Mutex<Kept<T>>>);

struct Kept<T> {
    /// `None` while somebody calls it.
    code: Option<T>,
    /// Somebody has looked meanwhile.
    was_missed: bool,
}

impl<T: Code> Place<T> {
    pub(super) fn new(code: T) -> Self {
        Place(Arc::new(Mutex::new(Kept { code: Some(code), was_missed: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of what is there, or `None` while somebody calls it.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut kept = self.lock();
        kept.was_missed |= kept.code.is_none();
        kept.code.as_mut().map(look)
    }

    /// Takes it out, to be called.
    pub(super) fn lend(&self) -> Option<Lent<T>> {
        let code = self.lock().code.take()?;
        Some(Lent { code: Some(code), place: Place(self.0.clone()) })
    }
}

/// It goes back to its place when this is dropped; if the pipe is gone, it is dropped as well.
pub(super) struct Lent<T: Code> {
    code: Option<T>,
    place: Place<T>,
}

impl<T: Code> Lent<T> {
    pub(super) fn ask(mut self) {
        self.code.iter_mut().for_each(T::ask);
    }
}

impl<T: Code> Drop for Lent<T> {
    fn drop(&mut self) {
        let flag = self.code.as_ref().map(|code| code.flag().clone());
        let was_missed = {
            let mut kept = self.place.lock();
            kept.code = self.code.take();
            std::mem::take(&mut kept.was_missed)
        };
        if was_missed || std::thread::panicking() {
            flag.iter().for_each(|flag| flag.wake_all_later());
        }
    }
}

impl<T: Code> std::fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("is_lent", &self.lock().code.is_none()).finish_non_exhaustive()
    }
}
