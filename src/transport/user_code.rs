//! The cell that holds the caller's code: a source or a tee's writer.
//!
//! Refuses to know what the code does.
//!
//! Rule: a task that runs the code takes it out of the cell first, and holds no lock. Another task meanwhile finds the
//! cell empty and goes on without the code. It is woken when the code is back, even after a panic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::waiting::Flag;

pub(super) trait UserCode {
    /// Runs the code once.
    fn ask(&mut self);

    /// Set when the code has more to do.
    fn flag(&self) -> &Arc<Flag>;
}

/// Shared by the pipe and the task that runs the code.
pub(super) struct UserCodeCell<T: UserCode>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    /// `None` while a task runs it.
    code: Option<T>,
    /// Another task found the cell empty.
    was_missed: bool,
}

impl<T: UserCode> UserCodeCell<T> {
    pub(super) fn new(code: T) -> Self {
        UserCodeCell(Arc::new(Mutex::new(Inner { code: Some(code), was_missed: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `look` with the code, or returns `None` while a task runs the code.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.step(|code| Some(look(code)))?.ok()
    }

    /// Calls `look` with the code. If that returns `None`, the code is taken out instead, to run it. `None` while a task runs
    /// the code.
    pub(super) fn step<R>(
        &self,
        look: impl FnOnce(&mut T) -> Option<R>,
    ) -> Option<Result<R, UserCodeGuard<T>>> {
        let mut inner = self.lock();
        inner.was_missed |= inner.code.is_none();
        if let Some(found) = look(inner.code.as_mut()?) {
            return Some(Ok(found));
        }
        let code = inner.code.take();
        Some(Err(UserCodeGuard { code, cell: UserCodeCell(self.0.clone()) }))
    }
}

/// Puts the code back when it is dropped. If the pipe is gone, the code is dropped too.
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
