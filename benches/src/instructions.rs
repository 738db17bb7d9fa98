//! User-space instructions of the parent: for one line of `lines()`, for one start, and for one `/bin/true` and back. Nearly the
//! same on every machine, and however busy it is.
//!
//! **A line** is counted by valgrind's callgrind, as the difference between 2 N lines and N, through N. Under valgrind reaped
//! uses its portable engine, since valgrind cannot share memory with a new process; what makes lines out of bytes is the same.
//!
//! **A start**, the call that starts `/bin/true` until it returns, is counted by running it step by step, ptrace(2), with
//! the engine that is used in earnest. The child is not counted, and neither are other threads. A string instruction counts
//! once, however often it repeats. The environment has 20 variables.
//!
//! **A run** is `/bin/true` from the call to the result with both streams captured, by callgrind: reaped's portable engine, and
//! all threads of each contestant.

use std::ffi::c_long;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use crate::Scale;
use crate::child::program;
use crate::compare::{Executor, median};
use crate::machine::said;
use crate::report::Figure;

const NAMES: [&str; 4] = ["reaped", "std", "tokio", "async-process"];
const TRUE: &str = "/bin/true";
/// Starts that are counted, after some that are not.
const STARTS: usize = 5;

static VALGRIND: LazyLock<Option<String>> = LazyLock::new(|| said(Command::new("valgrind"), &["--version"]));

/// What cannot be counted here.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if VALGRIND.is_none() {
        missing.push("instructions of a line and of a run, since valgrind is missing".into());
    }
    if counted_start("nothing").is_none() {
        missing.push("instructions of a start, since ptrace(2) is not allowed here".into());
    }
    missing
}

pub fn run(scale: Scale) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(version) = &*VALGRIND {
        let note = format!("{version}, portable engine");
        let lines = scale.pick(20_000, 2_000);
        figures.extend(figure("instructions/line", |name| grown("line", name, lines), &note));
        let runs = scale.pick(50, 5);
        figures.extend(figure("instructions/run", |name| grown("run", name, runs), &note));
    }
    // What is between the two marks if nothing is started.
    if let Some(nothing) = counted_start("nothing") {
        let start = |name: &str| counted_start(name).map_or(f64::NAN, |count| count - nothing);
        figures.extend(figure("instructions/start", start, "step by step, the usual engine"));
    }
    figures
}

/// Nothing if reaped's could not be counted.
fn figure(name: &str, count: impl Fn(&str) -> f64, note: &str) -> Option<Figure> {
    let counts = NAMES.map(|contestant| (contestant, count(contestant)));
    counts[0].1.is_finite().then(|| Figure::of(name, &counts.into(), 1.0, "instructions").note(note))
}

/// Instructions of one more, by callgrind.
fn grown(what: &str, name: &str, count: usize) -> f64 {
    let collected = |count: usize| {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program());
        steady(command.args(["--child", "instructions", what, name]).arg(count.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().expect("valgrind starts");
        // A new process under valgrind that does not come to its program has a number of its own.
        let ours = format!("=={}==", child.id());
        let output = child.wait_with_output().expect("a status");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{what} of {name}: {text}");
        let mut lines = text.lines().filter(|line| line.starts_with(&ours));
        let number = lines.find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
        number.unwrap_or_else(|| panic!("callgrind says no number: {text}"))
    };
    (collected(2 * count) - collected(count)) / count as f64
}

/// The same environment on every machine, and of a usual size.
fn steady(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    command.env_clear().env("PATH", path);
    command.envs((1..20).map(|number| (format!("VARIABLE_{number}"), "a value of some length")))
}

/// In the child: does it so many times.
pub fn play(what: &str, name: &str, count: usize) -> io::Result<()> {
    let name = NAMES
        .into_iter()
        .chain(["nothing"])
        .find(|known| *known == name)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let executor = Executor::TokioCt;
    match what {
        "line" => executor.block_on(crate::lines::read(name, count)),
        "run" => executor.block_on(async move {
            for _ in 0..count {
                run_once(name).await?;
            }
            Ok(())
        }),
        "start" => {
            be_traced()?;
            executor.block_on(async move {
                for round in 0..2 + STARTS {
                    start_once(name, round >= 2).await?;
                }
                Ok(())
            })
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

async fn run_once(name: &str) -> io::Result<()> {
    let success = match name {
        "reaped" => reaped::output(TRUE, [""; 0]).await?.status.success(),
        "std" => Command::new(TRUE).output()?.status.success(),
        "tokio" => tokio::process::Command::new(TRUE).output().await?.status.success(),
        _ => async_process::Command::new(TRUE).output().await?.status.success(),
    };
    if success { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
}

/// A start between two marks, if it is to be counted; and the end of the child, after them.
async fn start_once(name: &str, marked: bool) -> io::Result<()> {
    let mark = || {
        if marked {
            // SAFETY: only stops this thread, for whoever traces it.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
    };
    let success = match name {
        "reaped" => {
            mark();
            let process = reaped::Command::new(TRUE).spawn();
            mark();
            process?.output().await?.status.success()
        }
        "std" => {
            mark();
            let mut command = Command::new(TRUE);
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            mark();
            child?.wait_with_output()?.status.success()
        }
        "tokio" => {
            mark();
            let mut command = tokio::process::Command::new(TRUE);
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            mark();
            child?.wait_with_output().await?.status.success()
        }
        "async-process" => {
            mark();
            let mut command = async_process::Command::new(TRUE);
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            mark();
            child?.output().await?.status.success()
        }
        _ => {
            mark();
            mark();
            true
        }
    };
    if success { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
}

/// Asks the parent to trace this thread.
fn be_traced() -> io::Result<()> {
    // SAFETY: this request looks at no argument.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Instructions between two marks, the median of all pairs; nothing if tracing is not allowed.
fn counted_start(name: &str) -> Option<f64> {
    let mut command = Command::new(program());
    command.args(["--child", "instructions", "start", name, "0"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = steady(&mut command).stderr(Stdio::null()).spawn().expect("this program starts");
    let counts = between_marks(&child);
    if counts.is_err() {
        // A stopped child ends, too.
        let _: io::Result<()> = child.kill();
    }
    let counts = counts.ok();
    let _: io::Result<std::process::ExitStatus> = child.wait();
    counts.filter(|counts| counts.len() == STARTS).map(median)
}

/// Lets the child run up to a mark, and then step by step up to the next.
fn between_marks(child: &Child) -> io::Result<Vec<f64>> {
    let (mut counts, mut steps, mut at) = (Vec::new(), None::<f64>, None);
    while let Some(signal) = stopped(child)? {
        let mut passed_on = 0;
        match (signal, steps) {
            (libc::SIGSTOP, None) => steps = Some(0.0),
            (libc::SIGSTOP, Some(count)) => {
                counts.push(count);
                steps = None;
            }
            (libc::SIGTRAP, Some(count)) => {
                let now = address(child);
                if now.is_none() || now != at {
                    steps = Some(count + 1.0);
                }
                at = now;
            }
            (other, _) => passed_on = other,
        }
        let how = if steps.is_some() { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_CONT };
        resume(child, how, passed_on)?;
    }
    Ok(counts)
}

/// The signal that has stopped the child; nothing once it has ended.
fn stopped(child: &Child) -> io::Result<Option<i32>> {
    let mut status = 0;
    // A child that has ended is left for whoever asks for its status.
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: room for the answer.
    if unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), flags) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero bytes are a valid siginfo_t, and so is what the kernel wrote.
    let info = unsafe { info.assume_init() };
    if !matches!(info.si_code, libc::CLD_STOPPED | libc::CLD_TRAPPED) {
        return Ok(None);
    }
    // SAFETY: room for the answer.
    match unsafe { libc::waitpid(child.id() as libc::pid_t, &mut status, libc::WUNTRACED) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Some(libc::WSTOPSIG(status))),
    }
}

/// The address of the next instruction: that of a repetition is the same. Other processors have no such instructions.
#[cfg(target_arch = "x86_64")]
fn address(child: &Child) -> Option<c_long> {
    let place = std::mem::offset_of!(libc::user_regs_struct, rip) as c_long;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: asks for a word of the stopped child's registers, which are at the start of its user area.
    Some(unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, child.id() as libc::pid_t, place, none) })
}

#[cfg(not(target_arch = "x86_64"))]
fn address(_: &Child) -> Option<c_long> {
    None
}

fn resume(child: &Child, how: libc::c_uint, signal: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests look at no address, and take a signal's number.
    match unsafe { libc::ptrace(how, child.id() as libc::pid_t, none, c_long::from(signal)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
