//! The limit: children by the bare system calls, posix_spawn, poll, read and waitpid.

use std::ffi::{CStr, c_char};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::ptr;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, Thread};

unsafe extern "C" {
    static environ: *const *mut c_char;
}

/// Starts a program with the null device as stdin. `map` adds pairs (the parent's number, the child's). Every
/// number of the parent must be above every number of the child.
pub fn spawn(arguments: &[&CStr], map: &[(RawFd, RawFd)]) -> io::Result<libc::pid_t> {
    let mut argv: Vec<*mut c_char> = arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());
    let mut actions = std::mem::MaybeUninit::uninit();
    // SAFETY: initialises what it is given.
    check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
    // SAFETY: initialised just above.
    let mut actions = unsafe { actions.assume_init() };
    // SAFETY: initialised actions, and a C string, which is copied.
    check(unsafe {
        libc::posix_spawn_file_actions_addopen(&mut actions, 0, c"/dev/null".as_ptr(), libc::O_RDONLY, 0)
    })?;
    for (ours, theirs) in map {
        // SAFETY: initialised actions.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut actions, *ours, *theirs) })?;
    }
    let mut pid = 0;
    // SAFETY: initialised actions; argv ends with a null pointer, as does environ, which nobody changes here.
    let failed = unsafe {
        libc::posix_spawn(&mut pid, arguments[0].as_ptr(), &actions, ptr::null(), argv.as_ptr(), environ)
    };
    // SAFETY: initialised, and not used again.
    unsafe { libc::posix_spawn_file_actions_destroy(&mut actions) };
    check(failed)?;
    Ok(pid)
}

/// Waits for the exit.
pub fn wait(pid: libc::pid_t) -> io::Result<ExitStatus> {
    let mut status = 0;
    // SAFETY: room for the answer.
    match unsafe { libc::waitpid(pid, &mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(ExitStatus::from_raw(status)),
    }
}

fn poll(asked: &mut [libc::pollfd]) -> io::Result<()> {
    // SAFETY: a slice and its length.
    match unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, -1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// These functions return the error number.
fn check(errno: libc::c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// A child whose stdout and stderr are captured.
struct Captured {
    pid: libc::pid_t,
    /// Closed once at their end.
    pipes: [Option<PipeReader>; 2],
    said: [Vec<u8>; 2],
}

impl Captured {
    fn start(arguments: &[&CStr]) -> io::Result<Self> {
        let (out, out_theirs) = io::pipe()?;
        let (err, err_theirs) = io::pipe()?;
        let pid = spawn(arguments, &[(out_theirs.as_raw_fd(), 1), (err_theirs.as_raw_fd(), 2)])?;
        Ok(Captured { pid, pipes: [Some(out), Some(err)], said: Default::default() })
    }

    fn is_read(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// One read of what poll found to be ready.
    fn read(&mut self, which: usize) -> io::Result<()> {
        let Some(pipe) = &mut self.pipes[which] else { return Ok(()) };
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk)? {
            0 => self.pipes[which] = None,
            count => self.said[which].extend_from_slice(&chunk[..count]),
        }
        Ok(())
    }

    fn reap(self) -> io::Result<Output> {
        let [stdout, stderr] = self.said;
        Ok(Output { status: wait(self.pid)?, stdout, stderr })
    }
}

/// Runs a program `total` times, at most `width` at a time, and captures the output.
pub fn outputs(arguments: &[&CStr], total: usize, width: usize) -> io::Result<Vec<Output>> {
    let mut running: Vec<Captured> = Vec::with_capacity(width);
    let mut done = Vec::with_capacity(total);
    let mut started = 0;
    let mut asked = Vec::with_capacity(2 * width);
    while done.len() < total {
        while started < total && running.len() < width {
            running.push(Captured::start(arguments)?);
            started += 1;
        }
        asked.clear();
        for child in &running {
            // poll(2) skips a negative descriptor.
            asked.extend(child.pipes.iter().map(|pipe| libc::pollfd {
                fd: pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd),
                events: libc::POLLIN,
                revents: 0,
            }));
        }
        poll(&mut asked)?;
        for index in (0..running.len()).rev() {
            for which in 0..2 {
                if asked[2 * index + which].revents != 0 {
                    running[index].read(which)?;
                }
            }
            if running[index].is_read() {
                done.push(running.swap_remove(index).reap()?);
            }
        }
    }
    Ok(done)
}

/// Runs a program and captures its output.
pub fn output(arguments: &[&CStr]) -> io::Result<Output> {
    Ok(outputs(arguments, 1, 1)?.remove(0))
}

/// A thread that waits for the pipes of a child, and wakes another thread.
pub struct Relay(Sender<([RawFd; 2], Thread)>);

impl Relay {
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = channel::<([RawFd; 2], Thread)>();
        thread::Builder::new().spawn(move || {
            for (pipes, waits) in receiver {
                let mut asked = pipes.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
                // An error wakes the thread too.
                let _: io::Result<()> = poll(&mut asked);
                waits.unpark();
            }
        })?;
        Ok(Relay(sender))
    }

    /// Runs a program and captures its output; sleeps until the other thread has seen something.
    pub fn output(&self, arguments: &[&CStr]) -> io::Result<Output> {
        let mut child = Captured::start(arguments)?;
        let pipes = [0, 1].map(|which| child.pipes[which].as_ref().map_or(-1, AsRawFd::as_raw_fd));
        self.0.send((pipes, thread::current())).map_err(io::Error::other)?;
        thread::park();
        // The rest follows at once, so this thread waits for it.
        while !child.is_read() {
            child.read(0)?;
            child.read(1)?;
        }
        child.reap()
    }
}
