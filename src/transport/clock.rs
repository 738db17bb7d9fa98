//! How long a child may take, and what time it is. Knows nothing of what is done about it.
//!
//! Rule: the time runs while nobody polls, but nobody is told of it then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::bell::{Bell, Task};

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
    /// The most bytes that one descriptor gives: of a descriptor, or of any.
    pub(crate) limits: Vec<(Option<i32>, u64)>,
}

impl Bounds {
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
            limits: Vec::new(),
        }
    }
}

/// Counts the bytes that moved on any descriptor of a child, also on those that the user has taken out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    own: Arc<AtomicU64>,
    /// Of all children that count as one.
    whole: Option<Arc<AtomicU64>>,
}

impl Activity {
    /// The same, and part of a whole.
    pub(super) fn within(self, whole: Option<&Activity>) -> Self {
        Activity { whole: whole.map(|whole| whole.own.clone()), ..self }
    }

    pub(super) fn moved(&self, bytes: usize) {
        for count in [Some(&self.own), self.whole.as_ref()].into_iter().flatten() {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Of this child.
    #[cfg(feature = "tracing")]
    pub(super) fn count(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

/// What the clock has to tell, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    TimedOut,
    Idle,
    Waited,
}

#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// When the end was seen.
    ended: Option<Instant>,
    /// In a box, since most children have none.
    timers: Option<Box<Timers>>,
}

#[derive(Debug)]
struct Timers {
    timeout: Option<Timer>,
    /// Of the child, and of all that count as one.
    idle: [Option<Idle>; 2],
    drain: Option<Drain>,
    /// It is time for something.
    bell: Bell,
}

#[derive(Debug)]
enum Drain {
    AfterExit(Duration),
    Running(Timer),
}

#[derive(Debug)]
struct Idle {
    most: Duration,
    count: Arc<AtomicU64>,
    /// The count when it last changed, and the time since.
    seen: u64,
    since: Instant,
    timer: Timer,
}

impl Clock {
    pub(super) fn new(started: Instant, bounds: &Bounds, activity: Option<Activity>, task: &Task) -> Self {
        let idle = |(most, activity): (Duration, Activity)| Idle {
            most,
            count: activity.own,
            seen: 0,
            since: started,
            timer: timer(started, most),
        };
        let idle = [bounds.idle.zip(activity).map(idle), bounds.idle_of_whole.clone().map(idle)];
        let timeout = bounds.timeout.map(|most| timer(started, most));
        let drain = bounds.drain.map(Drain::AfterExit);
        let any = timeout.is_some() || idle.iter().any(Option::is_some) || drain.is_some();
        let timers = any.then(|| Box::new(Timers { timeout, idle, drain, bell: task.bell() }));
        Clock { started, ended: None, timers }
    }

    /// The child has ended; the first time that this is said counts.
    pub(super) fn ended(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }

    /// From the start to the end, or to now.
    pub(super) fn elapsed(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.started)
    }

    /// The next thing that it is time for, until it was told.
    pub(super) fn poll_alarm(&mut self, exited: bool) -> Option<Alarm> {
        let Timers { timeout, idle, drain, bell } = &mut **self.timers.as_mut()?;
        let cx = &mut bell.context();
        if let Some(Drain::AfterExit(most)) = *drain {
            if exited {
                *drain = Some(Drain::Running(timer(Instant::now(), most)));
            }
        }
        if let Some(Drain::Running(timer)) = drain {
            if fired(timer, cx) {
                return Some(Alarm::Waited);
            }
        }
        if timeout.as_mut().is_some_and(|timer| fired(timer, cx)) {
            return Some(Alarm::TimedOut);
        }
        if idle.iter_mut().flatten().any(|idle| idle.fired(cx)) {
            return Some(Alarm::Idle);
        }
        None
    }

    /// It is never time for this again.
    pub(super) fn told(&mut self, alarm: Alarm) {
        let Some(timers) = &mut self.timers else { return };
        match alarm {
            Alarm::TimedOut => timers.timeout = None,
            Alarm::Idle => timers.idle = [None, None],
            Alarm::Waited => timers.drain = None,
        }
    }
}

impl Idle {
    fn fired(&mut self, cx: &mut Context<'_>) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        if count != self.seen {
            (self.seen, self.since) = (count, Instant::now());
        }
        // The timer is set again when it fires, and not at each byte.
        while fired(&mut self.timer, cx) {
            if self.since.elapsed() >= self.most {
                return true;
            }
            self.timer = timer(self.since, self.most);
        }
        false
    }
}

/// Whether its time has come, now and from then on.
fn fired(timer: &mut Timer, cx: &mut Context<'_>) -> bool {
    let fired = Pin::new(&mut *timer).poll(cx).is_ready();
    if fired {
        *timer = Timer::after(Duration::ZERO);
    }
    fired
}

fn timer(from: Instant, after: Duration) -> Timer {
    // A time that no clock can show never comes.
    from.checked_add(after).map_or_else(Timer::never, Timer::at)
}
