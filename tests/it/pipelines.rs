//! Pipelines of real programs: the bytes, the member that failed, the bounds of the whole, and that nothing
//! is left.

use std::os::unix::process::ExitStatusExt;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use reaped::{Command, Error, InvalidReason, Output, Pipeline, SpawnReason, Stdio};

use super::helper::pattern;
use super::support::{
    SOON, alone, descriptors, eventually, everywhere, helper, late, no_children, patiently, peak, reset_peak,
    sh, state_of, warm_up,
};

const NEVER: Duration = Duration::from_secs(600);

fn cat() -> Command {
    Command::new("cat")
}

fn codes(output: &Output) -> Vec<Option<i32>> {
    output.members().iter().map(|member| member.status.code()).collect()
}

fn kept(error: &Error) -> &Output {
    error.output().expect("it ran")
}

#[test]
fn three_programs() {
    everywhere(|| async {
        let mut pipeline = Command::new("seq")
            .arg("100000")
            .pipe(Command::new("sort").arg("-r"))
            .pipe(Command::new("head").arg("-1"));
        assert_eq!(pipeline.read().await.expect("text"), "99999");
        // A pipeline can run again, and two runs can be alive at once.
        let (one, two) = (pipeline.read(), pipeline.output());
        let (one, two) = futures::join!(one, two);
        assert_eq!(
            (one.expect("text").as_str(), &two.expect("a value").stdout[..]),
            ("99999", &b"99999\n"[..])
        );
    });
}

#[test]
fn many_at_once() {
    everywhere(|| async {
        let many = (0..40).map(|n: usize| {
            let (size, out) = (n * 10_000, format!("out:{}", n * 10_000));
            let promise = helper(&[&out, "err:1000"]).pipe(cat()).pipe(cat()).output();
            async move {
                let output = promise.await.expect("a value");
                assert!(output.status.success() && output.stdout == pattern(size), "{output:?}");
                assert_eq!(output.stderr.len(), 1000);
            }
        });
        futures::future::join_all(many).await;
    });
}

#[test]
fn every_verb() {
    everywhere(|| async {
        let pass = |script| sh(script).pipe(cat());
        pass("true").run().await.expect("success");
        assert_eq!(pass("printf 'a\n\n'").read().await.expect("text"), "a\n");
        assert_eq!(pass(r"printf '\0\377'").read_bytes().await.expect("bytes"), b"\0\xff");
        assert_eq!(pass("cat").read().await.expect("stdin is the null device"), "");
        assert_eq!(pass("echo x; exit 4").exit_code().await.expect("a code"), 4);
        assert_eq!(pass("exit 4").status().await.expect("a status").code(), Some(4));
        let output = sh("echo one; echo e1 >&2; exit 4").pipe(sh("cat; echo e2 >&2; exit 5")).output().await;
        let output = output.expect("a value");
        assert_eq!((output.status.code(), codes(&output)), (Some(4), vec![Some(4), Some(5)]));
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"one\n"[..], &b"e1\ne2\n"[..]));
        let stderr: Vec<_> = output.members().iter().map(|member| &member.stderr[..]).collect();
        assert_eq!(stderr, [b"e1\n", b"e2\n"]);
        let error = output.check().expect_err("4 is a failure");
        assert!(error.to_string().ends_with("exited with code 4: e1"), "{error}");
        let error = pass(r"printf 'a\377'").read().await.expect_err("not UTF-8");
        assert!(matches!(error, Error::NotUtf8(_)), "{error}");
        assert_eq!(kept(&error).stdout, b"a\xff");
        // The output is discarded, so it does not fill a pipe.
        assert_eq!(helper(&["out:1000000", "err:1000000"]).pipe(cat()).exit_code().await.expect("a code"), 0);
    });
}

#[test]
fn sixty_four_mebibytes_through_three() {
    alone("pipelines::sixty_four_mebibytes_through_three", || {
        const SIZE: usize = 64 << 20;
        warm_up();
        let mut first = cat();
        first.stdin(Stdio::bytes(pattern(SIZE)));
        let bytes = block_on(first.pipe(cat()).pipe(cat()).read_bytes()).expect("bytes");
        assert!(bytes == pattern(SIZE));
        drop((bytes, first));
        // No byte of it goes through this process.
        let before = reset_peak();
        let count = helper(&[&format!("out:{SIZE}")]).pipe(cat()).pipe(Command::new("wc").arg("-c")).read();
        assert_eq!(block_on(count).expect("a number").trim(), SIZE.to_string());
        let more = peak() - before;
        assert!(more < 4 << 20, "{more} bytes");
    });
}

#[test]
fn the_first_failed_member_counts() {
    everywhere(|| async {
        let three = |codes: [i32; 3]| {
            let [one, two, three] = codes.map(|code| sh(&format!("cat; echo said {code} >&2; exit {code}")));
            one.pipe(two).pipe(three)
        };
        for (set, first) in [([3, 0, 0], 3), ([0, 3, 0], 3), ([0, 0, 3], 3), ([4, 5, 6], 4), ([0, 5, 6], 5)] {
            let error = three(set).read().await.expect_err("one has failed");
            assert!(matches!(error, Error::Failed(_)), "{error}");
            let member = format!("sh -c 'cat; echo said {first} >&2; exit {first}'");
            let end = format!(": `{member}` exited with code {first}: said {first}");
            assert!(error.to_string().ends_with(&end), "{error}");
            assert!(error.command().starts_with("sh -c 'cat; ") && error.command().contains("' | sh -c '"));
            assert_eq!(codes(kept(&error)), set.map(Some), "all are kept");
            assert_eq!(kept(&error).status.code(), Some(first));
            // With `pipefail(false)` only the last member counts.
            let result = three(set).pipefail(false).read().await;
            match set[2] {
                0 => assert_eq!(result.expect("the last one counts"), ""),
                last => {
                    let error = result.expect_err("the last one counts");
                    assert!(error.to_string().ends_with(&format!("exited with code {last}: said {last}")));
                    assert_eq!(codes(kept(&error)), set.map(Some));
                }
            }
            assert_eq!(three(set).pipefail(false).exit_code().await.expect("a code"), set[2]);
        }
        let error = Command::new("false").pipe(cat()).run().await.expect_err("failed");
        assert_eq!(error.to_string(), "`false | cat`: `false` exited with code 1");
        let error = Command::new("true").pipe(sh("kill -9 $$")).exit_code().await.expect_err("no code");
        assert_eq!(
            error.to_string(),
            "`true | sh -c 'kill -9 $$'`: `sh -c 'kill -9 $$'` was killed by SIGKILL (signal 9)"
        );
    });
}

#[test]
fn sigpipe_is_no_failure_but_of_the_last() {
    everywhere(|| async {
        let yes = || Command::new("yes");
        assert_eq!(yes().pipe(Command::new("head").arg("-1")).read().await.expect("no failure"), "y");
        let output = yes().pipe(cat()).pipe(Command::new("head").arg("-1")).output().await.expect("a value");
        let signals: Vec<_> = output.members().iter().map(|member| member.status.signal()).collect();
        assert_eq!(signals, [Some(libc::SIGPIPE), Some(libc::SIGPIPE), None], "it is told all the same");
        assert!(output.status.success());
        assert_eq!(yes().pipe(sh("exit 0")).exit_code().await.expect("a code"), 0);
        // Another failure still counts, and so does the same signal for the last member.
        assert_eq!(yes().pipe(sh("head -1; exit 3")).exit_code().await.expect("a code"), 3);
        let error = cat().pipe(sh("kill -PIPE $$")).read().await.expect_err("killed");
        assert!(error.to_string().ends_with("was killed by SIGPIPE (signal 13)"), "{error}");
        let error = sh("kill -TERM $$").pipe(cat()).read().await.expect_err("killed");
        assert!(error.to_string().ends_with("was killed by SIGTERM (signal 15)"), "{error}");
        // A code is a code.
        assert_eq!(sh("exit 141").pipe(cat()).exit_code().await.expect("a code"), 141);
    });
}

#[test]
fn a_timeout_ends_all() {
    everywhere(|| async {
        let bounded = |pipeline: &Pipeline, so_far: fn(&Output) -> bool| {
            let (pipeline, start) = (pipeline.clone(), Instant::now());
            async move {
                let error = late(so_far, |time| pipeline.clone().timeout(time).grace(time).output()).await;
                assert!(start.elapsed() >= SOON);
                error
            }
        };
        let signals = |error: &Error| -> Vec<_> {
            kept(error).members().iter().map(|member| member.status.signal()).collect()
        };
        let sleep = || sh("exec sleep 1000");
        let half = sh("echo half; exec sleep 1000").pipe(cat()).pipe(sh("cat; exec sleep 1000"));
        let error = bounded(&half, |output| !output.stdout.is_empty()).await;
        assert_eq!(kept(&error).stdout, b"half\n");
        assert!(
            error.to_string().contains("`sh -c 'echo half; exec sleep 1000'` timed out after "),
            "{error}"
        );
        // The error names the member that was still running.
        let second = Command::new("true").pipe(sleep()).pipe(cat());
        let error = bounded(&second, |output| output.members()[0].status.success()).await;
        let said = error.to_string();
        let named = "`true | sh -c 'exec sleep 1000' | cat`: `sh -c 'exec sleep 1000'` timed out after ";
        assert!(
            said.starts_with(named) && said.ends_with(" and was killed by SIGTERM (signal 15)"),
            "{said}"
        );
        // If a member ignores the polite signal, it is killed, and so are the members that would wait for it.
        let deaf = || sh("trap '' TERM; echo x; while :; do sleep 0.01; done");
        let error = bounded(&deaf().pipe(deaf()).pipe(cat()), |output| {
            output.members()[..2].iter().all(|member| member.status.signal() == Some(libc::SIGKILL))
        })
        .await;
        assert_eq!(signals(&error)[..2], [Some(libc::SIGKILL); 2]);
        // A member's own bound ends the others too.
        let start = Instant::now();
        let error = sleep().pipe(sleep().timeout(SOON)).pipe(sleep()).run().await.expect_err("late");
        assert_eq!(signals(&error), [Some(libc::SIGTERM); 3]);
        assert!(start.elapsed() < Duration::from_secs(20));
        let silent = |time| sh("echo a; exec sleep 1000").pipe(cat()).idle_timeout(time).output();
        let error = late(|output| !output.stdout.is_empty(), silent).await;
        assert_eq!(kept(&error).stdout, b"a\n");
        // A bound that is not reached changes nothing.
        assert_eq!(sh("echo a").pipe(cat()).timeout(NEVER).read().await.expect("in time"), "a");
        // SIGTERM comes once.
        let counts =
            || sh("trap 'echo got >&2; n=x$n; [ $n != xx ] || exit 9' TERM; while :; do sleep 0.01; done");
        let error = bounded(&counts().pipe(counts()), |output| output.stderr.len() >= 8).await;
        assert_eq!(kept(&error).stderr, b"got\ngot\n");
    });
}

/// If one member writes something, no member counts as silent.
#[test]
fn a_pipeline_is_silent_if_all_members_are() {
    let said = block_on(patiently(|longer| {
        let (silent, pause) = (1.5 * f64::from(longer), 0.2 * f64::from(longer));
        let speaker = sh(&format!("for i in 1 2 3 4 5 6 7 8; do echo x; sleep {pause}; done"));
        let mut busy = sh(&format!("exec sleep {silent}")).pipe(speaker).pipe(cat());
        busy.idle_timeout(longer * 6 * SOON).read()
    }));
    assert_eq!(said.lines().count(), 8);
}

#[test]
fn groups_end_as_a_whole() {
    alone("pipelines::groups_end_as_a_whole", || {
        let script = "sleep 1000 & echo $! >&2; wait";
        let pipeline = sh(script).pipe(sh(script));
        let both = |output: &Output| output.stderr.iter().filter(|byte| **byte == b'\n').count() == 2;
        let error = block_on(late(both, |time| pipeline.clone().new_group().timeout(time).output()));
        let text = String::from_utf8_lossy(&kept(&error).stderr).into_owned();
        let left: Vec<i32> = text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
        assert_eq!(left.len(), 2);
        for pid in left {
            // An orphan is not this process's child. It may stay a zombie until init reaps it.
            let gone = || matches!(state_of(pid), None | Some('Z'));
            eventually("the sleeps are gone", gone);
        }
        no_children();
    });
}

#[test]
fn limits_drains_and_stderr() {
    everywhere(|| async {
        let error = Command::new("yes").pipe(cat()).limit(1000).read().await.expect_err("too much");
        assert!(matches!(error, Error::OutputLimit(_)));
        assert_eq!(kept(&error).stdout, b"y\n".repeat(500));
        assert!(
            error.to_string().starts_with("`yes | cat`: `cat` wrote more than 1000 bytes to descriptor 1")
        );
        // Any member's stderr counts. A member that would not end is ended too.
        let noisy = sh("yes >&2");
        let mut pipeline = noisy.pipe(sh("exec sleep 1000"));
        let error = pipeline.limit(1000).output().await.expect_err("too much");
        assert_eq!((kept(&error).members()[0].stderr.len(), kept(&error).stderr.len()), (1000, 1000));
        assert_eq!(kept(&error).members()[1].status.signal(), Some(libc::SIGKILL));
        // A member's own limit counts for it alone.
        let long = sh("seq 1000 >&2; seq 5").pipe(cat().limit(100)).output().await.expect("no limit is met");
        assert_eq!(long.stderr.len(), 3893);

        let output = sh("sleep 1000 >&2 & echo $!").pipe(cat()).drain_timeout(SOON).output().await;
        let output = output.expect("no error");
        assert_eq!((output.still_open(), output.members()[1].still_open()), (&[2][..], &[][..]));
        let pid: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a pid");
        unsafe { libc::kill(pid, libc::SIGKILL) };

        let mut loud = cat().pipe(sh("echo hm >&2")).pipe(cat());
        assert_eq!(loud.read().await.expect("nobody asked"), "");
        let error = loud.fail_on_stderr(true).run().await.expect_err("a word on stderr");
        assert!(matches!(error, Error::UnexpectedStderr(_)), "{error}");
        assert!(
            error.to_string().ends_with(": `sh -c 'echo hm >&2'` wrote to stderr and exited with code 0: hm")
        );
    });
}

#[test]
fn settings_of_a_member_stay() {
    everywhere(|| async {
        let both = sh("echo out; echo err >&2").stderr(Stdio::same_as(1)).pipe(Command::new("sort"));
        assert_eq!({ both }.read().await.expect("text"), "err\nout");
        let output = sh("echo five >&5").fd(5, Stdio::output()).pipe(cat()).output().await.expect("a value");
        assert_eq!(output.members()[0].fd(5), Some(&b"five\n"[..]));
        // The null device is at both ends. A setting that comes after the verb changes nothing.
        let mut first = sh("cat");
        let mut pipeline = first.pipe(cat());
        first.stdin(Stdio::bytes("later"));
        assert_eq!(pipeline.read().await.expect("text"), "");
        // A reader serves one run.
        first.stdin(Stdio::reader(futures::io::Cursor::new(b"once")));
        let mut pipeline = first.pipe(cat());
        assert_eq!(pipeline.read().await.expect("text"), "once");
        let error = pipeline.read().await.expect_err("used up");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::ReaderUsed, .. }), "{error}");
        // If a reader fails, all members end.
        struct Broken;
        impl futures::AsyncRead for Broken {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &mut [u8],
            ) -> Poll<std::io::Result<usize>> {
                Poll::Ready(Err(std::io::Error::other("torn")))
            }
        }
        let error = cat().stdin(Stdio::reader(Broken)).pipe(sh("exec sleep 1000")).output().await;
        let error = error.expect_err("a broken reader");
        assert!(matches!(error, Error::Io { .. }) && error.to_string().ends_with("torn"), "{error}");
    });
}

#[test]
fn a_member_that_cannot_start() {
    alone("pipelines::a_member_that_cannot_start", || {
        warm_up();
        let before = descriptors();
        everywhere(|| async {
            let sleep = || sh("exec sleep 1000");
            let missing = || Command::new("no-such-program");
            let places = [
                missing().pipe(sleep()).pipe(sleep()),
                sleep().pipe(missing()).pipe(sleep()),
                sleep().pipe(sleep()).pipe(missing()),
            ];
            for mut pipeline in places {
                for kill in [true, false] {
                    let promise = pipeline.kill_on_drop(kill).read();
                    assert_eq!(promise.pid(), None);
                    let error = promise.await.expect_err("missing");
                    assert!(
                        matches!(error, Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }),
                        "{error}"
                    );
                    let end = "`: `no-such-program`: program not found in PATH";
                    assert!(
                        error.to_string().starts_with("cannot start `") && error.to_string().ends_with(end),
                        "{error}"
                    );
                    assert!(error.command().contains(" | ") && error.output().is_none());
                }
            }
            // A descriptor between two members leads nowhere else, so the call starts nothing.
            let out = sleep().stdout(Stdio::null()).pipe(cat());
            for mut pipeline in [
                out,
                cat().pipe(cat().stdin(Stdio::bytes("x"))),
                cat().pipe(cat().fd(1, Stdio::null())).pipe(cat()),
            ] {
                let error = pipeline.run().await.expect_err("a contradiction");
                assert!(matches!(error, Error::Invalid { reason: InvalidReason::Conflict, .. }), "{error}");
            }
        });
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

#[test]
fn dropping_kills_all() {
    alone("pipelines::dropping_kills_all", || {
        warm_up();
        let before = descriptors();
        for round in 0..100 {
            let mut pipeline = sh("yes; exec sleep 1000")
                .pipe(sh("trap '' TERM; cat; exec sleep 1000"))
                .pipe(sh("exec sleep 1000"));
            let mut promise = pipeline.output();
            if round % 2 == 0 {
                block_on(futures::future::poll_fn(|cx| {
                    assert!(std::future::Future::poll(std::pin::Pin::new(&mut promise), cx).is_pending());
                    Poll::Ready(())
                }));
            }
            drop(promise);
        }
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
        everywhere(|| async {
            drop(sh("exec sleep 1000").pipe(cat()).run());
            let promise = cat().stdin(Stdio::bytes(vec![0; 1 << 20])).pipe(sh("exec sleep 1000")).output();
            let late = futures::future::select(promise, Box::pin(async_io_sleep()));
            drop(late.await);
        });
        no_children();
        // Children that may keep running do.
        let dir = tempfile::tempdir().expect("a folder");
        for way in 0..2 {
            let mark = dir.path().join(way.to_string());
            let mut pipeline = sh("sleep 0.1; echo x").pipe(sh(&format!("cat > {}", mark.display())));
            match way {
                0 => pipeline.run().detach().expect("starts"),
                _ => drop(pipeline.kill_on_drop(false).run()),
            }
            eventually("they ran on", || std::fs::read(&mark).is_ok_and(|text| text == b"x\n"));
        }
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

async fn async_io_sleep() {
    smol::Timer::after(Duration::from_millis(50)).await;
}

#[test]
fn the_parent_holds_no_pipe_between_members() {
    alone("pipelines::the_parent_holds_no_pipe_between_members", || {
        warm_up();
        let pipes = || descriptors().iter().filter(|(_, name)| name.starts_with("pipe:")).count();
        let before = pipes();
        let promise =
            cat().stdin(Stdio::null()).pipe(helper(&["fds"])).pipe(helper(&["copy:0:1", "fds"])).run();
        assert_eq!(pipes(), before, "neither end of either");
        block_on(promise).expect("all succeed");
        let told =
            block_on(cat().pipe(helper(&["copy:0:1", "fds"])).pipe(helper(&["copy:0:1", "fds"])).read());
        assert_eq!(told.expect("text"), "0\n1\n2\n0\n1\n2", "nor do the members");
    });
}

#[test]
fn signals_go_to_all() {
    everywhere(|| async {
        let sleep = || sh("exec sleep 1000");
        for kill in [true, false] {
            let promise = Command::new("true").pipe(sleep()).pipe(sleep()).output();
            let control = promise.control();
            assert!(promise.pid().is_some());
            if kill { control.kill() } else { control.terminate() }.expect("they run");
            let output = promise.await.expect("no error of ours");
            let signal = Some(if kill { libc::SIGKILL } else { libc::SIGTERM });
            assert!(
                output.members()[1..].iter().all(|member| member.status.signal() == signal),
                "{output:?}"
            );
            assert!(matches!(control.kill(), Err(Error::AlreadyEnded(_))));
        }
        // Some have ended, and are reaped.
        let mut promise = Command::new("true").pipe(sleep()).output();
        block_on_a_while(&mut promise).await;
        promise.control().terminate().expect("one runs");
        assert_eq!(promise.await.expect("no error of ours").status.signal(), Some(libc::SIGTERM));
    });
}

async fn block_on_a_while(promise: &mut reaped::Promise<Output>) {
    let late = futures::future::select(promise, Box::pin(async_io_sleep())).await;
    assert!(matches!(late, futures::future::Either::Right(_)), "it runs on");
}

#[test]
fn usage_and_time_count_all_members() {
    let output = block_on(patiently(|longer| async move {
        let mut pipeline = sh("sleep 0.1").pipe(sh(&format!("sleep {longer}"))).pipe(cat());
        let output = pipeline.output().await.expect("a value");
        if output.members()[0].elapsed() < output.members()[1].elapsed() { Ok(output) } else { Err(output) }
    }));
    assert!(output.elapsed() >= Duration::from_secs(1));
    assert_eq!(output.members().len(), 3);
    if let Some(usage) = output.usage() {
        let most = output.members().iter().filter_map(|m| m.usage()).map(|usage| usage.peak_memory).max();
        assert_eq!(Some(usage.peak_memory), most);
    }
    assert_eq!(format!("{:?}", cat().pipe(Command::new("wc").arg("-l"))).matches("Command").count(), 2);
}

/// Another part of the program takes the status of one member. The call reports it, and does not report
/// success.
#[test]
fn a_status_that_is_lost() {
    alone("pipelines::a_status_that_is_lost", || {
        warm_up();
        let promise = sh("exit 0").pipe(sh("cat; sleep 0.2")).output();
        let thief = eventually_reaped();
        let result = block_on(promise);
        if thief {
            #[cfg(target_os = "linux")]
            if crate::support::statuses_survive() {
                assert_eq!(result.expect("the pidfd tells").members().len(), 2);
                return;
            }
            let error = result.expect_err("the status is lost");
            assert!(matches!(error, Error::StatusLost(_)), "{error}");
            assert_eq!(kept(&error).members().len(), 2);
        }
    });
}

/// Waits for any child, as a stray waitpid(-1) does.
fn eventually_reaped() -> bool {
    let mut status = 0;
    unsafe { libc::waitpid(-1, &mut status, 0) > 0 }
}

/// Here, a pipe between two members would get the number that is not open in the parent.
#[test]
fn inherited_descriptors_are_open_before_the_pipes() {
    alone("pipelines::inherited_descriptors_are_open_before_the_pipes", || {
        warm_up();
        let next = { std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open("/dev/null").expect("a file")) };
        let mut yes = Command::new("yes");
        let mut pipeline = yes.fd(next, Stdio::inherit()).pipe(Command::new("head").arg("-1").clone());
        let error = block_on(pipeline.read()).expect_err("it is not open");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::Descriptor, .. }), "{error}");
        no_children();
    });
}
