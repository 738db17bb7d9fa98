//! One started child: whether it has exited, who asked it to end, and what happens next because of that.
//!
//! Refuses to know pipes, and when a child counts as ended: the protocol decides that.
//!
//! Rules:
//! - There is one state, [`Life`]. Signals are sent under its lock. It changes only after a signal was sent: a signal
//!   that is refused, or that reaches no process, changes nothing.
//! - The stages of the end (stop signal, grace, SIGKILL) and the deadline are part of that state. The reactor's
//!   thread keeps them in time, also if nobody polls. It sends nothing to a child that has exited.
//! - With a group the stages apply to the group: its members get the same grace as the leader.
//! - The task that waits for the child reaps it. If no task waits any more, it is reaped in the background.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::later;
use super::sys::{self, is_copy};
use super::system::SystemProcess;
use crate::output::Exit;
use crate::signal::Signal;
use crate::stdio::OpenFile;

/// The owner's handle. Dropping it kills the child, unless `OnDrop` says otherwise, and always reaps it in the
/// background.
#[derive(Debug)]
pub(crate) struct Child(Arc<Shared>);

/// Names a child from any thread, and keeps nothing alive. The default names none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChildRef(Weak<Shared>);

/// Tells whether this program has ended a child, also after its handle was dropped.
#[derive(Clone, Debug)]
pub(crate) struct ChildFate(Arc<Shared>);

/// Which part of this program has ended a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The timeout.
    Timeout,
    /// A handle of the child, or a bound other than the timeout.
    Caller,
}

/// What happens to the child when the handle is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnDrop {
    #[default]
    Kill,
    /// The polite signal, and SIGKILL after the grace.
    Terminate,
    RunOn,
}

/// What is known of the child's end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The exit, and when it was seen; returned once.
    pub(crate) exit: Option<(Exit, Instant)>,
    /// Who has ended the child, or the rest of its group.
    pub(crate) ended_by: Option<Cause>,
    /// Members of its group were asked to end, and their grace still runs.
    pub(crate) grace_runs: bool,
    /// The child has become another user, and this program may not signal it.
    pub(crate) out_of_reach: bool,
}

#[derive(Debug)]
struct Shared {
    life: Mutex<Life>,
    /// The task that waits for news. Only the reactor's thread wakes it.
    changed: OnceLock<Waker>,
}

#[derive(Debug)]
struct Life {
    /// `None` once it was reaped and its group gets no signal any more.
    process: Option<Process>,
    /// When the exit was seen.
    exited_at: Option<Instant>,
    /// The exit was taken.
    reaped: bool,
    asked: Option<Asked>,
    /// The end of the timeout.
    deadline: Option<Instant>,
    grace: Duration,
    /// When to check next whether the group of an exited child is empty.
    probe: Option<Instant>,
    /// For the next stage, the deadline or the probe.
    timer: Option<Box<(Instant, Timer)>>,
    out_of_reach: bool,
    stop_signal: Signal,
    on_drop: OnDrop,
    /// No task waits for the child, so it is reaped in the background.
    unowned: bool,
    /// Stays open while the child runs.
    keep: Option<OpenFile>,
}

/// A signal was sent to end the child.
#[derive(Clone, Copy, Debug)]
struct Asked {
    by: Cause,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// SIGKILL is due at this time; `None` is a time that no clock can show.
    Grace(Option<Instant>),
    Killed,
}

/// A started process. In a forked copy of the parent it does nothing, because the child is not the copy's.
#[derive(Debug)]
struct Process(sys::Process);

impl Process {
    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    fn watch(&mut self, waker: &Waker) {
        if !is_copy() {
            self.0.watch(waker);
        }
    }

    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        if is_copy() { Poll::Ready(()) } else { self.0.poll_seen(waker) }
    }

    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        if is_copy() { Poll::Ready(Exit::Lost) } else { self.0.poll_exit(waker) }
    }

    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if is_copy() { Ok(false) } else { self.0.signal(signal) }
    }

    fn has_members(&mut self) -> bool {
        !is_copy() && self.0.has_members()
    }

    /// Adds the reason of the end, if this program has not ended it.
    fn explain(&self, exit: Exit) -> Exit {
        match exit {
            Exit::Reaped(status, usage) if self.0.memory_was_short(status) => {
                Exit::MemoryShort(status, usage)
            }
            exit => exit,
        }
    }
}

impl Child {
    pub(super) fn new(process: sys::Process) -> Self {
        let life = Life {
            process: Some(Process(process)),
            exited_at: None,
            reaped: false,
            asked: None,
            deadline: None,
            grace: Duration::ZERO,
            probe: None,
            timer: None,
            out_of_reach: false,
            stop_signal: Signal::TERM,
            on_drop: OnDrop::Kill,
            unowned: false,
            keep: None,
        };
        Child(Arc::new(Shared { life: Mutex::new(life), changed: OnceLock::new() }))
    }

    /// Starts to watch the child, with this deadline. From now on `changed` is woken when there is news.
    pub(crate) fn watch(&self, deadline: Option<Instant>, grace: Duration, stop: Signal, changed: Waker) {
        // A child is watched once.
        let _: Result<(), Waker> = self.0.changed.set(changed);
        let mut life = self.0.lock();
        (life.deadline, life.grace, life.stop_signal) = (deadline, grace, stop);
        if let Some(process) = &mut life.process {
            process.watch(&self.0.waker());
        }
        life.set_timer(&self.0.waker());
    }

    /// Looks for news, and takes an exit. If there is none, `changed` is woken once there is.
    pub(crate) fn look(&self) -> Seen {
        let mut life = self.0.lock();
        let (exit, _) = life.look(&self.0.waker(), true);
        life.seen(exit)
    }

    /// Whether it, or what is left of its group, was asked to end.
    pub(crate) fn was_asked(&self) -> bool {
        self.0.lock().asked.is_some()
    }

    /// Asks the child to end, with its grace until SIGKILL, unless it was asked before. Returns whether it is asked
    /// now.
    ///
    /// The only error is "not permitted": the child has become another user.
    pub(crate) fn ask(&self) -> io::Result<bool> {
        let mut life = self.0.lock();
        let sent = life.ask_once(Cause::Caller);
        life.set_timer(&self.0.waker());
        sent
    }

    /// From now on the child gets no grace.
    pub(crate) fn forfeit_grace(&self) {
        self.0.lock().grace = Duration::ZERO;
    }

    /// Kills the child, or the rest of its group. Returns whether a signal was sent; the only error is "not
    /// permitted".
    pub(crate) fn kill(&self) -> io::Result<bool> {
        let mut life = self.0.lock();
        let sent = life.kill(Cause::Caller);
        life.set_timer(&self.0.waker());
        sent
    }

    pub(crate) fn remote(&self) -> ChildRef {
        ChildRef(Arc::downgrade(&self.0))
    }

    pub(crate) fn fate(&self) -> ChildFate {
        ChildFate(self.0.clone())
    }

    /// Whether the child may run on after the handle is dropped.
    #[cfg(unix)]
    pub(crate) fn runs_on_when_dropped(&self) -> bool {
        self.0.lock().on_drop != OnDrop::Kill
    }

    /// Keeps this file open until the child has exited.
    #[cfg(unix)]
    pub(crate) fn hold_open(&self, file: OpenFile) {
        let mut life = self.0.lock();
        if life.exited_at.is_none() {
            life.keep = Some(file);
        }
    }

    /// The child has ended. Its group gets no signal from now on, unless its grace still runs.
    pub(crate) fn release(&self) {
        self.0.leave();
    }

    /// No task waits for it any more. It is killed, unless `OnDrop` says otherwise, and reaped in the background.
    pub(crate) fn abandon(&self) {
        let mut life = self.0.lock();
        if life.unowned {
            return;
        }
        life.deadline = None;
        // If it has exited, there is nobody to kill but the rest of its group.
        life.look(&self.0.waker(), true);
        let grace = life.grace;
        // If this is not permitted, nothing more can be done.
        let _: io::Result<bool> = match life.on_drop {
            OnDrop::Kill => life.kill(Cause::Caller),
            OnDrop::Terminate => life.ask(Cause::Caller, grace),
            OnDrop::RunOn => Ok(false),
        };
        drop(life);
        self.0.leave();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !is_copy() {
            self.abandon();
        }
    }
}

impl ChildFate {
    /// Whether the child has exited, this program has ended it or the rest of its group, and no grace runs.
    pub(crate) fn was_ended(&self) -> bool {
        // In a forked copy nobody releases a lock that another thread held at the fork.
        if is_copy() {
            return true;
        }
        let mut life = self.0.lock();
        life.exited_at.is_some() && life.asked.is_some() && !life.grace_runs()
    }
}

impl ChildRef {
    /// The process id; `None` once the exit was taken, because the system may give the number to another process.
    pub(crate) fn pid(&self) -> Option<u32> {
        let shared = self.0.upgrade()?;
        // A forked copy may know it, too, unless another thread held the lock at the fork.
        let life = if is_copy() { shared.life.try_lock().ok()? } else { shared.lock() };
        life.process.as_ref().filter(|_| !life.reaped).and_then(Process::pid)
    }

    /// Sets what happens when the child's handle is dropped.
    pub(crate) fn on_drop(&self, on_drop: OnDrop) {
        if let Some(shared) = self.host_only() {
            shared.lock().on_drop = on_drop;
        }
    }

    /// The child, to change it: a forked copy has none. There nobody releases a lock that another thread held at the fork.
    fn host_only(&self) -> Option<Arc<Shared>> {
        self.0.upgrade().filter(|_| !is_copy())
    }

    /// Sends a signal; returns `false` if the child was reaped already.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        if signal == Signal::KILL {
            return self.change(|life| life.kill(Cause::Caller));
        }
        let Some(shared) = self.host_only() else { return Ok(false) };
        let mut life = shared.lock();
        if life.is_over() { Ok(false) } else { life.signal(signal) }
    }

    /// Sends the stop signal now, and SIGKILL after the grace. Returns `false` if the child was reaped already.
    pub(crate) fn terminate(&self, grace: Duration) -> io::Result<bool> {
        self.change(|life| life.ask(Cause::Caller, grace))
    }

    /// Another member of the pipeline was told to end, so do not wait for this one's descendants.
    pub(crate) fn mark_stopped(&self) {
        let _: io::Result<bool> = self.change(|life| {
            life.asked.get_or_insert(Asked { by: Cause::Caller, stage: Stage::Killed });
            Ok(true)
        });
    }

    fn change(&self, ask: impl FnOnce(&mut Life) -> io::Result<bool>) -> io::Result<bool> {
        let Some(shared) = self.host_only() else { return Ok(false) };
        let mut life = shared.lock();
        if life.is_over() {
            return Ok(false);
        }
        let sent = ask(&mut life);
        life.set_timer(&shared.waker());
        // The exit was seen before, so no exit will wake the task.
        let is_news = matches!(sent, Ok(true)) && life.exited_at.is_some();
        drop(life);
        if let (true, Some(changed)) = (is_news, shared.changed.get()) {
            later::wake(changed.clone());
        }
        sent
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one waker that the reactor gets for this child.
    fn waker(self: &Arc<Self>) -> Waker {
        // A clone: the transport says why, at `will_wake`.
        Waker::from(self.clone()).clone()
    }

    fn leave(self: &Arc<Self>) {
        let mut life = self.lock();
        life.unowned = true;
        life.look(&self.waker(), true);
    }
}

/// Called by the reactor's thread, which holds no lock: the child has exited, or a time has come.
///
/// The reactor holds this waker, and so keeps the state alive, while there is something to wait for.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        let mut life = self.lock();
        let take = life.unowned;
        let (_, news) = life.look(&self.waker(), take);
        drop(life);
        if let (true, Some(changed)) = (news, self.changed.get()) {
            changed.wake_by_ref();
        }
    }
}

impl Life {
    /// Whether the promise has ended, so nobody can ask for anything. A grace may still run.
    fn is_over(&self) -> bool {
        self.unowned && self.reaped
    }

    /// Looks for the exit, and takes it if `take`; then looks at the clock. Returns the exit, and whether there is
    /// any news.
    fn look(&mut self, waker: &Waker, take: bool) -> (Option<Exit>, bool) {
        let Some(process) = &mut self.process else { return (None, false) };
        let mut exit = None;
        let exits = if self.reaped {
            false
        } else if take {
            if let Poll::Ready(taken) = process.poll_exit(waker) {
                // A child that nobody waits for needs no reason.
                let is_ours = self.asked.is_some() || self.unowned;
                let taken = if is_ours { taken } else { process.explain(taken) };
                (exit, self.reaped) = (Some(taken), true);
            }
            self.reaped
        } else {
            // An exit that was seen waits to be taken.
            self.exited_at.is_some() || process.poll_seen(waker).is_ready()
        };
        if exits && self.exited_at.is_none() {
            self.exited_at = Some(Instant::now());
            self.deadline = None;
            self.keep = None;
        }
        let before = self.asked.map(|asked| asked.stage);
        self.end_grace_early();
        let new_stage = before != self.asked.map(|asked| asked.stage);
        let was_due = self.do_what_is_due();
        if self.is_over() && !self.grace_runs() {
            self.process = None;
        }
        self.set_timer(waker);
        (exit, exits || new_stage || was_due)
    }

    /// If the group is empty, ends the grace early, so it costs no timer. Otherwise it probes again later, because no
    /// event reports an empty group.
    fn end_grace_early(&mut self) {
        const FIRST: Duration = Duration::from_millis(5);
        const LAST: Duration = Duration::from_secs(1);
        if self.exited_at.is_none() {
            return;
        }
        if !self.grace_runs() {
            self.probe = None;
            if let Some(asked) = &mut self.asked {
                asked.stage = Stage::Killed;
            }
        } else if self.reaped {
            let now = Instant::now();
            if self.probe.is_none_or(|at| at <= now) {
                // The pause doubles each time.
                let since = self.exited_at.map_or(FIRST, |at| now.duration_since(at));
                self.probe = Some(now + since.clamp(FIRST, LAST));
            }
        }
    }

    /// Does everything that is due. Returns whether anything was.
    fn do_what_is_due(&mut self) -> bool {
        let Some(next) = self.next() else { return false };
        let now = Instant::now();
        if now < next {
            return false;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            if let Err(_not_permitted) = self.ask_once(Cause::Timeout) {
                self.out_of_reach = true;
                self.note(Cause::Timeout, Stage::Killed);
            }
        } else if self.kill_at().is_some_and(|kill_at| kill_at <= now) {
            // The only error is "not permitted", and then nothing more can be done.
            let _: io::Result<bool> = self.signal(Signal::KILL);
            self.note(Cause::Caller, Stage::Killed);
            self.probe = None;
        }
        true
    }

    fn kill_at(&self) -> Option<Instant> {
        match self.asked {
            Some(Asked { stage: Stage::Grace(until), .. }) => until,
            _ => None,
        }
    }

    /// The next time when something is due.
    fn next(&self) -> Option<Instant> {
        [self.deadline, self.kill_at(), self.probe].into_iter().flatten().min()
    }

    fn set_timer(&mut self, waker: &Waker) {
        let next = self.next();
        if self.timer.as_ref().map(|timer| timer.0) != next {
            self.timer = next.map(|next| Box::new((next, Timer::at(next))));
        }
        let Some(timer) = &mut self.timer else { return };
        if Pin::new(&mut timer.1).poll(&mut Context::from_waker(waker)).is_ready() {
            // It is over already, but the reactor must still call.
            self.timer = None;
            later::wake(waker.clone());
        }
    }

    /// If several bounds are met at once, the child gets one stop signal, and the shortest grace.
    fn ask_once(&mut self, by: Cause) -> io::Result<bool> {
        let grace = self.grace;
        if self.asked.is_none() || grace.is_zero() {
            return self.ask(by, grace);
        }
        self.note(by, Stage::Grace(Instant::now().checked_add(grace)));
        Ok(true)
    }

    fn ask(&mut self, by: Cause, grace: Duration) -> io::Result<bool> {
        if grace.is_zero() {
            return self.kill(by);
        }
        match self.signal(self.stop_signal) {
            Ok(true) => {}
            // The system does not have that signal.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return self.kill(by),
            refused => return refused,
        }
        // A stopped child reacts to no signal except this one and SIGKILL.
        #[cfg(unix)]
        let _: io::Result<bool> = self.signal(Signal::CONT);
        self.note(by, Stage::Grace(Instant::now().checked_add(grace)));
        Ok(true)
    }

    fn kill(&mut self, by: Cause) -> io::Result<bool> {
        let sent = self.signal(Signal::KILL)?;
        if sent {
            self.note(by, Stage::Killed);
        }
        Ok(sent)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        self.process.as_mut().map_or(Ok(false), |process| process.signal(signal))
    }

    /// Notes a sent signal. The more urgent stage wins, and a timeout is remembered in any case.
    fn note(&mut self, by: Cause, stage: Stage) {
        let Some(before) = self.asked else {
            self.asked = Some(Asked { by, stage });
            return;
        };
        let stage = match (before.stage, stage) {
            (Stage::Grace(one), Stage::Grace(other)) => {
                Stage::Grace([one, other].into_iter().flatten().min())
            }
            _ => Stage::Killed,
        };
        let by = if before.by == Cause::Timeout { before.by } else { by };
        self.asked = Some(Asked { by, stage });
    }

    /// Whether a process that was asked to end may still be there, and has time.
    fn grace_runs(&mut self) -> bool {
        let is_asked = matches!(self.asked, Some(Asked { stage: Stage::Grace(_), .. }));
        is_asked && self.process.as_mut().is_some_and(|p| self.exited_at.is_none() || p.has_members())
    }

    fn seen(&mut self, exit: Option<Exit>) -> Seen {
        Seen {
            exit: exit.zip(self.exited_at),
            ended_by: self.asked.map(|asked| asked.by),
            grace_runs: self.grace_runs(),
            out_of_reach: self.out_of_reach,
        }
    }
}
