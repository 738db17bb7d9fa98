//! UserCode of the user's, a source or a copy, and its place.
//!
//! Refuses to know what the code does.
//!
//! Rule: whoever calls it takes it out of its place, and calls it with no lock held. Whoever looks meanwhile finds the
//! place empty, goes on without it, and is woken once it is back: also after a panic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::waiting::Flag;

pub(super) trait UserCode {
    /// Calls it.
    fn ask(&mut self);

    /// Set once it has more to say.
    fn flag(&self) -> &Arc<Flag>;
}

/// Shared by the pipe and whoever calls the code.
pub(super) struct UserCodeCell<T: UserCode>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    /// `None` while somebody calls it.
    code: Option<T>,
    /// Somebody has looked meanwhile.
    was_missed: bool,
}

impl<T: UserCode> UserCodeCell<T> {
    pub(super) fn new(code: T) -> Self {
        UserCodeCell(Arc::new(Mutex::new(Inner { code: Some(code), was_missed: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of what is there, or `None` while somebody calls it.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut inner = self.lock();
        inner.was_missed |= inner.code.is_none();
        inner.code.as_mut().map(look)
    }

    /// Takes it out, to be called.
    pub(super) fn try_take(&self) -> Option<UserCodeGuard<T>> {
        let code = self.lock().code.take()?;
        Some(UserCodeGuard { code: Some(code), cell: UserCodeCell(self.0.clone()) })
    }
}

/// It goes back to its place when this is dropped; if the pipe is gone, it is dropped as well.
pub(super) struct UserCodeGuard<T: UserCode> {
    code: Option<T>,
    cell: UserCodeCell<T>,
}

impl<T: UserCode> UserCodeGuard<T> {
    pub(super) fn ask(mut self) {
        self.code.iter_mut().for_each(T::ask);
    }
}

impl<T: UserCode> Drop for UserCodeGuard<T> {
    fn drop(&mut self) {
        let flag = self.code.as_ref().map(|code| code.flag().clone());
        let was_missed = {
            let mut inner = self.cell.lock();
            inner.code = self.code.take();
            std::mem::take(&mut inner.was_missed)
        };
        if was_missed || std::thread::panicking() {
            flag.iter().for_each(|flag| flag.wake_all_later());
        }
    }
}

impl<T: UserCode> std::fmt::Debug for UserCodeCell<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserCodeCell")
            .field("is_running", &self.lock().code.is_none())
            .finish_non_exhaustive()
    }
}
