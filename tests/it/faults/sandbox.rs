//! System calls that fail, by a filter of seccomp(2). A sandbox is around the whole process, from the start or later;
//! or it is around the calling thread alone. Then each system call of a start fails in turn.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use libc::{c_long, sock_filter};
use reaped::{Command, Error, SpawnReason, Stdio};

use super::{
    CALLS, Traces, again_and_again, all_calls, block_on, each_alone, errno, fault, no_child, reason, works,
};
use crate::support::{helper, sh};

/// A system call and its arguments. Only the low half of an argument is compared.
#[derive(Clone, Copy)]
struct Refused {
    call: c_long,
    when: When,
    errno: i32,
}

#[derive(Clone, Copy)]
enum When {
    Always,
    Equals(usize, u32),
    HasBits(usize, u32),
}

use When::{Always, Equals, HasBits};

const fn refused(call: c_long, when: When, errno: i32) -> Refused {
    Refused { call, when, errno }
}

/// The filter for the kernel: for each rule, the number of the call, perhaps an argument, and the answer.
fn program(rules: &[Refused]) -> Vec<sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, k: u32, jt: u8, jf: u8| sock_filter { code: code as u16, jt, jf, k };
    // The arguments of struct seccomp_data are 64 bits wide, from the sixteenth byte on.
    let low_half = if cfg!(target_endian = "little") { 0 } else { 4 };
    let mut program = Vec::new();
    for rule in rules {
        program.push(step(LOAD, 0, 0, 0));
        let test = match rule.when {
            Always => None,
            Equals(place, value) => Some((place, EQUAL, value)),
            HasBits(place, value) => Some((place, BITS, value)),
        };
        program.push(step(EQUAL, rule.call as u32, 0, if test.is_some() { 3 } else { 1 }));
        if let Some((place, code, value)) = test {
            program.push(step(LOAD, 16 + 8 * place as u32 + low_half, 0, 0));
            program.push(step(code, value, 0, 1));
        }
        program.push(step(RETURN, libc::SECCOMP_RET_ERRNO | rule.errno as u32, 0, 0));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    program
}

/// For good: for this thread and its threads and children, or for every thread of the process.
fn refuse(rules: &[Refused], every_thread: bool) {
    put_up(program(rules), every_thread);
}

fn put_up(mut program: Vec<sock_filter>, every_thread: bool) {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = if every_thread { libc::SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &filter);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Calls that sandboxes and old kernels refuse, and that this crate can do without.
const SANDBOXES: &[(&str, &[Refused])] = &[
    ("no pidfd", &[refused(libc::SYS_pidfd_open, Always, libc::ENOSYS)]),
    ("pidfd not permitted", &[refused(libc::SYS_pidfd_open, Always, libc::EPERM)]),
    // Linux 5.3 knew pidfds, but not how to wait for one.
    ("no wait for a pidfd", &[refused(libc::SYS_waitid, Equals(0, libc::P_PIDFD), libc::EINVAL)]),
    ("no signal to a pidfd", &[refused(libc::SYS_pidfd_send_signal, Always, libc::EPERM)]),
    ("no call for signals to pidfds", &[refused(libc::SYS_pidfd_send_signal, Always, libc::ENOSYS)]),
    ("no range to close", &[refused(libc::SYS_close_range, Always, libc::ENOSYS)]),
    ("range to close not permitted", &[refused(libc::SYS_close_range, Always, libc::EPERM)]),
    ("no new way to make a process", &[refused(libc::SYS_clone3, Always, libc::ENOSYS)]),
    (
        "no process that has our memory",
        &[refused(libc::SYS_clone, HasBits(0, libc::CLONE_VFORK as u32), libc::EPERM)],
    ),
    // A time namespace before Linux 5.19, or a kernel that does not know the flag and says so.
    (
        "no process that comes with a pidfd",
        &[refused(libc::SYS_clone, HasBits(0, libc::CLONE_PIDFD as u32), libc::EINVAL)],
    ),
    ("no limit to be asked for", &[refused(libc::SYS_prlimit64, Always, libc::EPERM)]),
    (
        "nothing told of a child that was reaped",
        &[refused(libc::SYS_ioctl, Equals(1, 0xc040_ff0b), libc::ENOTTY)],
    ),
    (
        "an old kernel",
        &[
            refused(libc::SYS_pidfd_open, Always, libc::ENOSYS),
            refused(libc::SYS_pidfd_send_signal, Always, libc::ENOSYS),
            refused(libc::SYS_waitid, Equals(0, libc::P_PIDFD), libc::EINVAL),
            refused(libc::SYS_close_range, Always, libc::ENOSYS),
            refused(libc::SYS_clone3, Always, libc::ENOSYS),
        ],
    ),
];

/// For good: the process lacks what Linux before 6.9 and 6.15 lacks. A pidfd does not report a child that was
/// reaped, and does not reach a group.
pub fn become_an_old_kernel() {
    const PIDFD_GET_INFO: u32 = 0xc040_ff0b;
    const PROCESS_GROUP: u32 = 1 << 2;
    let rules = [
        refused(libc::SYS_ioctl, Equals(1, PIDFD_GET_INFO), libc::ENOTTY),
        refused(libc::SYS_pidfd_send_signal, HasBits(3, PROCESS_GROUP), libc::EINVAL),
    ];
    refuse(&rules, true);
}

/// Every promise of the documentation, also if this crate has to keep it in another way.
fn every_promise() {
    all_calls();
    let missing = block_on(Command::new("/no/such/program").run()).expect_err("missing");
    assert_eq!(reason(&missing), SpawnReason::ProgramNotFound);

    let promise = Command::new("sleep").arg("1000").status();
    promise.control().kill().expect("runs");
    assert_eq!(block_on(promise).expect("a value").signal(), Some(libc::SIGKILL));

    let promise = Command::new("sleep").arg("1000").status();
    promise.control().terminate().expect("runs");
    assert_eq!(block_on(promise).expect("a value").signal(), Some(libc::SIGTERM));

    let mut slow = sh("echo half; exec sleep 1000");
    let error = block_on(slow.timeout(Duration::from_millis(30)).output()).expect_err("slow");
    assert!(matches!(error, Error::TimedOut(_)), "{error}");

    // No process of the group survives.
    let mut group = sh("sleep 1000 & echo started; wait");
    let error = block_on(group.new_group().timeout(Duration::from_millis(50)).output()).expect_err("slow");
    assert!(matches!(error, Error::TimedOut(_)), "{error}");

    let flood = block_on(sh("exec yes").limit(1000).output()).expect_err("a flood");
    assert_eq!(flood.output().expect("it ran").stdout.len(), 1000);

    let said = block_on(helper(&["fds"]).fd(5, Stdio::null()).read()).expect("runs");
    assert_eq!(said, "0\n1\n2\n5");

    let many: Vec<_> = (0..30).map(|n| sh(&format!("exit {n}")).status()).collect();
    for (code, promise) in many.into_iter().enumerate() {
        assert_eq!(block_on(promise).expect("a value").code(), Some(code as i32));
    }
    drop(sh("exec sleep 1000").output());
    let mut left = sh("exit 0");
    drop(left.kill_on_drop(false).run());
    no_child();
}

/// The sandbox is there from the start. The other engine or another way is used, and every promise is kept.
#[test]
fn refused_from_the_start() {
    each_alone(
        "sandbox::refused_from_the_start",
        0..SANDBOXES.len(),
        |case| {
            let (what, rules) = SANDBOXES[case];
            println!("{what}");
            refuse(rules, true);
            again_and_again(2, every_promise);
            "kept"
        },
        |verdicts| assert!(verdicts.iter().all(|verdict| verdict == "kept"), "{verdicts:?}"),
    );
}

/// The sandbox comes after children were started. If a child cannot be watched any more, the call fails and
/// the child is gone. Any child that runs can be ended.
#[test]
fn refused_from_now_on() {
    each_alone(
        "sandbox::refused_from_now_on",
        0..SANDBOXES.len(),
        |case| {
            let (what, rules) = SANDBOXES[case];
            println!("{what}");
            again_and_again(1, every_promise);
            let mut sleep = Command::new("sleep");
            sleep.arg("1000");
            let running = [sleep.spawn(), sleep.new_group().spawn()].map(|child| child.expect("starts"));
            let dropped = [sleep.output(), Command::new("sleep").arg("1000").output()];
            refuse(rules, true);
            for running in running {
                running.control().kill().expect("an old child can be ended");
                let status = block_on(running.status()).expect("an old child can be awaited");
                assert_eq!(status.signal(), Some(libc::SIGKILL));
            }
            drop(dropped);
            no_child();
            // If the other engine takes over, its thread is there from now on.
            let _: Result<(), Error> = CALLS[0].1();
            let before = Traces::now();
            let mut refusals = 0;
            for (kind, call) in CALLS {
                if let Err(error) = call() {
                    refusals += 1;
                    assert_eq!(reason(&error), SpawnReason::Other, "{kind}: {error}");
                    assert_eq!(errno(&error), Some(rules[0].errno), "{kind}: {error}");
                }
                no_child();
            }
            before.are_all(1 << 10);
            if refusals == 0 {
                every_promise();
            }
            "typed"
        },
        |verdicts| assert!(verdicts.iter().all(|verdict| verdict == "typed"), "{verdicts:?}"),
    );
}

/// Runs the body in a thread to which the kernel refuses some calls, and to its children too.
fn without<T: Send>(rules: &[Refused], body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            refuse(rules, false);
            body()
        });
        refused.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// If a sandbox kills the process that makes the call, the error says why.
#[test]
fn killed_for_a_call() {
    fault("sandbox::killed_for_a_call", || {
        let said = std::thread::scope(|scope| {
            let refused = scope.spawn(|| {
                let mut program = program(&[refused(libc::SYS_getpriority, Always, 0)]);
                let answers = program.iter_mut().filter(|step| step.k == libc::SECCOMP_RET_ERRNO);
                answers.for_each(|step| step.k = libc::SECCOMP_RET_KILL_PROCESS);
                put_up(program, false);
                block_on(helper(&["priority"]).hide_args(true).run()).expect_err("killed").to_string()
            });
            refused.join().expect("this thread makes no such call")
        });
        let why = ", which the system sends for a system call that is not permitted (seccomp)";
        assert!(said.contains(" was killed by SIGSYS (signal 31") && said.ends_with(why), "{said}");
    });
}

const SET_FLAGS: u32 = libc::F_SETFL as u32;
const COPY: u32 = libc::F_DUPFD_CLOEXEC as u32;

/// Each system call of a start, in the parent or in the new process, and the errors that it may lead to.
const EACH: &[&[Refused]] = &[
    &[refused(libc::SYS_pipe2, Always, libc::EMFILE)],
    &[refused(libc::SYS_pipe2, Always, libc::ENFILE)],
    &[refused(libc::SYS_pipe2, Always, libc::ENOMEM)],
    &[refused(libc::SYS_fcntl, Equals(1, SET_FLAGS), libc::EPERM)],
    &[refused(libc::SYS_fcntl, Equals(1, COPY), libc::EMFILE)],
    &[refused(libc::SYS_openat, HasBits(2, libc::O_RDWR as u32), libc::ENFILE)],
    &[refused(libc::SYS_ioctl, Equals(1, libc::TIOCSWINSZ as u32), libc::EIO)],
    &[refused(libc::SYS_ioctl, Equals(1, libc::TIOCSCTTY as u32), libc::EPERM)],
    &[refused(libc::SYS_ioctl, Equals(1, libc::TIOCSPTLCK as u32), libc::EIO)],
    &[
        refused(libc::SYS_clone, Always, libc::EAGAIN),
        refused(libc::SYS_clone3, Always, libc::EAGAIN),
        #[cfg(target_arch = "x86_64")]
        refused(libc::SYS_vfork, Always, libc::EAGAIN),
    ],
    &[
        refused(libc::SYS_clone, Always, libc::ENOMEM),
        refused(libc::SYS_clone3, Always, libc::ENOMEM),
        #[cfg(target_arch = "x86_64")]
        refused(libc::SYS_vfork, Always, libc::ENOMEM),
    ],
    &[refused(libc::SYS_clone3, Always, libc::ENOSYS)],
    &[refused(libc::SYS_mmap, HasBits(3, libc::MAP_STACK as u32), libc::ENOMEM)],
    &[refused(libc::SYS_pidfd_open, Always, libc::EMFILE)],
    &[refused(libc::SYS_pidfd_open, Always, libc::ENOMEM)],
    &[refused(libc::SYS_pidfd_open, Always, libc::ENOSYS)],
    &[refused(libc::SYS_epoll_ctl, Equals(1, libc::EPOLL_CTL_ADD as u32), libc::ENOSPC)],
    &[refused(libc::SYS_epoll_ctl, Equals(1, libc::EPOLL_CTL_ADD as u32), libc::ENOMEM)],
    &[refused(libc::SYS_close_range, Always, libc::EPERM)],
    &[refused(libc::SYS_setsid, Always, libc::EPERM)],
    &[refused(libc::SYS_chdir, Always, libc::EACCES)],
    &[refused(libc::SYS_execve, Always, libc::ENOMEM)],
    &[refused(libc::SYS_execve, Always, libc::EIO)],
    &[refused(libc::SYS_execve, Always, libc::EAGAIN)],
    &[refused(libc::SYS_execve, Always, libc::ETXTBSY)],
    &[refused(libc::SYS_dup3, Always, libc::EMFILE)],
    #[cfg(target_arch = "x86_64")]
    &[refused(libc::SYS_dup2, Always, libc::EMFILE)],
    &[
        // No way is left to close the descriptors of others.
        refused(libc::SYS_close_range, Always, libc::EPERM),
        refused(libc::SYS_openat, HasBits(2, libc::O_DIRECTORY as u32), libc::EACCES),
    ],
];

/// The kernel refuses each system call in turn to the thread that starts a child, in calls of every kind.
#[test]
fn each_call_refused_to_this_thread() {
    fault("sandbox::each_call_refused_to_this_thread", || {
        let mut refusals = 0;
        again_and_again(1, || {
            for (number, rules) in EACH.iter().enumerate() {
                for (kind, call) in CALLS {
                    match without(rules, call) {
                        Ok(()) => {}
                        Err(error) => {
                            let what = format!("rule {number}, {kind}: {error:?}");
                            let reason = match &error {
                                Error::Spawn { reason, .. } => reason,
                                // The child ran, but its shell could not start anything.
                                Error::Failed(details) => {
                                    assert!(details.output().is_some(), "{what}");
                                    continue;
                                }
                                _ => panic!("{what}"),
                            };
                            refusals += 1;
                            let errno = errno(&error).expect("the system said no");
                            assert!(rules.iter().any(|rule| rule.errno == errno), "{what}");
                            let expected = match errno {
                                libc::EMFILE | libc::ENFILE => SpawnReason::OutOfDescriptors,
                                libc::EAGAIN => SpawnReason::OutOfProcesses,
                                libc::ETXTBSY => SpawnReason::Busy,
                                // Only the folder or the program can cause this error.
                                libc::EACCES if *reason == SpawnReason::NotExecutable => *reason,
                                libc::EACCES => SpawnReason::WorkingDirectory,
                                _ if *reason == SpawnReason::Terminal && kind == &"a terminal" => *reason,
                                _ => SpawnReason::Other,
                            };
                            // The message says what the new process could not do.
                            assert!(*reason == expected || *reason == SpawnReason::Other, "{what}");
                        }
                    }
                    no_child();
                }
                works();
            }
        });
        assert!(refusals > 4 * EACH.len(), "only {refusals} refusals");
    });
}

/// The reactor cannot watch one descriptor, each in turn. The child has started at that moment, and must not
/// stay, with and without `kill_on_drop`.
#[test]
fn each_registration_refused() {
    fault("sandbox::each_registration_refused", || {
        let mut refusals = 0;
        again_and_again(1, || {
            for number in 3..32 {
                const ADD: u32 = libc::EPOLL_CTL_ADD as u32;
                let rules = [refused(libc::SYS_epoll_ctl, Equals(2, number), libc::ENOSPC)];
                let all_kinds = [true, false].map(|kill_on_drop| {
                    without(&rules, || {
                        let mut command = sh("exec sleep 1000");
                        command.kill_on_drop(kill_on_drop).fd(3, Stdio::output()).stdin(Stdio::bytes("x"));
                        match command.spawn() {
                            Ok(process) => {
                                process.control().kill().expect("it runs");
                                drop(process);
                            }
                            Err(error) => {
                                assert_eq!(reason(&error), SpawnReason::Other, "{error}");
                                assert_eq!(errno(&error), Some(libc::ENOSPC), "{error}");
                                return 1;
                            }
                        }
                        0
                    })
                });
                no_child();
                refusals += all_kinds.iter().sum::<u32>();
                // For any descriptor, and with `kill_on_drop(false)`.
                let rules = [refused(libc::SYS_epoll_ctl, Equals(1, ADD), libc::ENOSPC)];
                without(&rules, || {
                    let mut command = Command::new("sleep");
                    command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    if cfg!(async_process_force_signal_backend) {
                        // There a signal reports the exit, and not a descriptor.
                        command.kill_on_drop(true).spawn().map(drop).expect("nothing is to be watched");
                        return;
                    }
                    let error = command.kill_on_drop(false).spawn().expect_err("nothing can be watched");
                    assert_eq!(errno(&error), Some(libc::ENOSPC), "{error}");
                });
                no_child();
            }
        });
        assert!(refusals >= 8, "only {refusals} refusals");
    });
}

/// Reading or writing fails in the middle: the error says so, and the child is gone.
#[test]
fn each_pipe_fails() {
    fault("sandbox::each_pipe_fails", || {
        let mut failures = 0;
        again_and_again(1, || {
            for number in 3..32 {
                let rules = [libc::SYS_read, libc::SYS_readv, libc::SYS_write, libc::SYS_writev]
                    .map(|call| refused(call, Equals(0, number), libc::ENOBUFS));
                let result = without(&rules, || {
                    let mut command = sh("cat; exec cat <&3 >&4");
                    command.stdin(Stdio::bytes("in")).fd(3, Stdio::bytes("three"));
                    block_on(command.fd(4, Stdio::output()).output())
                });
                match result {
                    Ok(output) => {
                        // The child has descriptors of such numbers too; then the child itself complains.
                        if number > 10 || output.status.success() {
                            assert_eq!((&output.stdout[..], output.fd(4)), (&b"in"[..], Some(&b"three"[..])));
                        }
                    }
                    Err(Error::Io { source, details }) => {
                        failures += 1;
                        assert_eq!(source.raw_os_error(), Some(libc::ENOBUFS));
                        assert!(details.output().is_some(), "{details}");
                    }
                    // The report from the new process.
                    Err(error) => assert_eq!(errno(&error), Some(libc::ENOBUFS), "{error:?}"),
                }
                no_child();
            }
        });
        assert!(failures >= 4, "only {failures} failures");
    });
}

/// No way is left to close the descriptors that the host left open: the call fails, or the child does not
/// have them.
#[test]
fn nothing_to_close_with() {
    fault("sandbox::nothing_to_close_with", || {
        let left_open = unsafe { libc::fcntl(2, libc::F_DUPFD, 60) };
        assert!(left_open >= 60);
        let rules = [
            refused(libc::SYS_close_range, Always, libc::EPERM),
            refused(libc::SYS_openat, HasBits(2, libc::O_DIRECTORY as u32), libc::EACCES),
        ];
        again_and_again(3, || {
            for umask in [None, Some(0o22)] {
                let result = without(&rules, || {
                    let mut command = sh(&format!("test -e /proc/self/fd/{left_open} && echo has"));
                    if let Some(umask) = umask {
                        command.umask(umask);
                    }
                    block_on(command.output())
                });
                match result {
                    Ok(output) => assert_eq!(output.stdout, b"", "it has what it was not to have"),
                    Err(error) => assert!(matches!(error, Error::Spawn { .. }), "{error}"),
                }
            }
        });
    });
}

/// A refused signal has ended no process, so the call waits for the descendants' output.
#[test]
fn a_kill_refused() {
    fault("sandbox::a_kill_refused", || {
        let rules =
            [libc::SYS_kill, libc::SYS_pidfd_send_signal].map(|call| refused(call, Always, libc::EPERM));
        let promise = sh("echo first; (sleep 0.5; echo late) & sleep 0.2").output();
        let control = promise.control();
        let told = without(&rules, || control.kill());
        assert!(matches!(told, Err(Error::Io { .. })), "{told:?}");
        assert_eq!(block_on(promise).expect("a value").stdout, b"first\nlate\n");
        no_child();
    });
}
