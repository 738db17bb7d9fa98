//! One guardian for the whole program: it kills the children that are to die with the parent, once the parent is gone.
//!
//! Refuses to know how a child is started.
//!
//! The guardian is a shell that reads lines from a pipe. The parent has its only writing end, which no child inherits, so
//! the end of file comes however the parent goes: by SIGKILL, by abort(3), by an execve(2) of its own. (prctl(2) with
//! PR_SET_PDEATHSIG does not do: it watches the thread that made the child, reaches one process, and is Linux's.)
//!
//! Rules:
//! - The new process names itself to the guardian, before it becomes the program: the parent may be killed at any time.
//! - No line is there for a number that may be another's by then. A number is taken back before the child is reaped, and
//!   a process whose number here nobody knows, in a new namespace of processes, is not named. (If somebody has stopped the
//!   guardian and the pipe is full, what is to be taken back waits until there is room; nobody else waits for that.)
//! - The guardian has a session of its own, is an orphan and so no child of ours (a host may wait for all of its
//!   children), unless orphans come to us, and has none of our descriptors but the pipe.
//! - If somebody kills it, the next start of such a child starts another one, which is told of all that still run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString, c_int};
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::super::later::wake_after;
use super::super::launch::{Attributes, End, Launch, StartAnother};
use super::descriptors::pipe;
use super::forked::is_copy;
use super::raw::write_quietly;
use crate::error::{Refusal, SpawnReason};

/// What the guardian runs: a background list, so that the shell that was started can go. No line of it needs a process of
/// its own, since there may be none to be had when it matters; and none takes longer the more children there are, so it
/// has a variable for each. Of a group the leader is killed by its own number as well: it may have left the group.
const SCRIPT: &str = r#"
trap "" HUP INT QUIT TERM PIPE TSTP TTIN TTOU USR1 USR2
{
  echo ready
  exec >&2
  last=0
  while read -r what id number; do
    case $what in
      p | g)
        eval "child$id='$what $number'"
        if [ "$id" -gt $last ]; then last=$id; fi
        ;;
      -) unset "child$id" ;;
    esac
  done
  while [ $last -gt 0 ]; do
    eval "child=\${child$last-}"
    case $child in
      "g "*) kill -s KILL -- "-${child#g }" "${child#g }" ;;
      "p "*) kill -s KILL -- "${child#p }" ;;
    esac
    last=$((last - 1))
  done
} <&3 3<&- &
"#;

/// How long it may take to start.
const START: Duration = Duration::from_secs(10);

/// When to try again what had no room in the pipe, which holds some thousand lines.
const AGAIN: Duration = Duration::from_millis(20);

static STATE: Mutex<State> = Mutex::new(State {
    pipe: None,
    free: BTreeSet::new(),
    last: 0,
    guarded: BTreeMap::new(),
    unsent: VecDeque::new(),
});

struct State {
    pipe: Option<Arc<OwnedFd>>,
    /// The ids up to the last one that nobody has. They are used again, so that they stay as few as the children.
    free: BTreeSet<u32>,
    last: u32,
    /// What is named to the guardian: the process, or the group if it is negative.
    guarded: BTreeMap<u32, c_int>,
    /// Ids that are to be taken back, for which there is no room in the pipe: the guardian is stopped.
    unsent: VecDeque<u32>,
}

/// Of a child that is about to be started.
#[derive(Debug)]
pub(in crate::spawn) struct Registration {
    id: u32,
    pipe: Arc<OwnedFd>,
    group: bool,
    confirmed: bool,
}

/// The guardian knows the child for as long as this lives. Not zero, so that who has none needs no more room.
#[derive(Debug)]
pub(in crate::spawn) struct Guarded(NonZeroU32);

/// Has a guardian, and an entry for one more child. The child names itself with the line.
pub(in crate::spawn) fn register(group: bool, start: StartAnother) -> Result<Registration, Refusal> {
    let mut state = lock();
    let pipe = state.pipe.clone().filter(|pipe| has_reader(pipe));
    let pipe = match pipe {
        Some(pipe) => pipe,
        None => state.start(start)?,
    };
    state.flush();
    let id = match state.free.pop_first() {
        Some(id) => id,
        None => {
            state.last += 1;
            state.last
        }
    };
    Ok(Registration { id, pipe, group, confirmed: false })
}

impl Registration {
    pub(in crate::spawn) fn pipe(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// What the new process writes, with room for its number before the line's end: [`DIGITS`] bytes.
    pub(in crate::spawn) fn line(&self) -> Vec<u8> {
        let what = if self.group { 'g' } else { 'p' };
        format!("{what} {} {:DIGITS$}\n", self.id, "").into_bytes()
    }

    /// The child runs. To be called while it is not reaped.
    pub(in crate::spawn) fn confirm(mut self, pid: c_int) -> Option<Guarded> {
        self.confirmed = true;
        let mut state = lock();
        let number = if self.group { -pid } else { pid };
        state.guarded.insert(self.id, number);
        // Another guardian has been started in between, and was not told.
        if state.pipe.as_ref().is_some_and(|pipe| !Arc::ptr_eq(pipe, &self.pipe)) {
            state.write(&line(self.id, number));
        }
        // They begin with 1.
        NonZeroU32::new(self.id).map(Guarded)
    }

    /// The child does not run. To be called before it is reaped. It may be tried again.
    pub(in crate::spawn) fn cancel(&self) {
        lock().write(&no_more(self.id));
    }
}

/// Nothing is started with it any more.
impl Drop for Registration {
    fn drop(&mut self) {
        if !self.confirmed && !is_copy() {
            take_back(self.id);
        }
    }
}

/// How long a number may be.
pub(in crate::spawn) const DIGITS: usize = 10;

/// The number that has this id is not to be killed any more.
fn take_back(id: u32) {
    let mut state = lock();
    state.guarded.remove(&id);
    state.unsent.push_back(id);
    state.flush();
    let waits = !state.unsent.is_empty();
    drop(state);
    if waits {
        wake_after(AGAIN, Waker::from(Arc::new(Again)));
    }
}

fn no_more(id: u32) -> String {
    format!("- {id}\n")
}

fn line(id: u32, number: c_int) -> String {
    let what = if number < 0 { 'g' } else { 'p' };
    format!("{what} {id} {}\n", number.unsigned_abs())
}

/// Before the child is reaped.
impl Drop for Guarded {
    fn drop(&mut self) {
        // They are not a copy's.
        if !is_copy() {
            take_back(self.0.get());
        }
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Starts a guardian, and waits until it says that it is there.
    fn start(&mut self, start: StartAnother) -> Result<Arc<OwnedFd>, Refusal> {
        let failed = |error: io::Error| {
            let text = format!("the guardian that is to kill it does not start: {error}");
            Refusal::spawn(SpawnReason::Other, text, error)
        };
        let os = |errno: Errno| Refusal::os(errno.into());
        let (reads, writes) = pipe()?;
        // A host that has closed its standard descriptors may still write to them, and what it writes is no line.
        let writes = fcntl_dupfd_cloexec(&writes, 3).map_err(os)?;
        fcntl_setfl(&writes, OFlags::NONBLOCK).map_err(os)?;
        let attributes = Attributes { new_session: true, ..Attributes::default() };
        let args = ["-c", SCRIPT, "guardian"].map(OsString::from);
        let ends = vec![(0, End::Null), (1, End::Output), (2, End::Null), (3, End::Open(&reads))];
        let launch = Launch {
            program: OsStr::new("/bin/sh"),
            arg0: None,
            args: &args,
            env_clear: true,
            env: Vec::new(),
            path: None,
            cwd: Some(Path::new("/")),
            ends,
            inherit_fds: false,
            attributes: &attributes,
            terminal: None,
            new_group: false,
            die_with_parent: false,
        };
        // It leaves the guardian behind, and ends.
        let said = start(&launch)?.pipes.pop().map(|(_, said)| said);
        let said = said.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        wait(&said, PollFlags::IN, START).map_err(|errno| failed(errno.into()))?;
        let mut answer = [0; 6];
        File::from(said).read_exact(&mut answer).map_err(failed)?;
        drop(reads);
        let writes = Arc::new(writes);
        self.pipe = Some(writes.clone());
        // It knows of nobody.
        self.free.extend(self.unsent.drain(..));
        for (id, number) in &self.guarded {
            self.write(&line(*id, *number));
        }
        Ok(writes)
    }

    /// Takes back what is to be taken back, as far as there is room.
    fn flush(&mut self) {
        while let Some(id) = self.unsent.front() {
            if !self.write(&no_more(*id)) {
                return;
            }
            // Not before: whoever has the id next is named in a line behind this one.
            self.free.extend(self.unsent.pop_front());
        }
    }

    /// A line, at once: nobody waits here for a guardian that does not read. `false` if there is no room for it. If the
    /// guardian is gone, there is nobody to tell; the next one is told of all.
    fn write(&self, line: &str) -> bool {
        let Some(pipe) = &self.pipe else { return true };
        loop {
            match write_quietly(pipe.as_fd(), &[IoSlice::new(line.as_bytes())]) {
                Err(Errno::INTR) => {}
                written => return written != Err(Errno::AGAIN),
            }
        }
    }
}

/// By the reactor's thread: there may be room by now.
struct Again;

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        let mut state = lock();
        state.flush();
        let waits = !state.unsent.is_empty();
        drop(state);
        if waits {
            wake_after(AGAIN, Waker::from(self));
        }
    }
}

/// Whether somebody reads the pipe.
fn has_reader(pipe: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(pipe, PollFlags::OUT)];
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    // POLLERR on Linux, POLLHUP on the BSDs.
    poll(&mut asked, Some(&NOW)).is_err() || !asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

fn wait(pipe: &OwnedFd, what: PollFlags, at_most: Duration) -> Result<(), Errno> {
    let at_most = Timespec { tv_sec: at_most.as_secs() as _, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(pipe, what)], Some(&at_most)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    use super::SCRIPT;

    /// What the guardian is told, in its own shell: whom it kills at the end.
    #[test]
    fn it_kills_those_that_are_left() {
        let sleep = || -> Child {
            let mut command = Command::new("sleep");
            command.arg("1000").process_group(0).spawn().expect("starts")
        };
        let mut children: Vec<Child> = (0..6).map(|_| sleep()).collect();
        // As it is started, but on descriptor 0: std gives no other.
        let script = SCRIPT.replace("<&3 3<&- &", "").replace("exec >&2", "");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn().expect("starts");
        let mut told = shell.stdin.take().expect("a pipe");
        for (id, child) in (1..).zip(&children) {
            let what = if id % 2 == 0 { 'g' } else { 'p' };
            writeln!(told, "{what} {id} {:10}", child.id()).expect("it reads");
        }
        // In the middle, the first and the last; one that is not there, and one whose id was used before.
        write!(told, "p 11 {}\n- 3\n- 1\n- 6\n- 7\n- 2\ng 2 {:10}\n", i32::MAX, children[1].id())
            .expect("it reads");
        drop(told);
        assert!(shell.wait().expect("ours").code().is_some());
        for (id, child) in (1..).zip(&mut children) {
            let lives = [1, 3, 6].contains(&id);
            if lives {
                assert!(child.try_wait().expect("ours").is_none(), "{id}");
                child.kill().expect("ours");
            }
            assert_eq!(child.wait().expect("ours").signal(), Some(9), "{id}");
        }
    }
}
