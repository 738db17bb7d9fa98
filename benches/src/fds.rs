//! A child with one extra descriptor to read and one to write. The parent holds 0, 1 and 4 GiB of touched
//! memory (each contestant, in a process of its own).
//!
//! The memory has pages of the usual size (no huge pages), because a fork has to copy their tables. The three
//! sizes take turns. The child is a shell that uses only its builtins.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use command_fds::{CommandFdExt, FdMapping};

use crate::Scale;
use crate::bare;
use crate::compare::{Contest, Contestant, Executor, compare, median, timed, timed_call};
use crate::machine;
use crate::report::Figure;

const SCRIPT: &str = "read -r word <&3; echo $word >&4";
const GIB: usize = 1 << 30;

pub fn run(scale: Scale) -> Vec<Figure> {
    let mut sizes = vec![0, scale.pick(GIB, 16 << 20)];
    let mut notes = String::new();
    // Each of the three contestants holds this much.
    if scale.smoke || machine::available() > 14 * GIB as u64 {
        sizes.push(scale.pick(4 * GIB, 64 << 20));
    } else {
        notes = "4 GiB skipped: memory is short".into();
    }
    let mut samples = vec![Vec::new(); sizes.len()];
    for _ in 0..scale.pick(2, 1) {
        for (size, samples) in sizes.iter().zip(&mut samples) {
            let contest = Contest { family: "fds", executor: Executor::Futures, variant: *size, scale };
            samples.push(compare(contest, scale.pick(20, 2), contestants));
        }
    }
    let mut figures = Vec::new();
    let mut reaped = Vec::new();
    for (index, samples) in samples.iter().enumerate() {
        let name = ["fds/0GiB", "fds/1GiB", "fds/4GiB"][index];
        // The median of each contestant's medians.
        let medians = (0..samples[0].len())
            .map(|who| (samples[0][who].0, median(samples.iter().map(|round| round[who].1).collect())))
            .collect();
        let figure = Figure::of(name, &medians, 1e6, "us").note(notes.clone());
        reaped.push(medians[0].1);
        figures.push(if index == 2 { figure.aim("command-fds", 0.01) } else { figure });
    }
    let flat = reaped[reaped.len() - 1] / reaped[0];
    figures.push(Figure::new("fds/flat", flat, "x that of 0 GiB").aim_value(1.1).note(notes));
    figures
}

/// The memory that this contestant's process holds.
static HELD: OnceLock<Vec<u8>> = OnceLock::new();

fn hold(bytes: usize) {
    HELD.get_or_init(|| machine::touched(bytes));
}

/// The contestants; the variant is how much memory each of them holds.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let bytes = contest.variant;
    vec![
        Contestant::new("reaped", move || async move {
            hold(bytes);
            let mut command = reaped::Command::new("/bin/sh");
            let promise = command
                .args(["-c", SCRIPT])
                .fd(3, reaped::Stdio::bytes("word\n"))
                .fd(4, reaped::Stdio::output());
            let (seconds, output) = timed(|| promise.output()).await;
            let output = output.expect("a child");
            assert!(output.status.success() && output.fd(4) == Some(b"word\n"));
            seconds
        }),
        Contestant::blocking("command-fds", move || {
            hold(bytes);
            let (seconds, said) = timed_call(with_command_fds);
            assert_eq!(said.expect("a child"), b"word\n");
            seconds
        }),
        Contestant::blocking("bare", move || {
            hold(bytes);
            let (seconds, said) = timed_call(with_bare);
            assert_eq!(said.expect("a child"), b"word\n");
            seconds
        }),
    ]
}

/// Captures the streams as reaped does. They stay empty, so they need no thread.
fn with_command_fds() -> std::io::Result<Vec<u8>> {
    let (theirs_in, mut ours_in) = std::io::pipe()?;
    let (mut ours_out, theirs_out) = std::io::pipe()?;
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", SCRIPT]);
    let mappings = vec![
        FdMapping { parent_fd: theirs_in.into(), child_fd: 3 },
        FdMapping { parent_fd: theirs_out.into(), child_fd: 4 },
    ];
    command.fd_mappings(mappings).expect("no number twice");
    let child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    // The command owns the parent's copies of the child's ends.
    drop(command);
    ours_in.write_all(b"word\n")?;
    drop(ours_in);
    let mut said = Vec::new();
    ours_out.read_to_end(&mut said)?;
    assert!(child.wait_with_output()?.status.success());
    Ok(said)
}

fn with_bare() -> std::io::Result<Vec<u8>> {
    // Numbers above the child's, no matter what the parent has open.
    let occupied: Vec<_> = (0..3).map(|_| std::io::pipe()).collect::<Result<_, _>>()?;
    let (theirs_in, mut ours_in) = std::io::pipe()?;
    let (mut ours_out, theirs_out) = std::io::pipe()?;
    let (mut out, theirs_stdout) = std::io::pipe()?;
    let (mut err, theirs_stderr) = std::io::pipe()?;
    drop(occupied);
    let script = CString::new(SCRIPT)?;
    let pid = bare::spawn(
        &[c"/bin/sh", c"-c", &script],
        &[
            (theirs_stdout.as_raw_fd(), 1),
            (theirs_stderr.as_raw_fd(), 2),
            (theirs_in.as_raw_fd(), 3),
            (theirs_out.as_raw_fd(), 4),
        ],
    )?;
    drop((theirs_in, theirs_out, theirs_stdout, theirs_stderr));
    ours_in.write_all(b"word\n")?;
    drop(ours_in);
    let mut said = Vec::new();
    ours_out.read_to_end(&mut said)?;
    let mut streams = Vec::new();
    out.read_to_end(&mut streams)?;
    err.read_to_end(&mut streams)?;
    assert!(bare::wait(pid)?.success() && streams.is_empty());
    Ok(said)
}
