//! The terminal of a child, as a whole: what it shows and what is typed are pipes like others, but it closes as one.
//!
//! Refuses to know what is shown and typed.
//!
//! Rules:
//! - It hangs up when nobody here has it open any more, and then the child gets SIGHUP.
//! - The end of file that the user types by closing the writer is a character (termios(3), VEOF). It is owed until there
//!   is room for it.
//! - While the child lives, EIO only says that nobody has the terminal open *now*: ssh, sudo and login close it and open
//!   `/dev/tty` again. So where that is known to work, the parent holds the child's side open as well, and closes it when
//!   the child was reaped; then the end of file comes.

#[cfg(unix)]
use std::io;
use std::io::IoSlice;
#[cfg(unix)]
use std::os::fd::AsFd;
use std::task::Poll;

use super::pipe::{Armed, WriteEnd};
use crate::spawn::Pipe;
#[cfg(unix)]
use crate::spawn::resize;
#[cfg(unix)]
use crate::stdio::PtySize;

#[derive(Debug)]
pub(super) struct Terminal {
    /// Empty once it was hung up.
    master: Option<Pipe>,
    child_end: Option<Pipe>,
    owed: Option<Owed>,
}

/// An end of file for which there was no room.
#[derive(Debug)]
struct Owed {
    pipe: WriteEnd,
    /// Within a line, the first one only hands out the line so far.
    characters: &'static [u8],
}

impl Terminal {
    pub(super) fn new(master: Pipe, child_end: Option<Pipe>) -> Self {
        Terminal { master: Some(master), child_end, owed: None }
    }

    /// Types an end of file, as soon as there is room.
    pub(super) fn owe_end(&mut self, pipe: WriteEnd, within_line: bool) {
        if self.master.is_some() {
            self.owed = Some(Owed { pipe, characters: if within_line { b"\x04\x04" } else { b"\x04" } });
        }
    }

    /// Types some of what is owed. Whether anything moved.
    pub(super) fn step(&mut self) -> bool {
        let Some(owed) = &mut self.owed else { return false };
        match owed.pipe.try_write(&[IoSlice::new(owed.characters)]) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count)) if count < owed.characters.len() => {
                owed.characters = &owed.characters[count..];
            }
            // An error is that nobody has it open.
            Poll::Ready(_) => self.owed = None,
        }
        true
    }

    pub(super) fn arm(&mut self) -> Armed {
        self.owed.as_mut().map_or(Armed::Yes, |owed| owed.pipe.arm())
    }

    /// Closes what is held open here. Once the child has exited, what is shown is read to the end of file, which comes when
    /// nobody else has the terminal open.
    pub(super) fn hang_up(&mut self) {
        (self.master, self.child_end, self.owed) = (None, None, None);
    }

    /// The master, to be held open by somebody else.
    #[cfg(unix)]
    pub(super) fn take_master(&mut self) -> Option<Pipe> {
        self.master.take()
    }

    /// Sets its size; `false` if it was hung up.
    #[cfg(unix)]
    pub(super) fn resize(&self, size: PtySize) -> io::Result<bool> {
        self.master.as_ref().map_or(Ok(false), |master| resize(master.as_fd(), size).map(|()| true))
    }
}
