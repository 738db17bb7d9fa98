//! One guardian for the whole program. It kills the children that must die with the parent, once the parent is gone.
//!
//! Refuses to know how a child is started.
//!
//! The guardian is a shell that reads lines from a pipe. Only the parent has the writing end, and no child inherits
//! it. So the guardian reads end of file after any end of the parent: SIGKILL, abort(3), or an execve(2) of its own.
//! (prctl(2) with PR_SET_PDEATHSIG is not enough: it watches the thread that made the child, reaches one process, and
//! exists on Linux only.)
//!
//! Rules:
//! - The new process names itself to the guardian before it becomes the program, because the parent may be killed at
//!   any time.
//! - A line never names a number that may belong to another process. A number is taken back before the child is
//!   reaped. A process in a new pid namespace, whose number here is unknown, is not named. (If somebody has stopped
//!   the guardian and the pipe is full, taking back waits until there is room; nothing else waits for that.)
//! - The guardian has a session of its own, and no descriptor of this program except the pipe. It is an orphan, so it
//!   is no child of this program, and a host may wait for all of its children. The exception is a program that
//!   orphans become children of.
//! - If somebody kills the guardian, the next start of such a child starts another one and names all running ones to
//!   it.

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
use super::raw::{raises_sigpipe, write_quietly};
use crate::error::{Refusal, SpawnReason};

/// The guardian's script: a background list, so that the starting shell can exit. No line of it needs a new process,
/// because there may be none when it matters. No line takes longer if there are more children, so the script has a
/// variable for each. It also kills the leader of a group by its own number, because the leader may have left the
/// group.
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

/// How long the start may take.
const START: Duration = Duration::from_secs(10);

/// When to retry a line that had no room in the pipe. The pipe holds some thousand lines.
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
    /// The unused ids up to the highest used one. They are used again, so there are no more ids than children.
    free: BTreeSet<u32>,
    last: u32,
    /// The name for the guardian: the process, or the group if it is negative.
    guarded: BTreeMap<u32, c_int>,
    /// Ids to take back later: the pipe has no room, because the guardian is stopped.
    unsent: VecDeque<u32>,
}

/// For a child that is about to start.
#[derive(Debug)]
pub(in crate::spawn) struct Registration {
    id: u32,
    pipe: Arc<OwnedFd>,
    group: bool,
    confirmed: bool,
}

/// The guardian knows the child while this lives. It is not zero, so `None` needs no more room.
#[derive(Debug)]
pub(in crate::spawn) struct Guarded(NonZeroU32);

/// Makes sure of a guardian, and makes an entry for one more child. The child names itself with the line.
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

    /// The child runs. Call this before it is reaped.
    pub(in crate::spawn) fn confirm(mut self, pid: c_int) -> Option<Guarded> {
        self.confirmed = true;
        let mut state = lock();
        let number = if self.group { -pid } else { pid };
        state.guarded.insert(self.id, number);
        // Another guardian was started meanwhile, and does not know the child.
        if state.pipe.as_ref().is_some_and(|pipe| !Arc::ptr_eq(pipe, &self.pipe)) {
            state.write(&line(self.id, number));
        }
        // They begin with 1.
        NonZeroU32::new(self.id).map(Guarded)
    }

    /// The child does not run. Call this before it is reaped. The start may be tried again.
    pub(in crate::spawn) fn cancel(&self) {
        lock().write(&no_more(self.id));
    }
}

/// No further start uses it.
impl Drop for Registration {
    fn drop(&mut self) {
        if !self.confirmed && !is_copy() {
            take_back(self.id);
        }
    }
}

/// The most digits of a number.
pub(in crate::spawn) const DIGITS: usize = 10;

/// Takes back the number with this id: it must not be killed any more.
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

/// Call this before the child is reaped.
impl Drop for Guarded {
    fn drop(&mut self) {
        // A forked copy has no children.
        if !is_copy() {
            take_back(self.0.get());
        }
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Starts a guardian, and waits until it reports that it is ready.
    fn start(&mut self, start: StartAnother) -> Result<Arc<OwnedFd>, Refusal> {
        let failed = |error: io::Error| {
            let text = format!("the guardian that is to kill it does not start: {error}");
            Refusal::spawn(SpawnReason::Other, text, error)
        };
        let os = |errno: Errno| Refusal::os(errno.into());
        let (reads, writes) = pipe()?;
        // A host that has closed its standard descriptors may still write to them, and such text is no line.
        let writes = fcntl_dupfd_cloexec(&writes, 3).map_err(os)?;
        fcntl_setfl(&writes, OFlags::NONBLOCK).map_err(os)?;
        raises_sigpipe(writes.as_fd(), false);
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
        // The shell leaves the guardian behind, and ends.
        let said = start(&launch)?.pipes.pop().map(|(_, said)| said);
        let said = said.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        wait(&said, PollFlags::IN, START).map_err(|errno| failed(errno.into()))?;
        let mut answer = [0; 6];
        File::from(said).read_exact(&mut answer).map_err(failed)?;
        drop(reads);
        let writes = Arc::new(writes);
        self.pipe = Some(writes.clone());
        // The new guardian knows no child.
        self.free.extend(self.unsent.drain(..));
        for (id, number) in &self.guarded {
            self.write(&line(*id, *number));
        }
        Ok(writes)
    }

    /// Takes back the waiting ids, while there is room.
    fn flush(&mut self) {
        while let Some(id) = self.unsent.front() {
            if !self.write(&no_more(*id)) {
                return;
            }
            // Not earlier: the line that gives the id to another child comes after this one.
            self.free.extend(self.unsent.pop_front());
        }
    }

    /// Writes a line without waiting, because a guardian may not read. Returns `false` if there is no room. If the
    /// guardian is gone, the line is dropped; the next guardian gets all names.
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

/// Called by the reactor's thread: there may be room now.
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

/// Whether a process reads the pipe.
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

    /// Gives the guardian lines in its own shell, and checks whom it kills at the end.
    #[test]
    fn it_kills_those_that_are_left() {
        let sleep = || -> Child {
            let mut command = Command::new("sleep");
            command.arg("1000").process_group(0).spawn().expect("starts")
        };
        let mut children: Vec<Child> = (0..6).map(|_| sleep()).collect();
        // As this module starts it, but on descriptor 0, because std gives no other.
        let script = SCRIPT.replace("<&3 3<&- &", "").replace("exec >&2", "");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn().expect("starts");
        let mut told = shell.stdin.take().expect("a pipe");
        for (id, child) in (1..).zip(&children) {
            let what = if id % 2 == 0 { 'g' } else { 'p' };
            writeln!(told, "{what} {id} {:10}", child.id()).expect("it reads");
        }
        // The middle, the first and the last one; one that does not exist, and one whose id was used before.
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
