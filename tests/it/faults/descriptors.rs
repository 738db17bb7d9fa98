//! A parent without stdin, stdout or stderr: new descriptors get these numbers.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use reaped::{Command, Stdio};

use super::{Traces, all_calls, block_on, each_alone, no_child, works};
use crate::support::{descriptors, eventually, helper, warm_up};

/// Runs the body. 0, 1 or 2 is closed if its bit is set.
fn with_closed(bits: usize, body: impl FnOnce()) {
    let kept = [0, 1, 2].map(|fd| unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 200);
        assert!(copy >= 200);
        OwnedFd::from_raw_fd(copy)
    });
    // A failure is printed once stderr is open again.
    let complaint = Arc::new(Mutex::new(String::new()));
    let before = std::panic::take_hook();
    let heard = complaint.clone();
    std::panic::set_hook(Box::new(move |panic| {
        heard.lock().expect("whole").push_str(&format!("{panic}\n"));
    }));
    for fd in (0..3).filter(|fd| bits & (1 << fd) != 0) {
        unsafe { libc::close(fd) };
    }
    let done = catch_unwind(AssertUnwindSafe(body));
    for (fd, kept) in (0..).zip(&kept) {
        assert_eq!(unsafe { libc::dup2(kept.as_raw_fd(), fd) }, fd);
    }
    std::panic::set_hook(before);
    if let Err(panic) = done {
        eprintln!("{}", complaint.lock().expect("whole"));
        resume_unwind(panic);
    }
}

/// The descriptors that the child has open, by number and name. The child writes them to a descriptor of its
/// own.
fn listed(command: &mut Command) -> Vec<(i32, String)> {
    let output = block_on(command.fd(7, Stdio::output()).output()).expect("a value");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(output.fd(7).expect("captured"));
    let mut open: Vec<(i32, String)> = said
        .lines()
        .map(|line| {
            let (number, name) = line.split_once(' ').expect("two words");
            (number.parse().expect("a number"), name.to_owned())
        })
        .collect();
    assert!(open.iter().any(|(fd, _)| *fd == 7));
    open.retain(|(fd, _)| *fd != 7);
    open
}

fn check(bits: usize) {
    let open: Vec<(i32, String)> = descriptors().into_iter().filter(|(fd, _)| *fd < 3).collect();
    let ours: Vec<(i32, String)> = open.iter().filter(|(fd, _)| bits & (1 << fd) == 0).cloned().collect();
    all_calls();
    works();
    no_child();

    // The child inherits what the parent has under that number at the call, and no descriptor of this crate.
    for pipes in 0..8 {
        for inherit_fds in [false, true] {
            let mut command = helper(&["links:7"]);
            command.inherit_fds(inherit_fds);
            for (fd, stdio) in [(0, Stdio::bytes("x")), (1, Stdio::output()), (2, Stdio::output())] {
                command.fd(fd, if pipes & (1 << fd) != 0 { stdio } else { Stdio::inherit() });
            }
            let listed = listed(&mut command);
            for fd in 0..3 {
                let find = |of: &[(i32, String)]| of.iter().find(|o| o.0 == fd).map(|o| o.1.clone());
                let (childs, parents) = (find(&listed), find(&open));
                if pipes & (1 << fd) != 0 {
                    assert!(
                        childs.as_ref().is_some_and(|name| name.starts_with("pipe:")),
                        "{fd}: {childs:?}"
                    );
                    assert!(!open.iter().any(|o| Some(&o.1) == childs.as_ref()), "{fd}: {childs:?}");
                } else if bits & (1 << fd) == 0 {
                    assert_eq!(childs, parents, "{fd} of {listed:?}, pipes {pipes:03b}");
                } else {
                    // The reactor may have this number, and the command does not set it.
                    assert!(childs.is_none() || childs == parents, "{fd} of {listed:?}, pipes {pipes:03b}");
                }
            }
        }
    }
    no_child();
    let now: Vec<_> = descriptors().into_iter().filter(|(fd, _)| *fd < 3 && bits & (1 << fd) == 0).collect();
    assert_eq!(now, ours, "what the host has open stays as it is");
}

/// All eight combinations, in processes that have made no call before, so the reactor gets such a number.
#[test]
fn closed_from_the_start() {
    each_alone(
        "descriptors::closed_from_the_start",
        0..8,
        |bits| {
            // A pipe that the test runner gave this process is none of the crate's.
            with_closed(bits, || {
                check(bits);
                let before = Traces::now();
                check(bits);
                before.are_all(1 << 10);
            });
            // The reactor had opened a descriptor of that number; it is closed now.
            "right"
        },
        |verdicts| assert_eq!(verdicts, ["right"; 8]),
    );
}

/// The same if they are closed later: pipes get these numbers.
#[test]
fn closed_later() {
    each_alone(
        "descriptors::closed_later",
        0..8,
        |bits| {
            warm_up();
            works();
            let before = Traces::now().descriptors;
            with_closed(bits, || {
                let before = descriptors();
                let closed = |fd: i32| before.iter().all(|(open, _)| *open != fd);
                assert!((0..3).all(|fd| closed(fd) == (bits & (1 << fd) != 0)));
                check(bits);
                let before = Traces::now();
                check(bits);
                before.are_all(1 << 10);
                // If the descriptor is closed in the parent, it is closed in the child.
                let mut command = helper(&["links:7"]);
                command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
                let numbers: Vec<i32> = listed(&mut command).into_iter().map(|(fd, _)| fd).collect();
                assert_eq!(numbers, (0..3).filter(|fd| bits & (1 << fd) == 0).collect::<Vec<i32>>());
            });
            eventually("the descriptors are as before", || descriptors() == before);
            "right"
        },
        |verdicts| assert_eq!(verdicts, ["right"; 8]),
    );
}
