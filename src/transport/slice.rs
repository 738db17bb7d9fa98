//! The time slice of one handle: how long it may go on before other tasks run. Does not know what is done meanwhile.
//!
//! Rule: only time counts, and every step takes some. A child that always has more output, or a batch of many lines,
//! does not hold up other tasks for longer than a slice.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The length of a slice. It is well below a millisecond, because other tasks' timers may be due each millisecond.
const SLICE: Duration = Duration::from_micros(300);

/// If an executor is woken again before it sleeps, it rarely looks at its timers: tokio at each 61st task, smol at each
/// 200th. So after each eighth slice of a thread, all handles there that used up their slice pause, and the executor
/// can sleep. The other slices go on without the reactor's thread, because each switch to it and back costs a tenth of
/// a slice.
const PAUSE: Duration = Duration::from_micros(100);
const IN_A_ROW: u8 = 8;

thread_local! {
    /// How many slices this thread used up since its last pause.
    static SPENT: Cell<u8> = const { Cell::new(0) };
    /// The end of the pause.
    static PAUSES_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Reading the clock costs as much as the shortest step, so it is read at each eighth step. A line of a batch costs far
/// less: eight lines count as one step.
const STEPS: u32 = 8;
const LINES: u32 = 8;

/// The slice of one handle. It continues in the next poll if the last one found something. If the handle had to wait,
/// the next poll gets a new slice.
#[derive(Default)]
pub(super) struct Slice {
    /// Lines since the clock was read; a step counts as eight.
    lines: u32,
    began: Option<Instant>,
    is_spent: bool,
    /// The slice before this one was used up.
    goes_on: bool,
}

impl Slice {
    /// Counts one step. Returns whether the time is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.counts(LINES)
    }

    /// Counts one line. Returns whether the time is over.
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

    /// Something moved, which may have taken long. So the next step reads the clock.
    pub(super) fn moved(&mut self) {
        self.lines = STEPS * LINES;
    }

    /// The time was over, and the next poll gets a new slice. Returns the pause before that poll, if there is one.
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

    /// The handle waits, and the next poll gets a new slice.
    pub(super) fn waits(&mut self) {
        *self = Slice::default();
    }
}
