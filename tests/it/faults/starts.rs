//! What happens during a start: signals from everywhere, threads that allocate and lock, an emulator.

use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use reaped::{Command, SpawnReason};

use super::{Stop, Traces, all_calls, block_on, fault, reason, watch_dog};
use crate::harness::skip;
use crate::support::{again_through, sh};

static PARENT: AtomicI32 = AtomicI32::new(0);
static HANDLED: AtomicUsize = AtomicUsize::new(0);
static IN_A_CHILD: AtomicUsize = AtomicUsize::new(0);

/// If a new process that shares this memory ran the handler, that would count here too.
extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    if unsafe { libc::syscall(libc::SYS_getpid) } as i32 != PARENT.load(Ordering::Relaxed) {
        IN_A_CHILD.fetch_add(1, Ordering::Relaxed);
    }
}

/// Four threads start children. A thousand signals a second go to the whole process group, children included.
/// Other threads allocate, and take the locks of the C library. No handler of this process ever runs in a
/// child, nothing hangs, and nothing is left. By hand with `REAPED_STORM_STARTS=100000`.
#[test]
fn a_storm() {
    fault("starts::a_storm", || {
        let starts =
            std::env::var("REAPED_STORM_STARTS").map_or(2000, |starts| starts.parse().expect("a number"));
        unsafe {
            libc::alarm(0);
            assert_eq!(libc::setpgid(0, 0), 0);
            PARENT.store(libc::getpid(), Ordering::Relaxed);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            // By default these do nothing, so no program dies of them.
            for signal in [libc::SIGWINCH, libc::SIGURG] {
                assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
            }
            if starts <= 2000 {
                libc::alarm(600);
            }
        }
        all_calls();
        let before = Traces::now();
        let (left, stop) = (AtomicUsize::new(starts), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for signal in [libc::SIGWINCH, libc::SIGURG].iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    unsafe { libc::kill(0, *signal) };
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut size = 1;
                    while !stop.load(Ordering::Relaxed) {
                        size = size * 7 % 100_003;
                        let mut time: libc::tm = unsafe { std::mem::zeroed() };
                        unsafe { libc::localtime_r(&(size as _), &mut time) };
                        unsafe { libc::fflush(ptr::null_mut()) };
                        black_box((vec![1_u8; size], time, std::env::var_os("PATH")));
                        std::thread::sleep(Duration::from_micros(50));
                    }
                });
            }
            let _stop = Stop(&stop);
            let starters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let one_more = |n: usize| n.checked_sub(1);
                        while let Ok(n) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
                            if n % 3 == 0 {
                                let error =
                                    block_on(Command::new("/no/such/program").run()).expect_err("missing");
                                assert_eq!(reason(&error), SpawnReason::ProgramNotFound);
                            } else if n % 50 == 1 {
                                assert_eq!(block_on(sh("echo said").read()).expect("runs"), "said");
                            } else {
                                block_on(Command::new("true").run()).expect("success");
                            }
                        }
                    })
                })
                .collect();
            for starter in starters {
                starter.join().expect("no panic");
            }
        });
        println!("{} signals handled", HANDLED.load(Ordering::Relaxed));
        assert!(HANDLED.load(Ordering::Relaxed) > 100, "there was no storm");
        assert_eq!(IN_A_CHILD.load(Ordering::Relaxed), 0, "a handler of ours ran in a child");
        before.are_all(8 << 10);
    });
}

/// valgrind always gives a new process a copy of the memory, so the parent does not see what the process
/// writes there. The other engine starts the children, so a missing program does not look started.
#[test]
fn under_valgrind() {
    const TEST: &str = "faults::starts::under_valgrind";
    const VARIABLE: &str = "REAPED_TEST_VALGRIND";
    if std::env::var_os(VARIABLE).is_some() {
        watch_dog();
        assert_eq!(block_on(Command::new("echo").arg("hi").read()).expect("runs"), "hi");
        let error = block_on(Command::new("/no/such/program").run()).expect_err("missing");
        assert_eq!(reason(&error), SpawnReason::ProgramNotFound);
        assert_eq!(block_on(Command::new("true").output()).expect("runs").usage(), None);
        return;
    }
    again_through(&["valgrind", "-q"], TEST, VARIABLE);
}

/// A Ctrl-Z comes while a child starts and has borrowed its parent's thread. The child drops the signal,
/// except in a moment of some hundred nanoseconds before its program runs.
#[test]
fn ctrl_z_meanwhile() {
    if !super::NATIVE {
        // That engine's fork does not borrow the thread, but the thread reads the fork's report.
        skip("after a fork it is still so");
    }
    fault("starts::ctrl_z_meanwhile", || {
        unsafe {
            assert_eq!(libc::setpgid(0, 0), 0);
            libc::signal(libc::SIGTSTP, libc::SIG_IGN);
        }
        all_calls();
        let (started, hangs, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut before = usize::MAX;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_secs(2));
                    let now = started.load(Ordering::Relaxed);
                    if now == before {
                        hangs.fetch_add(1, Ordering::Relaxed);
                        unsafe { libc::kill(0, libc::SIGCONT) };
                    }
                    before = now;
                }
            });
            let _stop = Stop(&stop);
            for n in 0..1000 {
                let press = scope.spawn(move || {
                    std::thread::sleep(Duration::from_micros(n * 37 % 400));
                    unsafe { libc::kill(0, libc::SIGTSTP) };
                });
                // Once the program runs it may be stopped, and is killed.
                drop(Command::new("true").spawn().expect("starts"));
                press.join().expect("no panic");
                started.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(hangs.load(Ordering::Relaxed) <= 5, "{hangs:?} hangs of a thousand starts");
    });
}
