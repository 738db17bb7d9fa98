//! The cell that holds the caller's code: a source or a tee's writer.
//!
//! Refuses to know what the code does.
//!
//! Rule: a task that runs the code takes it out of the cell first, and holds no lock. Another task meanwhile finds the
//! cell empty and goes on without the code. It is woken when the code is back, even after a panic.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::waiting::Flag;

pub(super) trait UserCode {
    /// Runs the code once. If it must wait, it wakes the context's waker when it can go on.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Answer>>;
}

/// What the code returned last.
pub(super) enum Answer {
    /// It can be run.
    Goes,
    /// It sets the flag when it can be run.
    Waits,
    Failed(io::Error),
    AtEnd,
}

impl Answer {
    /// Takes the error, if the code failed. The code is not run again.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match std::mem::replace(self, Answer::AtEnd) {
            Answer::Failed(error) => Some(error),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The code, and what it returned last.
pub(super) struct Asked<T> {
    pub(super) code: T,
    pub(super) answer: Answer,
}

/// Shared by the pipe and the task that runs the code.
pub(super) struct UserCodeCell<T: UserCode>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    /// `None` while a task runs it.
    asked: Option<Asked<T>>,
    /// Set when the code can go on.
    flag: Arc<Flag>,
    /// Another task found the cell empty.
    was_missed: bool,
}

impl<T: UserCode> UserCodeCell<T> {
    pub(super) fn new(code: T, flag: Arc<Flag>) -> Self {
        let asked = Some(Asked { code, answer: Answer::Goes });
        UserCodeCell(Arc::new(Mutex::new(Inner { asked, flag, was_missed: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `look` with the code, or returns `None` while a task runs the code.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut Asked<T>) -> R) -> Option<R> {
        self.step(|asked| Some(Some(look(asked))), |_| None)?
    }

    /// Calls `look` with the code. If that returns `None`, the code is taken out instead, for `run`. `None` while a task
    /// runs the code.
    pub(super) fn step<R>(
        &self,
        look: impl FnOnce(&mut Asked<T>) -> Option<R>,
        run: impl FnOnce(UserCodeGuard<T>) -> R,
    ) -> Option<R> {
        let mut guard = self.lock();
        let Inner { asked, flag, was_missed } = &mut *guard;
        *was_missed |= asked.is_none();
        let code = asked.as_mut()?;
        // The flag is not set again. So the answer notes that it was.
        if matches!(code.answer, Answer::Waits) && flag.take() {
            code.answer = Answer::Goes;
        }
        if let Some(found) = look(code) {
            return Some(found);
        }
        let (asked, flag) = (asked.take(), flag.clone());
        Some(run(UserCodeGuard { asked, flag, cell: UserCodeCell(self.0.clone()) }))
    }
}

/// Puts the code back when it is dropped. If the pipe is gone, the code is dropped too.
pub(super) struct UserCodeGuard<T: UserCode> {
    asked: Option<Asked<T>>,
    flag: Arc<Flag>,
    cell: UserCodeCell<T>,
}

impl<T: UserCode> UserCodeGuard<T> {
    pub(super) fn run(mut self) {
        let Some(Asked { code, answer }) = &mut self.asked else { return };
        *answer = match self.flag.wait(|cx| code.run(cx)) {
            Poll::Pending => Answer::Waits,
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Answer::Goes,
            Poll::Ready(Err(error)) => Answer::Failed(error),
        };
    }
}

impl<T: UserCode> Drop for UserCodeGuard<T> {
    fn drop(&mut self) {
        let (was_missed, waits) = {
            let mut inner = self.cell.lock();
            inner.asked = self.asked.take();
            let waits = matches!(&inner.asked, Some(Asked { answer: Answer::Waits, .. }));
            (std::mem::take(&mut inner.was_missed), waits)
        };
        // If the code waits, it wakes all tasks itself. Code that polls a handle of its own child misses itself each time.
        if was_missed && !waits || std::thread::panicking() {
            self.flag.wake_all_later();
        }
    }
}
