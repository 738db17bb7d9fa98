//! User-space instructions of the parent: for one line of `lines()`, for one start, and for one `/bin/true`
//! and back. The figures are nearly the same on every machine, busy or not.
//!
//! **A line** is counted by valgrind's callgrind: the difference between 2 N lines and N lines, divided by N.
//! Under valgrind reaped uses its portable engine, because valgrind cannot share memory with a new process.
//! Both engines make lines out of bytes in the same way.
//!
//! **A start** is the call that starts `/bin/true`, until it returns. It runs step by step, ptrace(2), with
//! the usual engine. The child and other threads are not counted. A string instruction counts once, however
//! often it repeats. The environment has 20 variables.
//!
//! **A run** is `/bin/true` from the call to the result with both streams captured. callgrind counts it, with reaped's
//! portable engine, and all threads of each contestant.

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
/// The number of starts that count, after some that do not.
const STARTS: usize = 5;

static VALGRIND: LazyLock<Option<String>> = LazyLock::new(|| said(Command::new("valgrind"), &["--version"]));

/// What this machine cannot count.
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
    // The instructions between the two marks if nothing is started.
    if let Some(nothing) = counted_start("nothing") {
        let start = |name: &str| counted_start(name).map_or(f64::NAN, |count| count - nothing);
        figures.extend(figure("instructions/start", start, "step by step, the usual engine"));
    }
    figures
}

/// `None` if reaped's could not be counted.
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
        // If a new process under valgrind does not run its program, its lines have another number.
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

/// The same environment on every machine, of a usual size.
fn steady(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    command.env_clear().env("PATH", path);
    command.envs((1..20).map(|number| (format!("VARIABLE_{number}"), "a value of some length")))
}

/// In the child: does the work this many times.
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

/// A start, between two marks if it counts; and after them the end of the child.
async fn start_once(name: &str, marked: bool) -> io::Result<()> {
    let mark = || {
        if marked {
            // SAFETY: only stops this thread, for its tracer.
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

/// Instructions between two marks, the median of all pairs; `None` if tracing is not allowed.
fn counted_start(name: &str) -> Option<f64> {
    let mut command = Command::new(program());
    command.args(["--child", "instructions", "start", name, "0"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = steady(&mut command).stderr(Stdio::null()).spawn().expect("this program starts");
    let counts = between_marks(&child);
    if counts.is_err() {
        // This ends a stopped child too.
        let _: io::Result<()> = child.kill();
    }
    let counts = counts.ok();
    let _: io::Result<std::process::ExitStatus> = child.wait();
    counts.filter(|counts| counts.len() == STARTS).map(median)
}

/// Lets the child run to a mark, and then step by step to the next.
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

/// The signal that stopped the child; `None` once it has ended.
fn stopped(child: &Child) -> io::Result<Option<i32>> {
    let mut status = 0;
    // If the child has ended, it is not reaped here: another call asks for its status.
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

/// The address of the next instruction. A repeated instruction has the same address each time. Other
/// processors have no such instructions.
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
