//! The terminal of a child as a whole. Its output and its input are pipes like others, but it closes as one.
//!
//! Refuses to know the output and the input.
//!
//! Rules:
//! - It hangs up when the parent has closed all of it. Then the child gets SIGHUP.
//! - If the caller closes the writer, the end of file is a character (termios(3), VEOF). It is typed when there is room
//!   for it.
//! - While the child runs, EIO only means that no process has the terminal open *now*: ssh, sudo and login close it and
//!   open `/dev/tty` again. So the parent also holds the child's side open, on systems that are known to allow it. It
//!   closes that side after the child was reaped, and then the end of file comes.

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
    /// `None` once it hung up.
    master: Option<Pipe>,
    child_end: Option<Pipe>,
    owed: Option<Owed>,
}

/// An end of file that must still be typed.
#[derive(Debug)]
struct Owed {
    pipe: WriteEnd,
    /// Within a line, the first character only delivers the line so far.
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

    /// Types some of the end of file. Returns whether anything moved.
    pub(super) fn step(&mut self) -> bool {
        let Some(owed) = &mut self.owed else { return false };
        match owed.pipe.try_write(&[IoSlice::new(owed.characters)]) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count)) if count < owed.characters.len() => {
                owed.characters = &owed.characters[count..];
            }
            // After an error no process has the terminal open.
            Poll::Ready(_) => self.owed = None,
        }
        true
    }

    pub(super) fn arm(&mut self) -> Armed {
        self.owed.as_mut().map_or(Armed::Yes, |owed| owed.pipe.arm())
    }

    /// Closes the descriptors that this holds. After the exit the output is read up to its end of file, which comes
    /// when no other process has the terminal open.
    pub(super) fn hang_up(&mut self) {
        (self.master, self.child_end, self.owed) = (None, None, None);
    }

    /// Takes the master out, so that the terminal stays open.
    #[cfg(unix)]
    pub(super) fn take_master(&mut self) -> Option<Pipe> {
        self.master.take()
    }

    /// Sets the size. `false` if the terminal hung up.
    #[cfg(unix)]
    pub(super) fn resize(&self, size: PtySize) -> io::Result<bool> {
        self.master.as_ref().map_or(Ok(false), |master| resize(master.as_fd(), size).map(|()| true))
    }
}
