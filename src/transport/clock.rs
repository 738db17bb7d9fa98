//! How long a child may take, and what time it is. Knows nothing of what is done about it.
//!
//! Rules:
//! - The time runs while nobody polls. What has happened by then comes before what it is time for: see the state.
//! - The timeout of a living child is not here: it is kept whether or not anybody polls, by the child's own state.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::pipe::Armed;
use super::waiting::Flag;
use crate::signal::Signal;

/// What a run may take at most. Nothing set is no bound.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// From the start to the end.
    pub(crate) timeout: Option<Duration>,
    /// Without a byte on any descriptor.
    pub(crate) idle: Option<Duration>,
    /// Without a byte on any descriptor of the whole pipeline, whose activity this is.
    pub(crate) idle_of_whole: Option<(Duration, Activity)>,
    /// From the exit to the end.
    pub(crate) drain: Option<Duration>,
    /// Between the polite signal and SIGKILL.
    pub(crate) grace: Duration,
    /// The polite one.
    pub(crate) stop_signal: Signal,
    /// So many of the first bytes of a descriptor are kept, and so many of the last.
    pub(crate) ends: Option<(usize, usize)>,
    /// The most bytes that one descriptor gives: of a descriptor, or of any.
    pub(crate) limits: Vec<(Option<i32>, u64)>,
}

impl Bounds {
    /// Nothing but the usual grace. Most commands have only that, and share it.
    pub(crate) fn none() -> Arc<Bounds> {
        static NONE: LazyLock<Arc<Bounds>> = LazyLock::new(Arc::default);
        Arc::clone(&NONE)
    }

    /// How long the child may be silent, whoever else talks or not. Who is silent alone is so for longer than all.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.idle.into_iter().chain(self.idle_of_whole.iter().map(|(most, _)| *most)).min()
    }

    /// The last one said for the descriptor, else the last one said for all.
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

/// The bytes that moved on any descriptor of a child, also on those that the user has taken out, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    own: Arc<Moved>,
    /// Of all children that count as one.
    whole: Option<Arc<Moved>>,
}

#[derive(Debug)]
struct Moved {
    since: Instant,
    bytes: AtomicU64,
    /// When the last of them moved, in microseconds.
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
    /// The same, and part of a whole.
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

    /// Of this child.
    #[cfg(feature = "tracing")]
    pub(super) fn count(&self) -> u64 {
        self.own.bytes.load(Ordering::Relaxed)
    }
}

/// What the clock has to tell, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    TimedOut,
    Idle,
    Waited,
}

/// The bounds of one child that need somebody who polls.
#[derive(Debug)]
pub(super) struct Clock {
    /// From the start to the end. It matters here once the child has exited.
    timeout: Option<Instant>,
    /// Of the child, and of all that count as one.
    idle: [Option<(Duration, Arc<Moved>)>; 2],
    /// From the exit to the end.
    drain: Option<Duration>,
    /// For what comes next, and when that is.
    timer: Option<(Instant, Timer)>,
    /// It is time for something.
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
        let any = deadline.is_some() || own.is_some() || whole.is_some() || bounds.drain.is_some();
        let clock =
            || Clock { timeout: deadline, idle: [own, whole], drain: bounds.drain, timer: None, flag };
        any.then(|| Box::new(clock()))
    }

    /// Each thing that it will be time for, and when. A time that no clock can show never comes.
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

    /// What it is time for, until it was told.
    pub(super) fn due(&self, exited_at: Option<Instant>) -> Option<Alarm> {
        let now = Instant::now();
        self.times(exited_at).find(|(_, time)| *time <= now).map(|(alarm, _)| alarm)
    }

    /// It is never time for this again.
    pub(super) fn dismiss(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::TimedOut => self.timeout = None,
            Alarm::Idle => self.idle = [None, None],
            Alarm::Waited => self.drain = None,
        }
    }

    /// Has the flag set once it is time for something.
    pub(super) fn arm(&mut self, exited_at: Option<Instant>) -> Armed {
        let next = self.times(exited_at).map(|(_, time)| time).min();
        // Set again when it fires, and not at each byte.
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
