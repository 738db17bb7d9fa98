//! How long a child may take, and what time it is. Knows nothing of what is done about it.
//!
//! Rule: the time runs while nobody polls, but nobody is told of it then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
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
    /// Whose bytes count beside its own; of members of a pipeline.
    pub(crate) activity: Option<Activity>,
    /// From the exit to the end.
    pub(crate) drain: Option<Duration>,
    /// Between the polite signal and SIGKILL.
    pub(crate) grace: Duration,
    /// The most bytes that one descriptor gives: of a descriptor, or of any.
    pub(crate) limits: Vec<(Option<i32>, u64)>,
}

impl Bounds {
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
            activity: None,
            drain: None,
            grace: Duration::from_secs(2),
            limits: Vec::new(),
        }
    }
}

/// Counts what moved on any descriptor, also on those that the user has taken out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<AtomicU64>);

impl Activity {
    pub(super) fn touch(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
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
    /// In a box, since most children have none.
    timers: Option<Box<Timers>>,
}

#[derive(Debug)]
struct Timers {
    timeout: Option<Timer>,
    idle: Option<Idle>,
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
    activity: Activity,
    /// The count when it last changed, and the time since.
    seen: u64,
    since: Instant,
    timer: Timer,
}

impl Clock {
    pub(super) fn new(started: Instant, bounds: &Bounds, activity: Option<Activity>, task: &Task) -> Self {
        let idle = bounds.idle.zip(activity).map(|(most, activity)| Idle {
            most,
            activity,
            seen: 0,
            since: started,
            timer: timer(started, most),
        });
        let timeout = bounds.timeout.map(|most| timer(started, most));
        let drain = bounds.drain.map(Drain::AfterExit);
        let any = timeout.is_some() || idle.is_some() || drain.is_some();
        let timers = any.then(|| Box::new(Timers { timeout, idle, drain, bell: task.bell() }));
        Clock { started, timers }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The next thing that it is time for. To be asked after all that may be read was read.
    pub(super) fn poll_alarm(&mut self, exited: bool) -> Option<Alarm> {
        let Timers { timeout, idle, drain, bell } = &mut **self.timers.as_mut()?;
        let cx = &mut bell.context();
        if let Some(Drain::AfterExit(most)) = *drain {
            if exited {
                *drain = Some(Drain::Running(timer(Instant::now(), most)));
            }
        }
        if let Some(Drain::Running(timer)) = drain {
            if Pin::new(timer).poll(cx).is_ready() {
                *drain = None;
                return Some(Alarm::Waited);
            }
        }
        if let Some(timer) = timeout {
            if Pin::new(timer).poll(cx).is_ready() {
                *timeout = None;
                return Some(Alarm::TimedOut);
            }
        }
        if idle.as_mut().is_some_and(|idle| idle.poll(cx).is_ready()) {
            *idle = None;
            return Some(Alarm::Idle);
        }
        None
    }
}

impl Idle {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let count = self.activity.0.load(Ordering::Relaxed);
        if count != self.seen {
            (self.seen, self.since) = (count, Instant::now());
        }
        // The timer is set again when it fires, and not at each byte.
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            if self.since.elapsed() >= self.most {
                return Poll::Ready(());
            }
            self.timer = timer(self.since, self.most);
        }
        Poll::Pending
    }
}

fn timer(from: Instant, after: Duration) -> Timer {
    // A time that no clock can show never comes.
    from.checked_add(after).map_or_else(Timer::never, Timer::at)
}
