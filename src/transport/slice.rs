//! How long one handle may go on before it lets other tasks run. Knows nothing of what is done meanwhile.
//!
//! Time alone counts, and every step, also one that found something: a child that always has more to say, or a line
//! that is always there, holds up nobody else for longer than this.

use std::time::{Duration, Instant};

/// How long one handle may go on. A poll of the field's timers is due every millisecond or so.
const SLICE: Duration = Duration::from_micros(300);

/// An executor that is woken again before it sleeps looks after its timers now and then only: tokio's does at each 61st
/// task. So at each eighth slice that one handle has spent in a row it is given the time to fall asleep.
const PAUSE: Duration = Duration::from_micros(100);
const IN_A_ROW: u8 = 8;

/// The clock costs about as much as the shortest step, so it is asked at each eighth.
const STEPS: u32 = 8;

/// How long to look again for what is just coming, in a stream.
const SPIN: Duration = Duration::from_micros(20);

/// Of one handle. It runs on through polls that found something, and starts anew once one had to wait.
#[derive(Debug, Default)]
pub(super) struct Slice {
    steps: u32,
    began: Option<Instant>,
    is_spent: bool,
    /// So many slices were spent one after the other.
    in_a_row: u8,
    spins_until: Option<Instant>,
}

impl Slice {
    /// Counts one step. Whether the time is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.steps += 1;
        if self.began.is_none() || self.steps >= STEPS {
            self.steps = 0;
            let now = Instant::now();
            self.is_spent |= now.duration_since(*self.began.get_or_insert(now)) > SLICE;
        }
        self.is_spent
    }

    /// Whether the time was over when the last step was counted.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Whether the last poll ended because the time was over.
    pub(super) fn was_spent(&self) -> bool {
        self.in_a_row > 0 && self.began.is_none()
    }

    /// Whether to look once more for what is just coming; not for longer than a bounded time since something moved.
    pub(super) fn spins(&mut self) -> bool {
        std::hint::spin_loop();
        let now = Instant::now();
        now < *self.spins_until.get_or_insert(now + SPIN)
    }

    /// Something moved, which may have taken long: the clock is asked at the next step.
    pub(super) fn moved(&mut self) {
        self.steps = STEPS;
        self.spins_until = None;
    }

    /// The time was over: the next poll has time anew, once it was woken after this time.
    pub(super) fn pauses(&mut self) -> Duration {
        let in_a_row = self.in_a_row % IN_A_ROW + 1;
        *self = Slice { in_a_row, ..Slice::default() };
        if in_a_row == IN_A_ROW { PAUSE } else { Duration::ZERO }
    }

    /// The handle waits: the next poll has time anew.
    pub(super) fn waits(&mut self) {
        *self = Slice::default();
    }
}
