//! A pipe out of the child, and where a copy of it goes.
//!
//! Rule: what is read is handed on only after the copy has taken it, so the child runs no faster than
//! that.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use super::bell::{Bell, Task};
use super::clock::Activity;
use super::inlet::Inlet;
use super::patience::Patience;
use super::pipe::ReadEnd;
use crate::spawn::Pipe;
use crate::stdio::BoxWriter;

#[derive(Debug)]
pub(crate) struct Outlet {
    pipe: ReadEnd,
    bell: Bell,
    /// In a box, since few have one.
    tee: Option<Box<Tee>>,
    /// Where the pipe is a terminal. It hangs up when this is dropped before its end of file.
    terminal: Option<Arc<Terminal>>,
    activity: Option<Activity>,
}

/// A terminal of a child's, held open until it is emptied or the child was reaped. Its end of file comes
/// when the child has closed it; hanging up then would still hit the child, on its way out, with SIGHUP.
#[derive(Debug)]
pub(super) struct Terminal {
    held: Mutex<Option<Pipe>>,
    /// What is typed there holds it open as well.
    typed: OnceLock<Arc<Inlet>>,
}

impl Terminal {
    pub(super) fn new(held: Pipe) -> Arc<Self> {
        Arc::new(Terminal { held: Mutex::new(Some(held)), typed: OnceLock::new() })
    }

    /// Its end is the end of what is typed.
    pub(super) fn is_typed_into(&self, inlet: &Arc<Inlet>) {
        // A terminal has one.
        let _: Result<(), Arc<Inlet>> = self.typed.set(inlet.clone());
    }

    pub(super) fn hang_up(&self) {
        self.held().take();
        self.typed.get().into_iter().for_each(|inlet| inlet.close());
    }

    /// Empty once it was hung up.
    pub(super) fn held(&self) -> MutexGuard<'_, Option<Pipe>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.terminal.iter().for_each(|terminal| terminal.hang_up());
    }
}

struct Tee {
    /// Never locked: it makes what need not be `Sync` so.
    copy: Mutex<BoxWriter>,
    /// Read, and not yet handed on.
    chunk: Vec<u8>,
    /// So much of it was copied.
    copied: usize,
    end_of_file: bool,
}

impl Outlet {
    pub(super) fn new(
        pipe: Pipe,
        copy: Option<BoxWriter>,
        terminal: Option<Arc<Terminal>>,
        task: &Task,
        activity: Option<Activity>,
    ) -> io::Result<Self> {
        let tee = copy.map(|copy| {
            Box::new(Tee { copy: Mutex::new(copy), chunk: Vec::new(), copied: 0, end_of_file: false })
        });
        Ok(Outlet { pipe: ReadEnd::new(pipe)?, bell: task.bell(), tee, terminal, activity })
    }

    /// What is read is secret.
    #[cfg(unix)]
    pub(super) fn wipe(&mut self) {
        self.pipe.wipe();
    }

    /// There is likely something to read: try before waiting to be told.
    pub(super) fn look(&mut self) {
        self.pipe.look();
    }

    /// Appends what one read gives; 0 is end of file. Where there is nothing, the task is woken once there is,
    /// unless the caller looks again by itself.
    pub(super) fn poll_read(
        &mut self,
        looks_again: bool,
        buffer: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = match &mut self.tee {
            None => ready!(self.pipe.poll_read(&self.bell, looks_again, buffer)),
            Some(tee) => {
                let result = ready!(tee.poll_read(&mut self.pipe, &self.bell, looks_again, cx));
                let count = tee.chunk.len();
                buffer.append(&mut tee.chunk);
                tee.copied = 0;
                result.map(|()| count)
            }
        };
        self.noted(read)
    }

    fn noted(&mut self, read: io::Result<usize>) -> Poll<io::Result<usize>> {
        match (&read, &self.activity) {
            (Ok(0), _) => self.terminal = None,
            (Ok(count), Some(activity)) => activity.moved(*count),
            _ => {}
        }
        Poll::Ready(read)
    }

    /// Appends what is there at this moment; the copy goes without it. Whether it is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        let before = buffer.len();
        if let Some(tee) = &mut self.tee {
            buffer.append(&mut tee.chunk);
        }
        let at_end = self.pipe.drain(buffer);
        self.activity.iter().for_each(|activity| activity.moved(buffer.len() - before));
        at_end
    }
}

impl Tee {
    /// Ready when a chunk was read and copied, or at the end of file when the copy is complete.
    fn poll_read(
        &mut self,
        pipe: &mut ReadEnd,
        bell: &Bell,
        looks_again: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.chunk.is_empty() && !self.end_of_file {
            self.end_of_file = ready!(pipe.poll_read(bell, looks_again, &mut self.chunk))? == 0;
        }
        let mut copy = self.copy.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut();
        while self.copied < self.chunk.len() {
            match ready!(copy.as_mut().poll_write(cx, &self.chunk[self.copied..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.copied += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.end_of_file { copy.poll_close(cx) } else { Poll::Ready(Ok(())) }
    }
}

/// A pipe out of the child that the user reads, in a task of its own.
#[derive(Debug)]
pub(crate) struct Taken {
    // Dropped first, so that dropping the rest wakes nobody.
    task: Task,
    outlet: Outlet,
    patience: Patience,
}

impl Taken {
    pub(super) fn new(mut outlet: Outlet) -> Self {
        let task = Task::default();
        outlet.bell = task.bell();
        // Whatever the bell before has told, it may be told no more.
        outlet.look();
        Taken { outlet, task, patience: Patience::default() }
    }

    /// Appends what one read gives; 0 is end of file.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |outlet, looks_again, cx| outlet.poll_read(looks_again, buffer, cx))
    }

    /// Whether `poll_read_into` can be used: nothing is to be copied.
    #[cfg(unix)]
    pub(crate) fn reads_directly(&self) -> bool {
        self.outlet.tee.is_none()
    }

    /// One read into the buffer; 0 is end of file.
    #[cfg(unix)]
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |outlet, looks_again, _| {
            let read = ready!(outlet.pipe.poll_read_into(&outlet.bell, looks_again, buffer));
            if buffer.is_empty() { Poll::Ready(read) } else { outlet.noted(read) }
        })
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Outlet, bool, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.task.register(cx);
        loop {
            let looks_again = self.patience.once_more();
            match read(&mut self.outlet, looks_again, cx) {
                Poll::Ready(read) => {
                    self.patience.paid(read.as_ref().map_or(0, |count| *count));
                    return Poll::Ready(read);
                }
                Poll::Pending if looks_again => {
                    self.patience.wait();
                    self.outlet.look();
                }
                Poll::Pending => {
                    self.patience.in_vain();
                    return Poll::Pending;
                }
            }
        }
    }
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tee").field("waiting", &(self.chunk.len() - self.copied)).finish_non_exhaustive()
    }
}
