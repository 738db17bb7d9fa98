//! This crate and `std::process` run the same random script, and their status and bytes are equal. The suite
//! runs on both engines, so this also compares the engines.
//!
//! A failure prints the seed and the shortest script that still fails. `REAPED_DIFFERENTIAL_RUNS` is the
//! number of scripts. `REAPED_DIFFERENTIAL_SEED` is the seed of an earlier run.

use std::io::{Read, Write};
use std::process as std_process;
use std::time::SystemTime;

use futures::executor::block_on;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use reaped::{Command, Error, Event, ExitStatus, Stdio};

use super::helper::pattern;
use super::support::{alone, helper, pipe};

const RUNS: u32 = 200;

/// What one child does (see `helper.rs`), and how the test runs it.
#[derive(Clone, Debug)]
struct Script {
    steps: Vec<String>,
    /// `None` is the null device.
    input: Option<usize>,
    /// stderr is stdout.
    merged: bool,
    verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Output,
    Events,
    Lines,
    Reader,
    ReadBytes,
    Read,
    ExitCode,
    Status,
}

/// What the test saw of a child.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn size() -> impl Strategy<Value = usize> {
    // About the size of a pipe's buffer, and more.
    prop_oneof![8 => 0..300_usize, 3 => 65_530..65_545_usize, 1 => 100_000..400_000_usize]
}

fn step() -> impl Strategy<Value = String> {
    let fd = || 1..3;
    prop_oneof![
        4 => size().prop_map(|n| format!("out:{n}")),
        4 => size().prop_map(|n| format!("err:{n}")),
        6 => (fd(), "[ -~äö€\r\n]{0,12}").prop_map(|(fd, text)| format!("say:{fd}:{text}")),
        3 => fd().prop_map(|fd| format!("copy:0:{fd}")),
        1 => (0..3).prop_map(|fd| format!("close:{fd}")),
        1 => (0..4).prop_map(|ms| format!("sleep:{ms}")),
        1 => (0..300).prop_map(|code| format!("exit:{code}")),
        // No signal that stops a process or dumps its memory. The last two do nothing to the child.
        1 => prop::sample::select(vec![
            libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGPIPE, libc::SIGALRM, libc::SIGTERM,
            libc::SIGUSR1, libc::SIGCONT, libc::SIGWINCH,
        ]).prop_map(|signal| format!("raise:{signal}")),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    use Verb::*;
    let verb = prop::sample::select(vec![Output, Events, Lines, Reader, ReadBytes, Read, ExitCode, Status]);
    let input = proptest::option::of(size());
    (vec(step(), 0..8), input, any::<bool>(), verb).prop_map(|(steps, input, merged, verb)| Script {
        steps,
        input,
        merged,
        verb,
    })
}

fn run_by_std(script: &Script) -> Seen {
    let mut command = std_process::Command::new(std::env::current_exe().expect("this binary"));
    command.arg("--helper").args(&script.steps);
    command.stdin(if script.input.is_some() {
        std_process::Stdio::piped()
    } else {
        std_process::Stdio::null()
    });
    let merged = script.merged.then(|| {
        let (reader, writer) = pipe();
        command.stdout(writer.try_clone().expect("a copy")).stderr(writer);
        std::fs::File::from(reader)
    });
    if merged.is_none() {
        command.stdout(std_process::Stdio::piped()).stderr(std_process::Stdio::piped());
    }
    let mut child = command.spawn().expect("it starts");
    // This drops its copies of the pipe too.
    drop(command);
    let feeder = child.stdin.take().zip(script.input).map(|(mut stdin, length)| {
        // A child need not read its input.
        std::thread::spawn(move || drop(stdin.write_all(&pattern(length))))
    });
    let mut together = Vec::new();
    if let Some(mut reader) = merged {
        reader.read_to_end(&mut together).expect("a pipe");
    }
    let output = child.wait_with_output().expect("it ends");
    if let Some(feeder) = feeder {
        feeder.join().expect("no panic");
    }
    together.extend(output.stdout);
    Seen { status: output.status, stdout: together, stderr: output.stderr }
}

fn command(script: &Script) -> Command {
    let steps: Vec<&str> = script.steps.iter().map(String::as_str).collect();
    let mut command = helper(&steps);
    command.stdin(script.input.map_or(Stdio::null(), |length| Stdio::bytes(pattern(length))));
    if script.merged {
        command.stdout(Stdio::output()).stderr(Stdio::same_as(1));
    }
    command
}

/// Runs the script by its verb, and compares the result with what std saw.
async fn compare(script: &Script, expected: Seen) -> Result<(), TestCaseError> {
    let mut command = command(script);
    let text = String::from_utf8(expected.stdout.clone()).ok();
    let (result, good): (Result<Vec<u8>, Error>, Vec<u8>) = match script.verb {
        Verb::Output => {
            let output = command.output().await.expect("it runs");
            let seen = Seen { status: output.status, stdout: output.stdout, stderr: output.stderr };
            return same(seen, expected);
        }
        Verb::Status => {
            let stderr = if script.merged { Stdio::same_as(1) } else { Stdio::output() };
            let status = command.stdout(Stdio::output()).stderr(stderr).status().await.expect("it runs");
            prop_assert_eq!(status, expected.status);
            return Ok(());
        }
        Verb::Events | Verb::Lines | Verb::Reader => return same(talk(script.verb, command).await, expected),
        Verb::ExitCode => {
            // "Discarded" is not "merged".
            match command.exit_code().await {
                Ok(code) => prop_assert_eq!(Some(code), expected.status.code()),
                Err(Error::Failed(_)) => prop_assert_eq!(None, expected.status.code()),
                Err(error) => panic!("{error:?}"),
            }
            return Ok(());
        }
        Verb::ReadBytes => (command.read_bytes().await, expected.stdout.clone()),
        Verb::Read => {
            let good = text.as_ref().map(|text| text.strip_suffix('\n').unwrap_or(text));
            let good =
                good.map(|line| line.strip_suffix('\r').filter(|_| good != text.as_deref()).unwrap_or(line));
            (command.read().await.map(String::into_bytes), good.unwrap_or_default().into())
        }
    };
    match result {
        Ok(bytes) => {
            prop_assert!(expected.status.success(), "{} is no success", expected.status);
            prop_assert!(script.verb != Verb::Read || text.is_some(), "it is no text");
            prop_assert!(bytes == good, "other bytes");
            Ok(())
        }
        Err(error) => {
            match &error {
                Error::Failed(_) => prop_assert!(!expected.status.success(), "it was a success"),
                Error::NotUtf8(_) => prop_assert!(expected.status.success() && text.is_none()),
                _ => panic!("{error:?}"),
            }
            let output = error.into_output().expect("every error after the start has it");
            same(Seen { status: output.status, stdout: output.stdout, stderr: output.stderr }, expected)
        }
    }
}

/// Reads a child's output in one of three ways.
async fn talk(verb: Verb, mut command: Command) -> Seen {
    let mut process = command.spawn().expect("it starts");
    let (mut stdout, mut stderr, mut ended) = (Vec::new(), Vec::new(), None);
    if verb == Verb::Reader {
        let mut reader = process.reader(1).expect("a pipe");
        let (read, output) = futures::join!(
            futures::io::AsyncReadExt::read_to_end(&mut reader, &mut stdout),
            process.output()
        );
        read.expect("a pipe");
        let output = output.expect("it ends");
        return Seen { status: output.status, stdout, stderr: output.stderr };
    }
    if verb == Verb::Lines {
        // Lines leave some text out. `same` puts it back, because it knows the output.
        let mut lines = process.lines();
        while let Some(line) = lines.next().await {
            let to = if line.fd == 1 { &mut stdout } else { &mut stderr };
            to.extend_from_slice(line.bytes());
            if line.complete {
                to.push(b'\n');
            }
        }
        return Seen { status: process.status().await.expect("it ends"), stdout, stderr };
    }
    while let Some(event) = process.next().await {
        assert!(ended.is_none(), "{event:?} after the end");
        match event {
            Event::Data { fd: 1, data } => stdout.extend(data),
            Event::Data { fd: 2, data } => stderr.extend(data),
            Event::Closed { .. } | Event::Exited(_) => {}
            Event::Ended(status) => ended = Some(status),
            other => panic!("{other:?}"),
        }
    }
    Seen { status: ended.expect("an end"), stdout, stderr }
}

fn same(seen: Seen, expected: Seen) -> Result<(), TestCaseError> {
    prop_assert_eq!(seen.status, expected.status);
    for (name, ours, theirs) in
        [("stdout", seen.stdout, expected.stdout), ("stderr", seen.stderr, expected.stderr)]
    {
        let differ =
            ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
        prop_assert!(
            ours == theirs,
            "{}: {} bytes, and {} by std; the same up to {}",
            name,
            ours.len(),
            theirs.len(),
            differ
        );
    }
    Ok(())
}

/// Every line end is reported as `\n`.
fn plain_ends(seen: &mut Seen) {
    for bytes in [&mut seen.stdout, &mut seen.stderr] {
        let mut plain = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line {
                [text @ .., b'\r', b'\n'] => plain.extend([text, b"\n"].concat()),
                _ => plain.extend_from_slice(line),
            }
        }
        *bytes = plain;
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn results_are_equal_to_stds() {
    alone("differential::results_are_equal_to_stds", || {
        // If this process ignores a signal (under nohup(1), for example), std's children ignore it too, and
        // this crate's do not.
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGALRM, libc::SIGTERM, libc::SIGUSR1] {
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        as_std_says();
    });
}

fn as_std_says() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let seed = number("REAPED_DIFFERENTIAL_SEED").unwrap_or(now.as_nanos() as u64);
    let cases = number("REAPED_DIFFERENTIAL_RUNS").map_or(RUNS, |runs| runs as u32);
    println!("REAPED_DIFFERENTIAL_SEED={seed} REAPED_DIFFERENTIAL_RUNS={cases}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&script(), |script| {
        let mut expected = run_by_std(&script);
        if script.verb == Verb::Lines {
            plain_ends(&mut expected);
        }
        block_on(compare(&script, expected))
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, script)) => panic!("{why}\n{script:#?}"),
        Err(error) => panic!("{error}"),
    }
}
