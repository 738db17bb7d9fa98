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
#[cfg(unix)]
use std::os::fd::AsFd;
use std::sync::Arc;

use super::feed::{Feeder, Step};
use super::pipe::{Armed, WriteEnd};
use crate::spawn::Pipe;
#[cfg(unix)]
use crate::spawn::resize;
use crate::stdio::Feed;
#[cfg(unix)]
use crate::stdio::PtySize;

pub(super) struct Terminal {
    /// `None` once it hung up.
    master: Option<Pipe>,
    child_end: Option<Pipe>,
    /// Types the end of file.
    typist: Option<Feeder>,
}

impl Terminal {
    pub(super) fn new(master: Pipe, child_end: Option<Pipe>) -> Self {
        Terminal { master: Some(master), child_end, typist: None }
    }

    /// Types an end of file, as soon as there is room.
    pub(super) fn owe_end(&mut self, pipe: WriteEnd, within_line: bool) {
        // Within a line, the first character only delivers the line so far.
        let characters = if within_line { vec![4, 4] } else { vec![4] };
        let typist = || Feeder::of_bytes(pipe, Feed::Plain(Arc::new(characters)));
        self.typist = self.master.is_some().then(typist);
    }

    /// Types some of the end of file. Returns whether anything moved.
    pub(super) fn step(&mut self) -> bool {
        match self.typist.as_mut().map(Feeder::step) {
            None | Some(Step::Nothing) => return false,
            Some(Step::Wrote(_)) => {}
            // After an error no process has the terminal open.
            Some(_) => self.typist = None,
        }
        true
    }

    pub(super) fn arm(&mut self) -> Armed {
        self.typist.as_mut().map_or(Armed::Yes, Feeder::arm)
    }

    /// Closes the descriptors that this holds. After the exit the output is read up to its end of file, which comes
    /// when no other process has the terminal open.
    pub(super) fn hang_up(&mut self) {
        (self.master, self.child_end, self.typist) = (None, None, None);
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
