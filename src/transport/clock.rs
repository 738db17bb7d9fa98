//! The bounds of a child and the clock that watches them. Does not know what a bound does when it expires.
//!
//! Rules:
//! - The time runs even if no task polls. A task that polls late first takes what has already happened, then the alarm:
//!   see `state`.
//! - The timeout of a running child is not kept here. The child's own state keeps it, even if no task polls.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::pipe::Armed;
use super::waiting::Flag;
use crate::signal::Signal;

/// The bounds of one run. What is not set has no bound.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// The longest time from the start to the end.
    pub(crate) timeout: Option<Duration>,
    /// The longest time without a byte on any descriptor.
    pub(crate) idle: Option<Duration>,
    /// The longest time without a byte on any descriptor of the whole pipeline, and the pipeline's activity.
    pub(crate) idle_of_whole: Option<(Duration, Activity)>,
    /// The longest time from the exit to the end.
    pub(crate) drain: Option<Duration>,
    /// The time between the stop signal and SIGKILL.
    pub(crate) grace: Duration,
    /// The signal that asks the child to end.
    pub(crate) stop_signal: Signal,
    /// How many of the first and of the last bytes of a descriptor are kept.
    pub(crate) ends: Option<(usize, usize)>,
    /// The most bytes that one descriptor may give. `None` is the limit for every descriptor.
    pub(crate) limits: Vec<(Option<i32>, u64)>,
}

impl Bounds {
    /// No bounds, and the default grace. Most commands have only this, and share it.
    pub(crate) fn none() -> Arc<Bounds> {
        static NONE: LazyLock<Arc<Bounds>> = LazyLock::new(Arc::default);
        Arc::clone(&NONE)
    }

    /// The shorter of the two idle timeouts. A child is silent for at least as long as its pipeline.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.idle.into_iter().chain(self.idle_of_whole.iter().map(|(most, _)| *most)).min()
    }

    /// The limit that was set last for this descriptor, or else the one set last for all.
    pub(crate) fn limit(&self, fd: i32) -> Option<u64> {
        let last =
            |which: Option<i32>| self.limits.iter().rfind(|(of, _)| *of == which).map(|(_, most)| *most);
        last(Some(fd)).or_else(|| last(None))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            timeout: None,
            idle: None,
            idle_of_whole: None,
            drain: None,
            grace: Duration::from_secs(2),
            stop_signal: Signal::TERM,
            ends: None,
            limits: Vec::new(),
        }
    }
}

/// How many bytes moved on the descriptors of a child, and when. Readers and writers that the caller took count too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    own: Arc<Moved>,
    /// The activity of the whole pipeline.
    whole: Option<Arc<Moved>>,
}

#[derive(Debug)]
struct Moved {
    since: Instant,
    bytes: AtomicU64,
    /// When the last byte moved, in microseconds after `since`.
    last: AtomicU64,
}

impl Default for Moved {
    fn default() -> Self {
        Moved { since: Instant::now(), bytes: AtomicU64::new(0), last: AtomicU64::new(0) }
    }
}

impl Moved {
    fn last(&self) -> Instant {
        self.since + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }
}

impl Activity {
    /// Counts for this child and for its pipeline.
    pub(super) fn within(self, whole: Option<&Activity>) -> Self {
        Activity { whole: whole.map(|whole| whole.own.clone()), ..self }
    }

    pub(super) fn moved(&self, bytes: usize) {
        let now = Instant::now();
        for moved in [Some(&self.own), self.whole.as_ref()].into_iter().flatten() {
            moved.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let micros = u64::try_from(now.duration_since(moved.since).as_micros()).unwrap_or(u64::MAX);
            moved.last.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// The bytes of this child.
    #[cfg(feature = "tracing")]
    pub(super) fn count(&self) -> u64 {
        self.own.bytes.load(Ordering::Relaxed)
    }
}

/// What the clock reports, each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    TimedOut,
    Idle,
    Waited,
}

/// The bounds of one child that only a task that polls can keep.
pub(super) struct Clock {
    /// From the start to the end. The clock uses it only after the exit.
    timeout: Option<Instant>,
    /// The idle timeouts of the child and of its pipeline.
    idle: [Option<(Duration, Arc<Moved>)>; 2],
    /// From the exit to the end.
    drain: Option<Duration>,
    /// The next alarm, and its timer.
    timer: Option<(Instant, Timer)>,
    /// Set when the timer fires.
    flag: Arc<Flag>,
}

impl Clock {
    /// `None` if there is no bound.
    pub(super) fn new(
        deadline: Option<Instant>,
        bounds: &Bounds,
        activity: Option<Activity>,
        flag: Arc<Flag>,
    ) -> Option<Box<Self>> {
        let own = bounds.idle.zip(activity).map(|(most, activity)| (most, activity.own));
        let whole = bounds.idle_of_whole.as_ref().map(|(most, whole)| (*most, whole.own.clone()));
        let clock = Clock { timeout: deadline, idle: [own, whole], drain: bounds.drain, timer: None, flag };
        let has_bounds = clock.times(Some(Instant::now())).next().is_some();
        has_bounds.then(|| Box::new(clock))
    }

    /// Each alarm and its time. A time that an `Instant` cannot hold never comes.
    fn times(&self, exited_at: Option<Instant>) -> impl Iterator<Item = (Alarm, Instant)> {
        let waited = self.drain.zip(exited_at).and_then(|(most, exit)| exit.checked_add(most));
        let timeout = self.timeout.filter(|_| exited_at.is_some());
        let idle = |idle: &Option<(Duration, Arc<Moved>)>| {
            idle.as_ref().and_then(|(most, moved)| moved.last().checked_add(*most))
        };
        [
            (Alarm::Waited, waited),
            (Alarm::TimedOut, timeout),
            (Alarm::Idle, idle(&self.idle[0])),
            (Alarm::Idle, idle(&self.idle[1])),
        ]
        .into_iter()
        .filter_map(|(alarm, time)| Some((alarm, time?)))
    }

    /// The alarm that is due, until it is dismissed.
    pub(super) fn due(&self, exited_at: Option<Instant>) -> Option<Alarm> {
        let now = Instant::now();
        self.times(exited_at).find(|(_, time)| *time <= now).map(|(alarm, _)| alarm)
    }

    /// This alarm is never due again.
    pub(super) fn dismiss(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::TimedOut => self.timeout = None,
            Alarm::Idle => self.idle = [None, None],
            Alarm::Waited => self.drain = None,
        }
    }

    /// Asks for the flag to be set when the next alarm is due.
    pub(super) fn arm(&mut self, exited_at: Option<Instant>) -> Armed {
        let next = self.times(exited_at).map(|(_, time)| time).min();
        // The timer is set again when it fires, not at each byte.
        if self.flag.take() || self.timer.as_ref().map(|(at, _)| *at) > next || self.timer.is_none() {
            self.timer = next.map(|next| (next, Timer::at(next)));
            let Some((_, timer)) = &mut self.timer else { return Armed::Yes };
            if self.flag.wait(|cx| Pin::new(timer).poll(cx)).is_ready() {
                self.timer = None;
                return Armed::Ready;
            }
        }
        Armed::Yes
    }
}
