//! From a plan to a started child and the parent's ends of its pipes.
//!
//! Refuses to know what flows through the pipes, and when a child counts as ended.
//!
//! Two engines hand up the same thing, a [`Child`]:
//! - *native* (Linux with pidfd and glibc 2.34 or later): `posix_spawn`, which shares the parent's
//!   memory until the program runs, so the parent's size does not matter.
//! - *portable* (async-process; on Windows std and async-io): everywhere else, and for what `posix_spawn`
//!   cannot say.
//!
//! Rule: every descriptor that is needed is open before a child exists; what fails after that kills
//! and reaps the child before the error is told.

#[cfg(unix)]
mod diagnosis;
#[cfg(unix)]
mod fds;
#[cfg(unix)]
mod forked;
#[cfg(windows)]
mod handles;
#[cfg(unix)]
mod hop;
#[cfg(windows)]
mod job;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod native;
mod orphan;
#[cfg(unix)]
mod portable;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod raw;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
#[cfg(unix)]
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::error::{InvalidReason, Refusal};
use crate::output::Exit;
use crate::signal::Signal;
use crate::stdio::OpenFile;
#[cfg(unix)]
use crate::stdio::PtySize;

#[cfg(unix)]
pub(crate) use forked::{Hosted, is_copy};
#[cfg(windows)]
pub(crate) use handles::Pipe;
#[cfg(unix)]
pub(crate) use raw::write_quietly;
#[cfg(unix)]
pub(crate) use unix::{Pipe, check_inherited, resize};

/// All that is needed to start one child.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a OsStr,
    #[cfg_attr(windows, allow(dead_code, reason = "Windows has one command line"))]
    pub(crate) arg0: Option<&'a OsStr>,
    pub(crate) args: &'a [OsString],
    /// The whole environment of the child.
    #[cfg(unix)]
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where to look for a program without a slash.
    #[cfg(unix)]
    pub(crate) path: Option<OsString>,
    /// The child inherits no variable.
    #[cfg(windows)]
    pub(crate) env_clear: bool,
    /// What is set and removed (`None`) of the environment, each variable once.
    #[cfg(windows)]
    pub(crate) env: Vec<(&'a OsStr, Option<&'a OsStr>)>,
    pub(crate) cwd: Option<&'a Path>,
    /// Sorted by number, each number once. What is not listed is closed, unless `inherit_fds`.
    pub(crate) ends: Vec<(i32, End<'a>)>,
    #[cfg_attr(windows, allow(dead_code, reason = "nothing to choose there"))]
    pub(crate) inherit_fds: bool,
    #[cfg(unix)]
    pub(crate) identity: &'a Identity,
    /// The child's descriptors 0, 1 and 2 are a terminal of this size; the ends name none of them.
    #[cfg(unix)]
    pub(crate) terminal: Option<PtySize>,
    /// The child leads a process group, or a job on Windows, and what is sent to it is sent to all of them.
    pub(crate) new_group: bool,
}

/// The child's side of one descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    Closed,
    Inherit,
    Null,
    Open(&'a OpenFile),
    /// A pipe that the child writes.
    Output,
    /// A pipe that the child reads.
    Input,
    SameAs(i32),
}

/// Who the child is; what `posix_spawn` cannot say.
#[cfg(unix)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) umask: Option<u32>,
}

#[cfg(unix)]
impl Identity {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn is_parents(&self) -> bool {
        self.uid.is_none() && self.gid.is_none() && self.groups.is_none() && self.umask.is_none()
    }
}

/// A child that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) ours: Ours,
}

/// The parent's ends.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    /// In the order of `Launch::ends`; a terminal's are 0, to write, and 1, to read.
    pub(crate) pipes: Vec<(i32, Pipe)>,
    /// The terminal once more, which hangs up when nobody here has it open.
    pub(crate) terminal: Option<Pipe>,
}

/// A pipe from one child to another, reading end first; both ends are ours and no child inherits them.
pub(crate) fn joint() -> Result<(OpenFile, OpenFile), Refusal> {
    #[cfg(unix)]
    return unix::pipe();
    #[cfg(windows)]
    handles::pipe().map(|(reader, writer)| (reader.into(), writer.into())).map_err(Refusal::os)
}

/// Starts a child.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Started, Refusal> {
    if launch.program.is_empty() {
        return Err(Refusal::invalid(InvalidReason::EmptyProgram, "the program has no name"));
    }
    #[cfg(unix)]
    let (engine, ours) = unix::spawn(launch)?;
    #[cfg(windows)]
    let (engine, ours) = windows::spawn(launch)?;
    let shared = Arc::new(Shared {
        engine,
        ended_by_us: AtomicBool::new(false),
        reached: AtomicBool::new(false),
        watcher: AtomicWaker::new(),
    });
    let child = Child { shared, exited: false, released: false, look: Look::No, kill_on_drop: true };
    Ok(Started { child, ours })
}

/// How often to ask for the exit of a child that is traced, where nothing else tells of it.
#[cfg(unix)]
const AGAIN: Duration = Duration::from_millis(10);

/// One started child. Dropping it kills the child, unless told otherwise, and has it reaped in the
/// background in any case.
#[derive(Debug)]
pub(crate) struct Child {
    shared: Arc<Shared>,
    exited: bool,
    /// Nothing is to be sent to it any more.
    released: bool,
    look: Look,
    kill_on_drop: bool,
}

/// Whether to ask for the exit before waiting to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Look {
    #[default]
    No,
    /// It is likely to have happened.
    Likely,
    /// It was told.
    Told,
}

/// What names of a child share with it.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// One of us has told the child to end.
    ended_by_us: AtomicBool,
    /// That has reached the child, or what is left of its group.
    reached: AtomicBool,
    /// Whoever is to know that, once the child has exited and no exit will tell.
    watcher: AtomicWaker,
}

#[derive(Debug)]
enum Engine {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    Native(native::Native),
    #[cfg(unix)]
    Portable(portable::Portable),
    /// Started, but somebody else reaped it before it could be watched.
    #[cfg(unix)]
    Lost,
    #[cfg(windows)]
    Windows(windows::Handle),
}

impl Child {
    /// The process id; `None` once the child was reaped, since the system may use the number again.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.shared.engine {
            _ if self.exited => None,
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Engine::Native(child) => Some(child.pid()),
            #[cfg(unix)]
            Engine::Portable(child) => Some(child.pid()),
            #[cfg(unix)]
            Engine::Lost => None,
            #[cfg(windows)]
            Engine::Windows(child) => Some(child.pid()),
        }
    }

    /// The exit is likely to have happened.
    pub(crate) fn look(&mut self) {
        if self.look == Look::No {
            self.look = Look::Likely;
        }
    }

    /// What `poll_exit` was waiting for has happened.
    pub(crate) fn told(&mut self) {
        self.look = Look::Told;
    }

    /// Reaps the child once it has exited. Not to be called again after `Ready`.
    pub(crate) fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<Exit> {
        let exit = self.shared.engine.poll_exit(&mut self.look, cx);
        self.exited |= exit.is_ready();
        exit
    }

    /// Kills the child; nothing happens to one that was reaped.
    ///
    /// The only error is "not permitted": the child has become another user.
    pub(crate) fn kill(&self) -> io::Result<()> {
        // Nobody is told: whoever calls this knows.
        self.shared.ended_by_us.store(true, Ordering::Relaxed);
        self.shared.engine.signal(Signal::KILL).map(drop)
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote(Arc::downgrade(&self.shared))
    }

    /// Whether one of us has told the child to end.
    pub(crate) fn was_ended(&self) -> bool {
        self.shared.ended_by_us.load(Ordering::Relaxed)
    }

    /// Whether that has reached the child or its group; wakes once it has.
    pub(crate) fn was_reached(&self, cx: &Context<'_>) -> bool {
        self.shared.watcher.register(cx.waker());
        self.shared.reached.load(Ordering::Acquire)
    }

    /// The child has ended: its group is left alone from now on.
    pub(crate) fn release(&mut self) {
        if self.exited && !std::mem::replace(&mut self.released, true) {
            self.shared.engine.release();
        }
    }

    /// Lets it run on when it is dropped.
    pub(crate) fn let_run(&mut self) {
        self.kill_on_drop = false;
    }
}

/// Whether the child is another process's, of which this one is a forked copy.
fn in_a_copy() -> bool {
    #[cfg(unix)]
    return is_copy();
    #[cfg(not(unix))]
    false
}

impl Engine {
    fn poll_exit(&self, _look: &mut Look, cx: &mut Context<'_>) -> Poll<Exit> {
        if in_a_copy() {
            return Poll::Ready(Exit::Lost);
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Engine::Native(child) => child.poll_exit(_look, cx),
            #[cfg(unix)]
            Engine::Portable(child) => child.poll_exit(cx),
            #[cfg(unix)]
            Engine::Lost => Poll::Ready(Exit::Lost),
            #[cfg(windows)]
            Engine::Windows(child) => child.poll_exit(cx),
        }
    }

    /// Sends a signal; `false` where the child was reaped already.
    fn signal(&self, signal: Signal) -> io::Result<bool> {
        if in_a_copy() {
            return Ok(false);
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Engine::Native(child) => child.signal(signal),
            #[cfg(unix)]
            Engine::Portable(child) => child.signal(signal),
            #[cfg(unix)]
            Engine::Lost => Ok(false),
            #[cfg(windows)]
            Engine::Windows(child) => child.signal(signal),
        }
    }

    /// Nothing is to be sent to the group of a child that has exited.
    fn release(&self) {
        if in_a_copy() {
            return;
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Engine::Native(child) => child.release(),
            #[cfg(unix)]
            Engine::Portable(child) => child.release(),
            #[cfg(unix)]
            Engine::Lost => {}
            #[cfg(windows)]
            Engine::Windows(child) => child.release(),
        }
    }
}

/// Names a child from anywhere, and keeps nothing of it alive.
#[derive(Clone, Debug)]
pub(crate) struct Remote(Weak<Shared>);

impl Remote {
    /// Of a child that was never started.
    pub(crate) fn nobody() -> Self {
        Remote(Weak::new())
    }

    /// Sends a signal; `false` where the child was reaped already.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        match signal {
            Signal::KILL => self.end(signal),
            _ => self.0.upgrade().map_or(Ok(false), |shared| shared.engine.signal(signal)),
        }
    }

    /// Sends a signal that is to end the child: nobody is to wait for what its descendants do.
    pub(crate) fn end(&self, signal: Signal) -> io::Result<bool> {
        let Some(shared) = self.0.upgrade() else { return Ok(false) };
        // Before the signal, so that whoever sees the exit sees this.
        let before = shared.ended_by_us.swap(true, Ordering::Relaxed);
        let sent = shared.engine.signal(signal);
        if let Ok(true) = sent {
            shared.leave();
        } else {
            // It goes on, and its descendants as well. Where somebody else has reached it meanwhile, `reached` tells.
            shared.ended_by_us.store(before, Ordering::Relaxed);
        }
        sent
    }

    /// Others of the same whole were told to end: nobody is to wait for what the descendants of this one do.
    pub(crate) fn leave(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.leave();
        }
    }
}

impl Shared {
    fn leave(&self) {
        self.ended_by_us.store(true, Ordering::Relaxed);
        if !self.reached.swap(true, Ordering::Release) {
            self.watcher.wake();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.released || in_a_copy() {
            return;
        }
        if self.kill_on_drop {
            // Where it is not permitted, nothing can be done.
            let _: io::Result<()> = self.kill();
        }
        if self.exited {
            self.release();
            return;
        }
        orphan::adopt(self.shared.clone());
    }
}
