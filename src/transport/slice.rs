//! How long one handle may go on before it lets other tasks run. Knows nothing of what is done meanwhile.
//!
//! Time alone counts, and every step, also one that found something: a child that always has more to say, or a line
//! that is always there, holds up nobody else for longer than this.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long one handle may go on. A poll of the field's timers is due every millisecond or so.
const SLICE: Duration = Duration::from_micros(300);

/// An executor that is woken again before it sleeps looks after its timers now and then only: tokio's does at each 61st
/// task, smol's at each 200th. So at each eighth slice that was spent in a thread, all handles there that have spent theirs
/// give it the time to fall asleep. In between the reactor's thread is not needed for going on, and each change to it and
/// back costs a tenth of a slice.
const PAUSE: Duration = Duration::from_micros(100);
const IN_A_ROW: u8 = 8;

thread_local! {
    /// So many slices were spent in this thread since its last pause.
    static SPENT: Cell<u8> = const { Cell::new(0) };
    /// Until when it pauses.
    static PAUSES_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The clock costs about as much as the shortest step, so it is asked at each eighth. A line that is there costs less by
/// far: so many of them count as a step.
const STEPS: u32 = 8;
const LINES: u32 = 8;

/// How long to look again for what is just coming, in a stream.
const SPIN: Duration = Duration::from_micros(20);

/// Of one handle. It runs on through polls that found something, and starts anew once one had to wait.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Since the clock was asked.
    lines: u32,
    began: Option<Instant>,
    is_spent: bool,
    /// The one before it was spent as well.
    goes_on: bool,
    spins_until: Option<Instant>,
}

impl Slice {
    /// Counts one step. Whether the time is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.counts(LINES)
    }

    /// Counts a line. Whether the time is over.
    #[inline]
    pub(super) fn is_over_for_line(&mut self) -> bool {
        self.counts(1)
    }

    #[inline]
    fn counts(&mut self, lines: u32) -> bool {
        self.lines += lines;
        if self.began.is_none() || self.lines >= STEPS * LINES {
            self.ask();
        }
        self.is_spent
    }

    #[cold]
    fn ask(&mut self) {
        self.lines = 0;
        let now = Instant::now();
        if self.began.is_none() && self.goes_on {
            self.is_spent = PAUSES_UNTIL.get().is_some_and(|end| now < end);
        }
        self.is_spent |= now.duration_since(*self.began.get_or_insert(now)) > SLICE;
    }

    /// Whether no step was counted yet.
    #[inline]
    pub(super) fn is_new(&self) -> bool {
        self.began.is_none()
    }

    /// Whether the time was over when the last step was counted.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Whether the last poll ended because the time was over.
    pub(super) fn was_spent(&self) -> bool {
        self.goes_on && self.began.is_none()
    }

    /// Whether to look once more for what is just coming; not for longer than a bounded time since something moved.
    pub(super) fn spins(&mut self) -> bool {
        std::hint::spin_loop();
        let now = Instant::now();
        now < *self.spins_until.get_or_insert(now + SPIN)
    }

    /// Something moved, which may have taken long: the clock is asked at the next step.
    pub(super) fn moved(&mut self) {
        self.lines = STEPS * LINES;
        self.spins_until = None;
    }

    /// The time was over: the next poll has time anew. After how long it is to come, if not at once.
    pub(super) fn pauses(&mut self) -> Option<Duration> {
        *self = Slice { goes_on: true, ..Slice::default() };
        let now = Instant::now();
        if let Some(left) = PAUSES_UNTIL.get().and_then(|end| end.checked_duration_since(now)) {
            return Some(left);
        }
        let spent = SPENT.get() % IN_A_ROW + 1;
        SPENT.set(spent);
        PAUSES_UNTIL.set((spent == IN_A_ROW).then(|| now + PAUSE));
        (spent == IN_A_ROW).then_some(PAUSE)
    }

    /// The handle waits: the next poll has time anew.
    pub(super) fn waits(&mut self) {
        *self = Slice::default();
    }
}
