//! Every ending is bounded, alone and in pairs, and the captured output is kept.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use reaped::{Command, Error, Event, Output, Stdio};

use super::helper::pattern;
use super::support::{
    SOON, again_as_ordinary_user, alone, descriptors, eventually, everywhere, helper, late, no_children,
    patiently, peak, reset_peak, root_needed, sh, state_of, warm_up,
};

const NEVER: Duration = Duration::from_secs(600);

/// The output in an error that came after the start.
fn kept(error: &Error) -> &Output {
    error.output().expect("it ran")
}

/// Whether a process of this number exists. A zombie counts.
fn exists(pid: i32) -> bool {
    unsafe { libc::kill(pid, 0) == 0 }
}

fn pids(text: &[u8]) -> Vec<i32> {
    let text = String::from_utf8_lossy(text).into_owned();
    text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

fn end(pids: &[i32]) {
    for pid in pids {
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    }
}

#[test]
fn a_grandchild_that_holds_the_pipes() {
    everywhere(|| async {
        let script = "sleep 1000 & echo $!";
        let error = late(|output| output.status.success(), |time| sh(script).timeout(time).output()).await;
        assert!(kept(&error).status.success(), "the child itself had exited");
        assert_eq!(kept(&error).still_open(), [1, 2]);
        let left = pids(&kept(&error).stdout);
        assert!(exists(left[0]), "it is out of reach without a group");
        end(&left);

        let output = sh(script).drain_timeout(SOON).output().await.expect("no error");
        assert_eq!(output.still_open(), [1, 2]);
        assert!(output.status.success());
        end(&pids(&output.stdout));
        // Only descriptors that a process really has open are named.
        let script = "sleep 1000 2>/dev/null & until [ /proc/$!/fd/2 -ef /dev/null ]; do :; done; echo $!; echo err >&2";
        let output = sh(script).drain_timeout(SOON).output().await;
        let output = output.expect("no error");
        assert_eq!((output.still_open(), &output.stderr[..]), (&[1][..], &b"err\n"[..]));
        end(&pids(&output.stdout));
        // Without a bound and without a group, the call waits for the grandchild.
        let output = sh("(sleep 0.3; echo late) & echo early").output().await.expect("no error");
        assert_eq!((&output.stdout[..], output.still_open()), (&b"early\nlate\n"[..], &[][..]));
        // A bound that is not reached changes nothing.
        let output =
            sh("(sleep 0.1; echo late) & echo early").drain_timeout(NEVER).timeout(NEVER).output().await;
        assert_eq!(output.expect("no error").stdout, b"early\nlate\n");
    });
}

#[test]
fn a_child_that_does_not_obey() {
    everywhere(|| async {
        let said = |output: &Output| !output.stdout.is_empty();
        let script = "trap '' TERM; echo a; while :; do sleep 0.01; done";
        let error = late(said, |time| sh(script).timeout(time).grace(SOON).output()).await;
        assert_eq!(
            (&kept(&error).stdout[..], kept(&error).status.signal()),
            (&b"a\n"[..], Some(libc::SIGKILL))
        );
        assert!(
            error.to_string().contains(" timed out after ")
                && error.to_string().ends_with(" and was killed by SIGKILL (signal 9)"),
            "{error}"
        );
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
        let error = Command::new("sleep").arg("1000").timeout(SOON).output().await.expect_err("killed");
        assert_eq!(
            error.to_string(),
            "`sleep 1000` timed out after 150ms and was killed by SIGTERM (signal 15)"
        );

        // A stopped child is continued, and gets the polite signal.
        let script = "echo a; kill -STOP $$; sleep 1000";
        let error = late(said, |time| sh(script).timeout(time).output()).await;
        assert_eq!(
            (&kept(&error).stdout[..], kept(&error).status.signal()),
            (&b"a\n"[..], Some(libc::SIGTERM))
        );
        // If the child obeys the polite signal, its last words are captured.
        let script = "trap 'echo bye; exit 3' TERM; echo a; while :; do sleep 0.01; done";
        let error = late(said, |time| sh(script).timeout(time).grace(NEVER).output()).await;
        assert_eq!((&kept(&error).stdout[..], kept(&error).status.code()), (&b"a\nbye\n"[..], Some(3)));
        // Without a grace there are no last words.
        let error = late(said, |time| sh(script).timeout(time).grace(Duration::ZERO).output()).await;
        assert_eq!(
            (&kept(&error).stdout[..], kept(&error).status.signal()),
            (&b"a\n"[..], Some(libc::SIGKILL))
        );
    });
}

/// Three generations in one group. The first two ignore the polite signal.
#[test]
fn a_group_ends_as_a_whole() {
    everywhere(|| async {
        let script = "trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000 & echo $$ $!; wait; while :; do sleep 0.01; done' & \
                      echo $!; while :; do sleep 0.01; done";
        for way in 0..4 {
            let mut command = sh(script);
            command.new_group().grace(SOON);
            let told = match way {
                0 => {
                    let all =
                        |output: &Output| pids(&output.stdout).len() == 3 && output.stdout.ends_with(b"\n");
                    let error = late(all, |time| command.clone().timeout(time).output()).await;
                    kept(&error).stdout.clone()
                }
                1 => {
                    let mut process = command.spawn().expect("starts");
                    let told = until_three(&mut process).await;
                    process.control().terminate().expect("runs");
                    let output = process.output().await.expect("no error");
                    assert_eq!(output.status.signal(), Some(libc::SIGKILL));
                    told
                }
                2 => {
                    let mut process = command.spawn().expect("starts");
                    let told = until_three(&mut process).await;
                    process.control().kill().expect("runs");
                    process.status().await.expect("no error");
                    told
                }
                _ => {
                    let mut process = command.spawn().expect("starts");
                    until_three(&mut process).await
                }
            };
            let told = pids(&told);
            assert_eq!(told.len(), 3, "{told:?}");
            eventually("none survives", || told.iter().all(|pid| !is_running(*pid)));
        }
    });
}

/// Whether the process still runs. A zombie that init has not reaped yet does not.
fn is_running(pid: i32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z')
}

async fn until_three(process: &mut reaped::Process) -> Vec<u8> {
    let mut told = Vec::new();
    while pids(&told).len() < 3 || !told.ends_with(b"\n") {
        match process.next().await {
            Some(Event::Data { fd: 1, data }) => told.extend(data),
            other => panic!("{other:?}"),
        }
    }
    told
}

/// If the leader has exited and only its group holds the pipes, the group is still killed.
#[test]
fn a_group_without_its_leader() {
    everywhere(|| async {
        let said = |output: &Output| output.stdout.ends_with(b"\n");
        let held = |time| sh("sleep 1000 & echo $!").new_group().timeout(time).output();
        let error = late(said, held).await;
        let left = pids(&kept(&error).stdout);
        eventually("it is gone", || !is_running(left[0]));

        // Dropping the process kills the group too.
        let mut process = sh("sleep 1000 & echo $!").new_group().spawn().expect("starts");
        let mut told = Vec::new();
        loop {
            match process.next().await.expect("not ended") {
                Event::Data { data, .. } => told.extend(data),
                Event::Exited(_) => break,
                _ => {}
            }
        }
        assert!(is_running(pids(&told)[0]));
        drop(process);
        eventually("it is gone", || !is_running(pids(&told)[0]));

        // If the run ended by itself, a grandchild that holds no pipe is left alone.
        let output = sh("sleep 1000 >/dev/null 2>&1 & echo $!").new_group().output().await.expect("no error");
        std::thread::sleep(Duration::from_millis(20));
        let left = pids(&output.stdout);
        assert!(is_running(left[0]));
        end(&left);

        // If this crate ends the child, no process of its group survives the grace, with or without a pipe,
        // obedient or not.
        let deaf = "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & echo $!; exec sleep 1000";
        let error = late(said, |time| sh(deaf).new_group().timeout(time).grace(time).output()).await;
        assert_eq!(kept(&error).status.signal(), Some(libc::SIGTERM), "the child itself obeys");
        let left = pids(&kept(&error).stdout);
        eventually("it is gone", || !is_running(left[0]));

        // But a grandchild in a session of its own keeps running.
        let leaves = "setsid sh -c 'echo $$; exec sleep 1000' & wait";
        let error = late(said, |time| sh(leaves).new_group().timeout(time).output()).await;
        let left = pids(&kept(&error).stdout);
        std::thread::sleep(Duration::from_millis(20));
        assert!(is_running(left[0]), "it lives on, as is told");
        end(&left);
    });
}

#[test]
fn limits() {
    alone("bounds::limits", || {
        warm_up();
        let before = reset_peak();
        everywhere(|| async {
            let error = Command::new("yes").limit(1 << 20).output().await.expect_err("too much");
            assert!(matches!(error, Error::OutputLimit(_)));
            let output = kept(&error);
            assert_eq!(output.stdout.len(), 1 << 20);
            assert!(output.stdout.chunks(2).all(|line| line == b"y\n"));
            assert_eq!(output.status.signal(), Some(libc::SIGKILL));
            assert_eq!(
                error.to_string(),
                "`yes` wrote more than 1048576 bytes to descriptor 1 and was killed by SIGKILL (signal 9)"
            );
            for (limit, script, fine) in [
                (0, "exit", true),
                (0, "echo", false),
                (1, "echo", true),
                (1, "echo a", false),
                (5, "echo four", true),
                (5, "echo five5", false),
            ] {
                let result = sh(script).limit(limit).output().await;
                assert_eq!(result.is_ok(), fine, "{script} with {limit}: {result:?}");
                if let Err(error) = result {
                    assert!(matches!(error, Error::OutputLimit(_)), "{error}");
                    assert_eq!(kept(&error).stdout.len() as u64, limit);
                }
            }
            // One descriptor has its own limit, and the others share the common one.
            let mut command = helper(&["fill:5:1000", "err:1000", "out:100000"]);
            command.fd(5, Stdio::output()).limit(1000).limit_fd(1, 50_000);
            let error = command.output().await.expect_err("too much on stdout");
            let output = kept(&error);
            assert_eq!(output.fd(5), Some(&pattern(1000)[..]));
            assert_eq!((&output.stderr, &output.stdout), (&pattern(1000), &pattern(50_000)));
        });
        let grown = peak() - before;
        assert!(grown < 16 << 20, "{grown} bytes more at the peak");
        no_children();
    });
}

#[test]
fn silence() {
    everywhere(|| async {
        let said = |output: &Output| !output.stdout.is_empty();
        let error = late(said, |time| sh("echo a; exec sleep 1000").idle_timeout(time).output()).await;
        assert_eq!(kept(&error).stdout, b"a\n");
        let error = Command::new("sleep").arg("1000").idle_timeout(SOON).output().await.expect_err("silent");
        assert_eq!(
            error.to_string(),
            "`sleep 1000` was silent for 150ms and was killed by SIGTERM (signal 15)"
        );
        // A child that writes now and then, on any descriptor, is not silent. A child that takes its input is
        // not either.
        patiently(|longer| async move {
            let mut talk = sh(&format!(
                "for i in 1 2 3 4 5 6; do sleep {}; echo $i >&$((i%2*2+1)); done",
                0.4 * f64::from(longer)
            ));
            talk.fd(3, Stdio::output()).idle_timeout(longer * 10 * SOON);
            let output = talk.output().await?;
            assert_eq!((&output.stdout[..], output.fd(3)), (&b"2\n4\n6\n"[..], Some(&b"1\n3\n5\n"[..])));
            let mut slow = sh(&format!(
                "for i in 1 2 3 4 5 6; do sleep {}; head -c 600000 >/dev/null; done",
                0.4 * f64::from(longer)
            ));
            slow.stdin(Stdio::bytes(vec![0; 3_600_000])).idle_timeout(longer * 10 * SOON).output().await?;
            // Output that goes to a taken reader counts too.
            let mut process = talk.spawn().expect("starts");
            let (mut one, mut three) =
                (process.reader(1).expect("an output"), process.reader(3).expect("an output"));
            let (mut ones, mut threes) = (Vec::new(), Vec::new());
            let (one, three, status) = futures::future::join3(
                futures::AsyncReadExt::read_to_end(&mut one, &mut ones),
                futures::AsyncReadExt::read_to_end(&mut three, &mut threes),
                process.status(),
            )
            .await;
            assert!(status?.success());
            assert_eq!((one.expect("read"), three.expect("read")), (6, 6));
            Ok::<_, Error>(())
        })
        .await;
    });
}

#[test]
fn bounds_as_events() {
    everywhere(|| async {
        type Bounded = fn(Duration) -> Command;
        let cases: [(Bounded, &str); 4] = [
            (|time| sh("echo hi; exec sleep 1000").timeout(time).clone(), "TimedOut"),
            (|time| sh("echo hi; exec sleep 1000").idle_timeout(time).clone(), "TimedOut"),
            (|_| sh("echo hi; exec yes").limit(3).clone(), "LimitReached { fd: 1 }"),
            (|_| sh("echo hi; sleep 1 & exit").drain_timeout(SOON).clone(), ""),
        ];
        for (command, expected) in cases {
            let (mut events, mut data) = (Vec::new(), Vec::new());
            let mut time = SOON;
            while data.is_empty() && time < Duration::from_secs(20) {
                events.clear();
                let mut process = command(time).spawn().expect("starts");
                while let Some(event) = process.next().await {
                    match event {
                        Event::Data { fd: 1, data: more } => data.extend(more),
                        other => events.push(format!("{other:?}")),
                    }
                }
                time *= 4;
            }
            assert!(data.len() <= 3 && data.starts_with(b"hi\n"), "{data:?}");
            assert!(events.last().is_some_and(|event| event.starts_with("Ended")), "{events:?}");
            let told = events.iter().filter(|e| e.starts_with("TimedOut") || e.starts_with("Limit")).count();
            assert_eq!(told, usize::from(!expected.is_empty()), "{events:?}");
            assert!(expected.is_empty() || events.iter().any(|event| event == expected), "{events:?}");
            for closed in ["Closed { fd: 0 }", "Closed { fd: 1 }", "Closed { fd: 2 }", "Exited"] {
                assert!(events.iter().any(|event| event.starts_with(closed)), "{closed} in {events:?}");
            }
        }
    });
}

/// The things that end a run, or delay its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Timeout,
    Limit,
    Drain,
    Drop,
    Terminate,
    Fed,
    Held,
}

/// Each pair at once, on a child that would run for ever. The table in the documentation says what comes.
#[test]
fn every_pair() {
    use Bound::{Drain, Drop, Fed, Held, Limit, Terminate, Timeout};
    let all = [Timeout, Limit, Drain, Drop, Terminate, Fed, Held];
    alone("bounds::every_pair", || {
        warm_up();
        let before = descriptors();
        let pairs =
            (0..all.len()).flat_map(|place| all[place + 1..].iter().map(move |second| [all[place], *second]));
        let mut pairs: Vec<_> = pairs.map(|pair| (pair, SOON)).collect();
        while let Some((pair, time)) = pairs.pop() {
            let has = |bound| pair.contains(&bound);
            // Some pairs need a script of their own. Otherwise nothing would end them, or the kernel would when
            // the promise is dropped.
            let script = match (has(Held), has(Limit)) {
                // It writes exactly the limit, so the drop ends it, even if the first poll comes late.
                _ if pair == [Limit, Drop] => "head -c 100000 /dev/zero; exec sleep 60",
                _ if pair == [Fed, Held] => "sleep 2 & echo hi",
                (true, true) => "sleep 60 & exec yes",
                (true, false) => "sleep 60 & echo hi",
                (false, true) => "exec yes",
                (false, false) if has(Drain) && !has(Timeout) && !has(Terminate) && !has(Drop) => "echo hi",
                (false, false) => "echo hi; exec sleep 60",
            };
            let mut command = sh(script);
            command.grace(SOON);
            if has(Timeout) {
                command.timeout(if has(Terminate) || has(Drop) { SOON } else { time });
            }
            if has(Limit) {
                command.limit(100_000);
            }
            if has(Drain) {
                command.drain_timeout(Duration::from_millis(20));
            }
            if has(Fed) {
                command.stdin(Stdio::bytes(vec![0; 1 << 20]));
            }
            let start = Instant::now();
            let promise = command.output();
            if has(Drop) {
                let mut promise = promise;
                let early = block_on(futures::future::poll_fn(|cx| {
                    std::task::Poll::Ready(std::pin::Pin::new(&mut promise).poll(cx).is_ready())
                }));
                assert!(!early, "{pair:?}");
                drop(promise);
                continue;
            }
            if has(Terminate) {
                std::thread::sleep(Duration::from_millis(50));
                let sent = promise.control().terminate();
                assert!(sent.is_ok(), "{pair:?}: {sent:?}, not reaped while nobody polls");
            }
            let result = block_on(promise);
            // The sleeps take a minute, so this fails only if something hangs.
            assert!(start.elapsed() < Duration::from_secs(20), "{pair:?} waited");
            let error = match (&result, pair) {
                // The caller's own signal came first, and is no error. The child may reach the limit before
                // it gets the signal.
                (Ok(output), [Terminate, _] | [_, Terminate]) => {
                    let gone = output.status.signal() == Some(libc::SIGTERM) || has(Held);
                    assert!(gone, "{pair:?}: {output:?}");
                    None
                }
                (Ok(output), [Drain, _]) => {
                    assert!(output.status.success(), "{pair:?}: {output:?}");
                    assert_eq!(output.still_open().is_empty(), !has(Held), "{pair:?}");
                    None
                }
                (Ok(output), [Fed, Held]) => {
                    assert!(output.status.success() && output.still_open().is_empty(), "{output:?}");
                    None
                }
                (Ok(output), _) => panic!("{pair:?}: {output:?}"),
                (Err(error), _) => Some(error),
            };
            if let Some(error) = error {
                let fits = match error {
                    Error::TimedOut(_) => has(Timeout),
                    Error::OutputLimit(_) => has(Limit),
                    _ => false,
                };
                assert!(fits, "{pair:?}: {error}");
                let output = kept(error);
                if output.stdout.is_empty() && time < Duration::from_secs(5) {
                    // On a busy machine the child may have written nothing yet: try once more, with more
                    // time.
                    pairs.push((pair, time * 4));
                    continue;
                }
                assert!(!output.stdout.is_empty() && output.stdout.len() <= 100_000, "{pair:?}: {output:?}");
            }
        }
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

#[test]
fn detached_children_run_on_and_are_reaped() {
    alone("bounds::detached_children_run_on_and_are_reaped", || {
        warm_up();
        let dir = tempfile::tempdir().expect("a folder");
        for way in 0..3 {
            let mark = dir.path().join(format!("mark{way}"));
            let mut command = sh(&format!("sleep 0.1; touch {}", mark.display()));
            match way {
                0 => command.run().detach().expect("starts"),
                1 => drop(command.kill_on_drop(false).run()),
                _ => command.new_group().run().detach().expect("starts"),
            }
            eventually("it ran on", || mark.exists());
            no_children();
        }
        assert!(Command::new("no-such-program").run().detach().is_err());
    });
}

/// An ordinary user cannot signal a child that became another user. The call ends all the same.
#[test]
fn a_child_out_of_reach() {
    const SLEEP: &str = "REAPED_TEST_SETUID";
    if let Some(sleep) = std::env::var_os(SLEEP) {
        let result = block_on(Command::new(sleep).arg("60").timeout(SOON).grace(SOON).output());
        let error = result.expect_err("late");
        // If the folder's file system ignores the setuid bit, the signal does reach the child.
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        assert!(kept(&error).elapsed() < Duration::from_secs(20), "it did not wait for it");
        return;
    }
    root_needed();
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("for all");
    // A copy of `sleep` that runs as root, no matter which user starts it.
    let setuid = dir.path().join("sleep");
    std::fs::copy("/bin/sleep", &setuid).expect("a copy");
    std::fs::set_permissions(&setuid, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).expect("ours");
    again_as_ordinary_user("bounds::a_child_out_of_reach", SLEEP, &setuid);
}

/// A source that always has more, and never ends.
struct Endless;

impl futures::AsyncRead for Endless {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(buffer.len()))
    }
}

#[test]
fn a_reader_that_is_always_ready_does_not_delay_the_timeout() {
    everywhere(|| async {
        let mut swallow = Command::new("cat");
        let error = swallow
            .stdin(Stdio::reader(Endless))
            .stdout(Stdio::null())
            .timeout(SOON)
            .output()
            .await
            .expect_err("it would run for ever");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
    });
}

struct Broken;

impl futures::AsyncWrite for Broken {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::StorageFull.into()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[test]
fn a_tee_that_fails_keeps_the_limit() {
    let mut yes = Command::new("yes");
    let error = block_on(yes.stdout(Stdio::tee(Broken)).limit(5).output()).expect_err("it cannot be copied");
    assert_eq!(kept(&error).stdout, b"y\ny\ny");
}

#[test]
fn a_pipe_that_nobody_holds_is_not_named() {
    // The child is killed while its pipe is exactly full.
    let mut full = helper(&[&format!("out:{}", 64 * 1024), "sleep:600000"]);
    let error = block_on(full.drain_timeout(NEVER).limit(5).output()).expect_err("too much");
    assert!(matches!(error, Error::OutputLimit(_)), "{error}");
    assert_eq!((&kept(&error).stdout[..], kept(&error).still_open()), (&pattern(5)[..], &[][..]));
}

/// A leader that leaves its group is still killed.
#[cfg(target_os = "linux")]
#[test]
fn a_leader_that_leaves_its_group() {
    alone("bounds::a_leader_that_leaves_its_group", || {
        warm_up();
        // It joins the group of this process, which must not get a signal.
        let start = || {
            let mut command = helper(&["group:join", "say:1:gone", "sleep:600000"]);
            command.new_group().grace(SOON);
            command
        };
        let error = block_on(start().timeout(Duration::from_secs(2)).output()).expect_err("too long");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        let mut process = start().spawn().expect("starts");
        assert_eq!(block_on(process.next_line()).expect("a line").text, "gone");
        process.control().kill().expect("it lives");
        let status = block_on(process.status()).expect("a status");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        let mut process = start().spawn().expect("starts");
        assert_eq!(block_on(process.next_line()).expect("a line").text, "gone");
        drop(process);
        eventually("dropping has killed it", || unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } == -1);
        no_children();
    });
}
