//! Other threads of the host: one reaps children that are not its own, one forks.

use std::os::unix::fs::PermissionsExt;
use std::ptr;
use std::time::Duration;

use reaped::{Error, SpawnReason, Stdio};

use super::{
    again_and_again, all_calls, block_on, exited, fault, meanwhile, no_child, on_old_kernels_too,
    statuses_survive,
};
use crate::support::{eventually, sh};

/// The thread that looks first gets the status. The caller gets the true status, or none.
fn among_strangers(lost: &mut usize, taken: &mut usize) {
    for round in 0..20 {
        let mut command = sh("cat; echo said; exit 3");
        if round % 2 == 0 {
            command.new_group();
        }
        let output = block_on(command.stdin(Stdio::bytes("in ")).output());
        match exited(&output, b"in said\n") {
            None => *lost += 1,
            // Only the process that reaps a child learns what the child used.
            Some(code) => {
                assert_eq!(code, 3);
                *taken += usize::from(output.expect("a value").usage().is_none());
            }
        }
        let mut slow = sh("exec sleep 1000");
        match block_on(slow.timeout(Duration::from_millis(1)).run()) {
            Err(Error::TimedOut(_)) => {}
            Err(Error::StatusLost(_)) => *lost += 1,
            other => panic!("{other:?}"),
        }
        drop(slow.output());
    }
}

#[test]
fn a_stranger_asks_for_all_children() {
    on_old_kernels_too("strangers::a_stranger_asks_for_all_children", || beside_a_stranger(libc::WNOHANG));
}

/// The other thread sleeps in waitpid(2), so it gets each exit first.
#[test]
fn a_stranger_waits_for_all_children() {
    on_old_kernels_too("strangers::a_stranger_waits_for_all_children", || beside_a_stranger(0));
}

fn beside_a_stranger(options: libc::c_int) {
    let (mut lost, mut taken) = (0, 0);
    again_and_again(2, || {
        let reaps = || {
            if unsafe { libc::waitpid(-1, ptr::null_mut(), options) } <= 0 {
                std::thread::yield_now();
            }
        };
        meanwhile(reaps, || {
            among_strangers(&mut lost, &mut taken);
            no_child();
        });
    });
    let (came_first, survive) = (if statuses_survive() { taken } else { lost }, statuses_survive());
    assert!(came_first > 0, "the stranger never came first, so nothing was tested");
    assert!(!survive || lost == 0, "{lost} were lost, and the pidfd could have told");
}

/// A process that is a copy of this one, with all its descriptors, and never runs a program.
fn fork(for_so_long: Duration) -> libc::pid_t {
    let nap = libc::timespec { tv_sec: 0, tv_nsec: for_so_long.as_nanos() as _ };
    match unsafe { libc::fork() } {
        0 => unsafe {
            libc::nanosleep(&nap, ptr::null_mut());
            libc::_exit(0)
        },
        pid => {
            assert!(pid > 0, "{}", std::io::Error::last_os_error());
            pid
        }
    }
}

fn await_fork(pid: libc::pid_t) {
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
}

/// While the forks live, they hold the ends of this process's pipes, and any file that was open for writing.
#[test]
fn a_thread_forks() {
    fault("strangers::a_thread_forks", || {
        again_and_again(2, || {
            let forks = || {
                let forks = [0, 300, 3000].map(|micros| fork(Duration::from_micros(micros)));
                forks.into_iter().for_each(await_fork);
            };
            meanwhile(forks, || {
                for _ in 0..5 {
                    all_calls();
                }
                // A program that was just written is busy until every fork that can write it is gone. Some
                // forks live longer than the crate tries, and the error says so.
                let dir = tempfile::tempdir().expect("a folder");
                for round in 0..10 {
                    let path = dir.path().join(format!("program{round}"));
                    std::fs::copy("/bin/true", &path).expect("a copy");
                    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("ours");
                    eventually("it is not busy", || match block_on(reaped::Command::new(&path).run()) {
                        Err(Error::Spawn { reason: SpawnReason::Busy, .. }) => false,
                        ended => {
                            ended.expect("nothing else is wrong with it");
                            true
                        }
                    });
                }
            });
        });
    });
}

/// A fork keeps the pipes open long after the child is gone: the drain timeout is made for that. The exit is
/// reported all the same.
#[test]
fn a_fork_stays() {
    fault("strangers::a_fork_stays", || {
        again_and_again(2, || {
            let mut command = sh("read line; echo said; exit 3");
            command.drain_timeout(Duration::from_millis(20));
            let mut process = command.stdin(Stdio::input()).spawn().expect("starts");
            let pid = fork(Duration::from_millis(900));
            // The fork holds the writing end of stdin too. The child waits for one byte less, and not for the
            // end of file.
            let mut writer = process.writer(0).expect("a pipe");
            block_on(futures::AsyncWriteExt::write_all(&mut writer, b"line\n")).expect("it reads");
            let output = block_on(process.output()).expect("a value");
            assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"said\n"[..]));
            drop(writer);
            unsafe { libc::kill(pid, libc::SIGKILL) };
            await_fork(pid);
            eventually("the child was dropped", || crate::support::children().is_empty());
        });
    });
}
