//! Why a program ended as it did: the message says so if there was evidence, and only then.

use reaped::{Command, Resource};

use super::support::{everywhere, helper, sh};
use futures::executor::block_on;

fn said(command: &mut Command) -> String {
    block_on(command.hide_args(true).run()).expect_err("it fails").to_string()
}

#[test]
fn the_codes_of_a_shell() {
    everywhere(|| async {
        for (script, meant) in [
            ("/no/such/program", "127, which a shell says if a program was not found: "),
            ("/", "126, which a shell says if a program was found, but could not be run: "),
        ] {
            let error = sh(script).hide_args(true).output().await.expect("runs").check().expect_err("fails");
            let error = error.to_string();
            assert!(error.starts_with(&format!("`sh` exited with code {meant}")), "{error}");
        }
    });
    // A member of a pipeline, and a command with hidden arguments.
    let mut pipe = sh("exit 127").hide_args(true).pipe(Command::new("true"));
    let whole = "`sh | true`: `sh` exited with code 127, which a shell says if a program was not found";
    assert_eq!(block_on(pipe.run()).expect_err("fails").to_string(), whole);
    let complained = "`sh` wrote to stderr and exited with code 126, which a shell says if a program was found, but could \
                      not be run: no";
    assert_eq!(said(sh("echo no >&2; exit 126").fail_on_stderr(true)), complained);
    // The message for a program that really was killed.
    let killed = |signal: &str| said(&mut sh(&format!("sh -c 'kill -{signal} $$'; exit $?")));
    let means = |code: i32, signal: &str| {
        format!("`sh` exited with code {code}, which a shell says if a program was killed by {signal}")
    };
    assert_eq!(killed("KILL").split(':').next(), Some(&*means(137, "SIGKILL")));
    assert_eq!(killed("TERM").split(':').next(), Some(&*means(143, "SIGTERM")));
    // The shell may be in any folder, and have any of its names.
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["bash", "dash", "zsh", "ksh", "ash"] {
        let shell = dir.path().join(name);
        std::os::unix::fs::symlink("/bin/sh", &shell).expect("a link");
        let said = said(Command::new(&shell).args(["-c", "exit 143"]));
        assert!(said.ends_with(" killed by SIGTERM"), "{said}");
    }
}

/// Other codes, and other programs, which may mean anything by a code.
#[test]
fn codes_that_no_shell_gives() {
    for code in [1, 125, 128, 128 + 65, 254, 255] {
        assert_eq!(said(&mut sh(&format!("exit {code}"))), format!("`sh` exited with code {code}"));
    }
    for code in [126, 127, 137, 143] {
        let said = said(&mut helper(&[&format!("exit:{code}")]));
        assert!(said.ends_with(&format!(" exited with code {code}")), "{said}");
    }
    // A part of the name is not enough.
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["fish", "sh.old"] {
        let shell = dir.path().join(name);
        std::os::unix::fs::symlink("/bin/sh", &shell).expect("a link");
        let said = said(Command::new(&shell).args(["-c", "exit 127"]));
        assert!(said.ends_with(" exited with code 127"), "{said}");
    }
    // busybox is as many programs as it has names.
    let shell = dir.path().join("busybox");
    std::fs::write(&shell, "#!/bin/sh\nexit 127\n").expect("a script");
    std::fs::set_permissions(&shell, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a script");
    assert!(said(Command::new(&shell).arg("wget")).ends_with(" exited with code 127"));
    assert!(said(Command::new(&shell).arg("sh")).ends_with(" if a program was not found"));
}

#[test]
fn limits() {
    let signal = |number: i32, core: &str| format!("(signal {number}{core})");
    let is_said = |said: String, name: &str, number: i32, why: &str| {
        let ways = ["", ", core dumped"].map(|core| {
            format!("`sh` was killed by {name} {}, which the system sends {why}", signal(number, core))
        });
        assert!(ways.iter().any(|way| said.starts_with(way)), "{said}");
    };
    let mut busy = sh("while :; do :; done");
    let said_of_time = said(busy.rlimit(Resource::CPU, 1, 10).rlimit(Resource::CORE, 0, 0));
    is_said(said_of_time, "SIGXCPU", libc::SIGXCPU, "at the limit of processor time");

    let dir = tempfile::tempdir().expect("a folder");
    // `echo` is a builtin, so the signal hits the shell itself.
    let mut writes = sh("while :; do echo 0123456789; done > file");
    writes.current_dir(dir.path()).rlimit(Resource::FSIZE, 4096, 4096).rlimit(Resource::CORE, 0, 0);
    is_said(said(&mut writes), "SIGXFSZ", libc::SIGXFSZ, "at the limit of a file's size");

    // This crate ended the child, so it looks for no cause.
    let mut late = sh("exec sleep 1000");
    late.timeout(std::time::Duration::from_millis(50)).stop_signal(reaped::Signal::XCPU);
    let said = said(late.rlimit(Resource::CORE, 0, 0));
    assert!(said.ends_with(&format!("was killed by SIGXCPU (signal {})", libc::SIGXCPU)), "{said}");
}

#[cfg(target_os = "linux")]
mod memory {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::harness::skip;
    use crate::support::alone;

    const PROBABLY: &str = ", probably out of memory";
    const MOST: &str = "67108864";
    /// A shell that takes more and more memory.
    const HOG: &str = "x=0123456789; while :; do x=$x$x; done";

    /// A cgroup with little memory for this process alone, until this is dropped.
    struct Cgroup {
        place: PathBuf,
        before: PathBuf,
    }

    impl Cgroup {
        fn enter() -> Self {
            let own = std::fs::read_to_string("/proc/self/cgroup").expect("procfs");
            let mut lines = own.lines().filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                Some((fields.next()?, fields.next()?))
            });
            let version_1 = lines.clone().find(|line| line.0.split(',').any(|name| name == "memory"));
            let (before, limits): (PathBuf, &[&str]) = match version_1 {
                Some((_, path)) => (
                    Path::new("/sys/fs/cgroup/memory").join(&path[1..]),
                    &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
                ),
                None => {
                    let path = lines.find(|line| line.0.is_empty()).map_or("/", |line| line.1);
                    (Path::new("/sys/fs/cgroup").join(&path[1..]), &["memory.max", "memory.swap.max"])
                }
            };
            // Version 2: a sibling of this process's cgroup, because a cgroup with processes can have no
            // controllers below it.
            let name = format!("reaped-test-{}", std::process::id());
            let parent = if version_1.is_some() { Some(&*before) } else { before.parent() };
            let place = match parent {
                Some(parent) if parent.starts_with("/sys/fs/cgroup") => parent.join(name),
                _ => before.join(name),
            };
            if let Err(error) = std::fs::create_dir(&place) {
                skip(format!("no cgroup can be made: {error}"));
            }
            let cgroup = Cgroup { place, before };
            let own = std::process::id().to_string();
            let set = |file: &str, value: &str| std::fs::write(cgroup.place.join(file), value);
            let bounded = set(limits[0], MOST);
            let swap = set(limits[1], if version_1.is_some() { MOST } else { "0" });
            if swap.is_err()
                && std::fs::read_to_string("/proc/swaps").is_ok_and(|all| all.lines().count() > 1)
            {
                drop(cgroup);
                skip("there is swap without bounds");
            }
            if let Err(error) = bounded.and_then(|()| set("cgroup.procs", &own)) {
                drop(cgroup);
                skip(format!("no cgroup can have its memory bounded: {error}"));
            }
            cgroup
        }
    }

    impl Cgroup {
        fn leave(&self) {
            let own = std::process::id().to_string();
            let _: std::io::Result<()> = std::fs::write(self.before.join("cgroup.procs"), own);
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            self.leave();
            crate::support::eventually("the cgroup is left", || {
                std::fs::remove_dir(&self.place).is_ok() || !self.place.exists()
            });
        }
    }

    /// The kernel really kills in a cgroup with little memory.
    #[test]
    fn out_of_memory() {
        alone("causes::memory::out_of_memory", || {
            let _cgroup = Cgroup::enter();
            // This child runs meanwhile, and another process kills it. The evidence is the same.
            let unlucky = Command::new("sleep").arg("1000").run();
            let ours = Command::new("sleep").arg("1000").run();
            let killed = format!("`sh` was killed by SIGKILL (signal 9){PROBABLY}");
            assert_eq!(said(&mut sh(HOG)), killed);
            // No later child ran at that time.
            let plain = "`sh` was killed by SIGKILL (signal 9)";
            assert_eq!(said(&mut sh("kill -9 $$")), plain);
            assert_eq!(said(&mut sh("exit 137")), REPORTED);
            // The kernel killed a program that the shell had started.
            assert!(
                said(&mut sh(&format!("sh -c '{HOG}'; exit $?"))).contains(&format!("{REPORTED}{PROBABLY}"))
            );
            assert_eq!(said(&mut sh("kill -9 $$")), plain);
            // A child that did not die of it.
            assert_eq!(
                said(&mut sh(&format!("sh -c '{HOG}'; exit 3"))).split(':').next(),
                Some("`sh` exited with code 3")
            );
            let other = helper(&["exit:137"]).hide_args(true).run();
            assert!(block_on(other).expect_err("fails").to_string().ends_with(" exited with code 137"));
            // A child that this crate killed.
            ours.control().kill().expect("runs");
            let said_of_ours = block_on(ours).expect_err("killed").to_string();
            assert_eq!(said_of_ours, "`sleep 1000` was killed by SIGKILL (signal 9)");
            let pid = unlucky.pid().expect("runs");
            assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
            let said_of_it = block_on(unlucky).expect_err("killed").to_string();
            assert_eq!(said_of_it, format!("`sleep 1000` was killed by SIGKILL (signal 9){PROBABLY}"));
        });
    }

    const REPORTED: &str = "`sh` exited with code 137, which a shell says if a program was killed by SIGKILL";

    /// If this process was moved to another cgroup, the counter may not be the child's, so the message names
    /// no cause.
    #[test]
    fn out_of_memory_elsewhere() {
        alone("causes::memory::out_of_memory_elsewhere", || {
            let cgroup = Cgroup::enter();
            let mut elsewhere = std::process::Command::new("sh")
                .args(["-c", &format!("read go; {HOG}")])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("starts");
            let before = Command::new("sleep").arg("1000").run();
            cgroup.leave();
            let after = Command::new("sleep").arg("1000").run();
            drop(elsewhere.stdin.take());
            let status = elsewhere.wait().expect("it is ours");
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
            for sleeps in [before, after] {
                assert_eq!(unsafe { libc::kill(sleeps.pid().expect("runs") as i32, libc::SIGKILL) }, 0);
                let said = block_on(sleeps).expect_err("killed").to_string();
                assert_eq!(said, "`sleep 1000` was killed by SIGKILL (signal 9)");
            }
        });
    }

    /// If the kernel killed no process for want of memory, the message names no cause.
    #[test]
    fn killed_by_a_stranger() {
        alone("causes::memory::killed_by_a_stranger", || {
            let sleeps = Command::new("sleep").arg("1000").run();
            let pid = sleeps.pid().expect("runs");
            assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
            let said = block_on(sleeps).expect_err("killed").to_string();
            assert_eq!(said, "`sleep 1000` was killed by SIGKILL (signal 9)");
        });
    }
}
