//! When to look again before going to sleep. Knows nothing of what is looked at.
//!
//! A program that writes 8 KiB at a time wakes its reader each time; where the reactor has a thread of its
//! own that is two changes of threads for 8 KiB, and 256 MiB took 20 to 35 times as long as with std. Looking
//! again a few times before going to sleep, and a pipe with more room, bring it to about std's time. Measured
//! on two cores: without either 7 s, looking alone 0.8 s, the room alone 1.7 s, both 0.2 to 0.5 s.

use std::thread;

/// From so many bytes on it is a stream.
pub(super) const STREAM: usize = 128 * 1024;

/// How often to look again. Some 50 µs, less than what going to sleep costs both sides.
const MOST: usize = 100;

/// How often to look for the rest once a pipe was closed. A child that exits closes one pipe after the other, and
/// can be reaped some microseconds later; each of these would else be a wake-up of its own, which holds up the
/// child on its way out.
const AT_AN_END: usize = 20;

/// Of one that polls.
#[derive(Debug, Default)]
pub(super) struct Patience {
    traffic: usize,
    /// Halved each time that it was in vain, so a slow child soon costs next to nothing: one look.
    most: usize,
    /// Looks since something moved.
    looks: usize,
}

impl Patience {
    /// So many bytes moved.
    pub(super) fn paid(&mut self, count: usize) {
        let was_stream = self.traffic >= STREAM;
        self.traffic = self.traffic.saturating_add(count);
        if self.traffic >= STREAM && (!was_stream || self.looks > 0) {
            self.most = MOST;
        }
        self.looks = 0;
    }

    /// A pipe was closed.
    pub(super) fn hope(&mut self) {
        self.most = self.most.max(AT_AN_END);
        self.looks = 0;
    }

    /// Whether it pays to look once more, after others were let run. Not on Windows, whose pipes are not looked at
    /// but waited in.
    pub(super) fn once_more(&self) -> bool {
        cfg!(unix) && self.looks < self.most
    }

    pub(super) fn wait(&mut self) {
        self.looks += 1;
        thread::yield_now();
    }

    /// Nothing moved.
    pub(super) fn in_vain(&mut self) {
        if self.looks > 0 {
            self.most = (self.most / 2).max(usize::from(self.traffic >= STREAM));
            self.looks = 0;
        }
    }
}
