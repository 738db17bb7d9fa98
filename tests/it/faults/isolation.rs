//! Children see only their own descriptors. Other threads start programs all the while: these never see this
//! crate's descriptors, which are close-on-exec from the start. This crate's children never see the other
//! threads'.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reaped::{Command, PtySize, Stdio};

use super::{Stop, all_calls, block_on, fault, meanwhile, no_child, works};
use crate::support::{helper, sh, warm_up};

/// How many programs the other threads start, at least, while the test makes its calls.
const STRANGERS: usize = 150;

/// The numbers and names in a child's list.
fn read_list(said: &[u8]) -> Vec<(i32, String)> {
    let lines = std::str::from_utf8(said).expect("text").lines();
    let words = lines.map(|line| line.split_once(' ').expect("two words"));
    words.map(|(number, name)| (number.parse().expect("a number"), name.to_owned())).collect()
}

fn numbers(list: &[(i32, String)]) -> Vec<i32> {
    list.iter().map(|(fd, _)| *fd).collect()
}

/// A program that lists its descriptors. std starts it, in each of its ways.
fn stranger(round: usize) -> Vec<(i32, String)> {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--helper", "links:1"]).stdin(std::process::Stdio::null());
    if round % 2 == 0 {
        // std then forks, and does not use posix_spawn.
        unsafe { command.pre_exec(|| Ok(())) };
    }
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{output:?}");
    read_list(&output.stdout)
}

/// Starts programs in other threads, until there were enough of them and the body has run often enough.
fn among_strangers(check: impl Fn(Vec<(i32, String)>) + Sync, mut body: impl FnMut()) {
    let (started, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _stop = Stop(&stop);
                while !stop.load(Ordering::Relaxed) || started.load(Ordering::Relaxed) < STRANGERS {
                    check(stranger(started.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
        let _stop = Stop(&stop);
        let mut rounds = 0;
        while rounds < 5 || started.load(Ordering::Relaxed) < STRANGERS {
            assert!(!stop.load(Ordering::Relaxed), "a stranger panicked");
            body();
            rounds += 1;
        }
    });
    no_child();
}

/// Calls of every kind run. No program that another thread starts sees their descriptors.
#[test]
fn strangers_never_see_ours() {
    fault("isolation::strangers_never_see_ours", || {
        // Before the first call. The process that runs the tests may leave more open than these three.
        let usual = numbers(&stranger(0));
        let check = |list: Vec<(i32, String)>| assert_eq!(numbers(&list), usual, "{list:?}");
        among_strangers(check, || {
            all_calls();
            let shared = std::fs::File::open("/dev/null").expect("opens");
            let many: Vec<_> = (0..4)
                .map(|_| {
                    let mut command = sh("cat <&5 >&9; exit 0");
                    command.stdin(Stdio::bytes("x")).fd(5, Stdio::bytes("five")).fd(9, Stdio::output());
                    command.fd(20, Stdio::parent_fd(&shared)).output()
                })
                .collect();
            for promise in many {
                assert_eq!(block_on(promise).expect("a value").fd(9), Some(&b"five"[..]));
            }
        });
    });
}

/// A child has the descriptors that its command set. It has none that another thread has open, close-on-exec
/// or not, and none of another call.
#[test]
fn our_children_never_see_others() {
    fault("isolation::our_children_never_see_others", || {
        warm_up();
        let left_open = || unsafe { OwnedFd::from_raw_fd(libc::dup(2)) };
        // With and without close-on-exec, also with high numbers, during the whole test.
        let _kept = [left_open(), std::fs::File::open("/dev/null").expect("opens").into()];
        let _high = unsafe { OwnedFd::from_raw_fd(libc::fcntl(2, libc::F_DUPFD, 1000)) };
        let opens_and_closes = || {
            let inherited = rustix::pipe::pipe().expect("a pipe");
            let closed = crate::support::pipe();
            std::thread::yield_now();
            drop((inherited, closed));
        };
        meanwhile(opens_and_closes, || {
            let ignore = |_| ();
            among_strangers(ignore, || {
                let plain = block_on(helper(&["links:1"]).output()).expect("runs");
                assert_eq!(numbers(&read_list(&plain.stdout)), [0, 1, 2]);

                let mut command = helper(&["links:7"]);
                command.fd(7, Stdio::output()).fd(30, Stdio::null()).fd(4, Stdio::bytes("x"));
                command.stdin(Stdio::closed()).stderr(Stdio::same_as(7));
                let promises: Vec<_> = (0..4).map(|_| command.output()).collect();
                let lists = promises.into_iter().map(|promise| {
                    let output = block_on(promise).expect("runs");
                    read_list(output.fd(7).expect("captured"))
                });
                let mut pipes = BTreeSet::new();
                for list in lists {
                    assert_eq!(numbers(&list), [1, 2, 4, 7, 30], "{list:?}");
                    let name = |fd: i32| &list.iter().find(|(number, _)| *number == fd).expect("listed").1;
                    assert_eq!((name(2), &**name(30)), (name(7), "/dev/null"));
                    for fd in [1, 4, 7] {
                        assert!(name(fd).starts_with("pipe:"), "{list:?}");
                        // They are alive at the same time, so each pipe has a name of its own.
                        assert!(pipes.insert(name(fd).clone()), "two children share one: {list:?}");
                    }
                }

                let mut command = helper(&["links:1"]);
                let said = block_on(command.pty(PtySize::default()).output()).expect("runs").stdout;
                let said = String::from_utf8(said).expect("text").replace('\r', "");
                let list = read_list(said.as_bytes());
                assert_eq!(numbers(&list), [0, 1, 2], "{list:?}");
                assert!(list.iter().all(|(_, name)| name.starts_with("/dev/pts/")), "{list:?}");

                // On some systems only a fork can do this.
                let masked = block_on(helper(&["links:1"]).umask(0o22).output()).expect("runs");
                assert_eq!(numbers(&read_list(&masked.stdout)), [0, 1, 2]);
            });
        });
    });
}

/// With `inherit_fds`, the child gets what the host left open on purpose, and no descriptor of this crate.
#[test]
fn inherited_is_what_the_host_left_open() {
    fault("isolation::inherited_is_what_the_host_left_open", || {
        let usual = numbers(&stranger(0));
        warm_up();
        works();
        let left_open = unsafe { OwnedFd::from_raw_fd(libc::fcntl(2, libc::F_DUPFD, 50)) };
        let _closed: OwnedFd = std::fs::File::open("/dev/null").expect("opens").into();
        let others: Vec<_> =
            (0..3).map(|_| sh("exec sleep 1000").stdin(Stdio::input()).spawn().expect("starts")).collect();
        let _terminal = Command::new("cat").pty(PtySize::default()).spawn().expect("starts");
        for (mask, umask) in [(false, 0), (true, 0o22)] {
            let mut command = helper(&["links:1"]);
            command.inherit_fds(true).fd(7, Stdio::bytes("x"));
            if mask {
                command.umask(umask);
            }
            let list = read_list(&block_on(command.output()).expect("runs").stdout);
            let expected: BTreeSet<i32> = usual.iter().copied().chain([7, left_open.as_raw_fd()]).collect();
            assert_eq!(numbers(&list), Vec::from_iter(expected), "{list:?}");
        }
        drop(others);
    });
}

/// Two calls run at once, and neither child has the other's pipes. If one child closes a pipe, its end of
/// file does not wait for the other.
#[test]
fn an_end_of_file_waits_for_no_other_child() {
    fault("isolation::an_end_of_file_waits_for_no_other_child", || {
        for _ in 0..20 {
            let stays = sh("exec sleep 1000").spawn().expect("starts");
            let (first, second) = (
                std::thread::spawn(|| block_on(Command::new("cat").stdin(Stdio::bytes("first")).read())),
                std::thread::spawn(|| block_on(Command::new("cat").stdin(Stdio::bytes("second")).read())),
            );
            let later = sh("exec sleep 1000").inherit_fds(true).spawn().expect("starts");
            assert_eq!(first.join().expect("no panic").expect("runs"), "first");
            assert_eq!(second.join().expect("no panic").expect("runs"), "second");
            drop((stays, later));
        }
        no_child();
    });
}
