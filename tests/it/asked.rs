//! What one line each asks for: a shell's script, codes that count as success, a polite end, a call that
//! blocks.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use futures::executor::block_on;
use reaped::{Command, Error, InvalidReason, Pipeline, Signal, SpawnReason, Stdio, sh};

use super::support::{alone, eventually, everywhere, no_children};

/// No part of an argument is run as script.
#[test]
fn a_script_and_its_arguments() {
    everywhere(|| async {
        let odd = "a b; echo oops `id` $HOME \"'\n";
        let said =
            sh("printf '%s|' \"$0\" \"$1\" \"$#\" \"$@\"").args([odd, ""]).read_bytes().await.expect("runs");
        assert_eq!(String::from_utf8(said).expect("text"), format!("sh|{odd}|2|{odd}||"));
        let error = sh("exit $1").arg("3").run().await.expect_err("a code");
        assert_eq!(error.to_string(), "`/bin/sh -c 'exit $1' sh 3` exited with code 3");
    });
}

#[test]
fn codes_that_are_no_failure() {
    everywhere(|| async {
        for codes in [&[1][..], &[24, 1], &[0, 1]] {
            let ok = |script: &str| {
                let mut command = sh(script);
                command.ok_codes(codes.iter().copied());
                command
            };
            ok("exit 1").run().await.expect("it counts as success");
            ok("exit 0").run().await.expect("and so does 0");
            assert_eq!(ok("echo half; exit 1").read().await.expect("as well"), "half");
            assert_eq!(ok("echo half; exit 1").read_bytes().await.expect("as well"), b"half\n");
            assert_eq!(ok("exit 1").exit_code().await.expect("a value"), 1);
            let output = ok("exit 1").output().await.expect("a value");
            assert_eq!(output.check().expect("it counts as success").status.code(), Some(1));
            let error = ok("exit 2").run().await.expect_err("another code");
            assert!(matches!(error, Error::Failed(_)) && error.code() == Some(2), "{error}");
            let error = ok("kill -9 $$").run().await.expect_err("a signal");
            assert_eq!(error.status().expect("known").signal(), Some(9));
        }
    });
}

/// Each member of a pipeline has its own codes.
#[test]
fn codes_of_a_member() {
    let grep = |codes: &[i32]| {
        let mut grep = Command::new("grep");
        grep.arg("needle").stdin(Stdio::bytes("hay\n")).ok_codes(codes.iter().copied());
        grep
    };
    let count = Command::new("wc").arg("-l").clone();
    assert_eq!(block_on(grep(&[1]).pipe(&count).read()).expect("1 is fine").trim(), "0");
    let error = block_on(grep(&[]).pipe(&count).read()).expect_err("1 is not");
    assert_eq!((error.member(), error.code()), (Some("grep needle"), Some(1)));
    let error = block_on(grep(&[1]).pipe(sh("cat; exit 1")).read()).expect_err("it is not the other's");
    assert_eq!(error.member(), Some("/bin/sh -c 'cat; exit 1' sh"));
    // A member that SIGPIPE killed because its reader stopped reading has not failed.
    let error = block_on(Command::new("yes").pipe(sh("head -n 1; exit 5")).run()).expect_err("a code");
    assert_eq!((error.member(), error.code()), (Some("/bin/sh -c 'head -n 1; exit 5' sh"), Some(5)));
}

#[test]
fn a_pipeline_of_a_list() {
    let of = |scripts: &[&str]| scripts.iter().map(sh).collect::<Pipeline>();
    assert_eq!(block_on(of(&["echo b; echo a", "sort", "head -n 1"]).read()).expect("runs"), "a");
    assert_eq!(block_on(of(&["echo alone"]).read()).expect("runs"), "alone");
    let error = block_on(of(&[]).idle_timeout(Duration::from_secs(1)).read()).expect_err("nobody");
    assert!(matches!(error, Error::Invalid { reason: InvalidReason::EmptyProgram, .. }), "{error}");
    let promise = of(&["sleep 0.2", "cat"]).output();
    let pids = promise.pids();
    assert!(pids.len() == 2 && pids[0].is_some() && pids[1] == promise.pid(), "{pids:?}");
    block_on(promise).expect("runs");
    assert_eq!(sh("exec sleep 0").status().pids().len(), 1);
}

/// A folder in which a dropped child leaves notes of what it did.
struct Mark(tempfile::TempDir);

impl Mark {
    fn new() -> Self {
        Mark(tempfile::tempdir().expect("a folder"))
    }

    /// A script that notes the signal that asks it to end, waits a little, and ends. It reports when it is
    /// up.
    fn command(&self, name: &str, signal: &str) -> Command {
        let script = "trap 'sleep 0.1; echo asked > \"$1\"; exit' $2; echo up > \"$1.up\"; while :; do sleep 0.02; done";
        let mut command = sh(script);
        command.arg(self.0.path().join(name)).arg(signal).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).terminate_on_drop(true);
        command
    }

    fn wait_until_up(&self, name: &str) {
        eventually("it is up", || self.0.path().join(format!("{name}.up")).exists());
    }

    fn was_asked(&self, name: &str) {
        eventually("it was asked to end, and had the time for it", || {
            std::fs::read_to_string(self.0.path().join(name)).is_ok_and(|said| said == "asked\n")
        });
    }
}

/// Nobody polls, and the child has its grace all the same: alone, with a group, with another signal, as a
/// member.
#[test]
fn a_dropped_child_has_its_grace() {
    alone("asked::a_dropped_child_has_its_grace", || {
        let mark = Mark::new();
        let plain = mark.command("plain", "TERM").run();
        let grouped = mark.command("grouped", "TERM").new_group().output();
        let other = mark.command("other", "INT").stop_signal(Signal::INT).spawn().expect("starts");
        let pipeline = mark.command("first", "TERM").stdout(Stdio::null()).clone();
        let pipeline = [pipeline, mark.command("second", "TERM")].map(|mut one| one.run());
        for name in ["plain", "grouped", "other", "first", "second"] {
            mark.wait_until_up(name);
        }
        drop((plain, grouped, other, pipeline));
        for name in ["plain", "grouped", "other", "first", "second"] {
            mark.was_asked(name);
        }
        no_children();
    });
}

/// If the child ignores the polite signal, SIGKILL ends it after the grace.
#[test]
fn a_dropped_child_that_ignores_the_signal_is_killed() {
    alone("asked::a_dropped_child_that_ignores_the_signal_is_killed", || {
        let deaf = || {
            let mut command = sh("trap '' TERM; echo up; while :; do sleep 0.02; done");
            command.terminate_on_drop(true).grace(Duration::from_millis(100));
            command
        };
        for group in [false, true] {
            let mut command = deaf();
            if group {
                command.new_group();
            }
            let mut process = command.spawn().expect("starts");
            block_on(process.next()).expect("it is up");
            drop(process);
            no_children();
        }
        // A signal that the system does not know.
        let mut command = deaf();
        let mut process = command
            .stop_signal(Signal::from_raw(9999))
            .grace(Duration::from_secs(600))
            .spawn()
            .expect("starts");
        block_on(process.next()).expect("it is up");
        drop(process);
        no_children();
    });
}

/// If a runtime ends, it drops its promises, as any other drop.
#[test]
fn a_runtime_that_ends() {
    alone("asked::a_runtime_that_ends", || {
        let mark = Mark::new();
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut in_tokio = mark.command("tokio", "TERM");
        tokio.spawn(async move { in_tokio.run().await });
        tokio.block_on(tokio::task::yield_now());
        mark.wait_until_up("tokio");
        drop(tokio);
        mark.was_asked("tokio");

        let executor = smol::Executor::new();
        let mut in_smol = mark.command("smol", "TERM");
        executor.spawn(async move { in_smol.run().await }).detach();
        assert!(executor.try_tick());
        mark.wait_until_up("smol");
        drop(executor);
        mark.was_asked("smol");
        no_children();
    });
}

#[test]
fn the_polite_signal() {
    for signal in [Signal::INT, Signal::USR1, Signal::KILL] {
        let mut slow = sh("exec sleep 1000");
        slow.stop_signal(signal);
        let error = block_on(slow.timeout(Duration::from_millis(50)).run()).expect_err("slow");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        assert_eq!(error.status().expect("known").signal(), Some(signal.as_raw()));
        let promise = sh("exec sleep 1000").stop_signal(signal).status();
        promise.control().terminate().expect("it runs");
        assert_eq!(block_on(promise).expect("a value").signal(), Some(signal.as_raw()));
    }
}

/// The call blocks without an executor, and inside one.
#[test]
fn blocking() {
    assert_eq!(sh("cat").stdin(Stdio::bytes("hi\n")).read().wait().expect("runs"), "hi");
    let error = Command::new("no-such-program").run().wait().expect_err("missing");
    assert_eq!(error.spawn_reason(), Some(SpawnReason::ProgramNotFound));
    assert_eq!((error.status(), error.code(), error.member()), (None, None, None));
    let inside = smol::block_on(async { sh("exit 3").exit_code().wait() });
    assert_eq!(inside.expect("a value"), 3);
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let inside = tokio.block_on(tokio.spawn(async { sh("echo in").read().wait() }));
    assert_eq!(inside.expect("no panic").expect("runs"), "in");
}
