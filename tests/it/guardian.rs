//! Children that die with the parent. The test starts a parent of each kind, with children of its own, and
//! ends it in each way.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Stdio as StdStdio};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use reaped::{Command, Event, Process};
#[cfg(target_os = "linux")]
use reaped::{Error, SpawnReason};

#[cfg(target_os = "linux")]
use super::support::{again_through, alone, helper, root_needed};
use super::support::{eventually, sh};

const ENDING: &str = "REAPED_TEST_ENDING";

/// Runs this test in another process, as the parent, which ends in the given way.
fn parent(test: &str, ending: &str) -> Child {
    let mut command = process::Command::new(std::env::current_exe().expect("this binary"));
    command
        .args([&format!("guardian::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(ENDING, ending)
        .stdin(StdStdio::piped())
        .stdout(StdStdio::piped())
        .stderr(StdStdio::null());
    command.spawn().expect("starts")
}

/// A line of pids; the parent writes it behind this mark.
const MARK: &str = "pids: ";

fn pids(parent: &mut Child) -> Vec<i32> {
    let said = BufReader::new(parent.stdout.as_mut().expect("a pipe"));
    for line in said.lines() {
        if let Some(pids) = line.expect("text").strip_prefix(MARK) {
            return pids.split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
        }
    }
    panic!("it said no numbers");
}

/// The pid, whether it is a zombie, and the command line of every process.
#[cfg(target_os = "linux")]
fn processes() -> Vec<(i32, bool, String)> {
    let listed = std::fs::read_dir("/proc").expect("procfs").flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let look = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may contain anything, proc_pid_stat(5).
        let zombie = stat.rsplit_once(") ")?.1.starts_with(['Z', 'X']);
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, zombie, String::from_utf8_lossy(&args).replace('\0', " ")))
    };
    pids.filter_map(look).collect()
}

#[cfg(not(target_os = "linux"))]
fn processes() -> Vec<(i32, bool, String)> {
    let listed =
        process::Command::new("ps").args(["-A", "-o", "pid=,stat=,args="]).output().expect("ps is there");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let look = |line: &str| {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some((pid, words.next()?.starts_with('Z'), words.collect::<Vec<_>>().join(" ")))
    };
    listed.lines().filter_map(look).collect()
}

/// Neither running, nor a zombie that its new parent has not reaped.
fn is_gone(pid: i32) -> bool {
    !processes().iter().any(|(other, zombie, _)| *other == pid && !zombie)
}

/// A child, a grandchild and a great-grandchild; and their pids, the child's first.
fn tree(new_group: bool) -> (Process, String) {
    let mut command = sh("sh -c 'sleep 1000 & echo $$ $!; wait' & echo $$; wait");
    if new_group {
        command.new_group();
    }
    let mut process = command.die_with_parent(true).spawn().expect("starts");
    let mut said = String::new();
    while said.split_whitespace().count() < 3 || !said.ends_with('\n') {
        match block_on(process.next()) {
            Some(Event::Data { data, .. }) => said.push_str(&String::from_utf8(data).expect("text")),
            event => panic!("{event:?}"),
        }
    }
    // The first process to run prints its own pid first.
    let own = process.pid().expect("it runs").to_string();
    let (first, others): (Vec<_>, Vec<_>) = said.split_whitespace().partition(|pid| *pid == own);
    (process, [first, others].concat().join(" "))
}

/// The parent kills itself, and soon this many processes are gone.
#[cfg(target_os = "linux")]
fn nobody_is_left(test: &str, count: usize) {
    let mut parent = parent(test, "kill");
    let pids = pids(&mut parent);
    assert_eq!(pids.len(), count, "{pids:?}");
    parent.wait().expect("ours");
    eventually("all are gone", || pids.iter().all(|pid| is_gone(*pid)));
}

/// The whole tree is gone soon after its parent, however the parent ends.
#[test]
fn a_tree_dies_with_its_parent() {
    const TEST: &str = "a_tree_dies_with_its_parent";
    if let Ok(ending) = std::env::var(ENDING) {
        let (tree, pids) = tree(true);
        println!("\n{MARK}{pids}");
        match &*ending {
            "kill" => drop(unsafe { libc::kill(libc::getpid(), libc::SIGKILL) }),
            "abort" => process::abort(),
            // Nothing is dropped.
            "exit" => process::exit(3),
            "panic" => {
                std::panic::set_hook(Box::new(|_| process::abort()));
                panic!("as with panic = \"abort\"");
            }
            "detached" => {
                tree.control();
                std::mem::forget(tree);
                process::exit(0);
            }
            // The pipe closes when this program executes another one.
            "exec" => panic!("{}", process::Command::new("sleep").arg("1000").exec()),
            other => panic!("{other}"),
        }
        unreachable!("it is gone");
    }
    for ending in ["kill", "abort", "exit", "panic", "detached", "exec"] {
        let mut parent = parent(TEST, ending);
        let pids = pids(&mut parent);
        assert_eq!(pids.len(), 3, "{pids:?}");
        let start = Instant::now();
        eventually("all of the tree are gone", || pids.iter().all(|pid| is_gone(*pid)));
        println!("{ending}: gone after {:?}", start.elapsed());
        assert_eq!(parent.try_wait().expect("ours").is_none(), ending == "exec");
        let _ = parent.kill();
        parent.wait().expect("ours");
    }
}

/// Without a group only the child dies. A child without `die_with_parent` keeps running.
#[test]
fn a_child_that_need_not_die_keeps_running() {
    const TEST: &str = "a_child_that_need_not_die_keeps_running";
    if std::env::var(ENDING).is_ok() {
        let (_tree, pids) = tree(false);
        let lives = Command::new("sleep").arg("1000").spawn().expect("starts");
        println!("\n{MARK}{pids} {}", lives.pid().expect("runs"));
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    let mut parent = parent(TEST, "kill");
    let pids = pids(&mut parent);
    parent.wait().expect("ours");
    eventually("the child is gone", || is_gone(pids[0]));
    std::thread::sleep(Duration::from_millis(200));
    for pid in &pids[1..] {
        assert!(!is_gone(*pid), "{pids:?}");
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    }
}

/// Without a handler a signal ends the parent alone, as `exit` does: nothing is dropped.
#[test]
fn without_a_handler_children_keep_running() {
    const TEST: &str = "without_a_handler_children_keep_running";
    if let Ok(ending) = std::env::var(ENDING) {
        let child = Command::new("sleep").arg("1000").terminate_on_drop(true).spawn().expect("starts");
        println!("\n{MARK}{}", child.pid().expect("runs"));
        match ending.parse() {
            Ok(signal) => {
                // A script may have started the tests in the background, so SIGINT was ignored.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
                unsafe { libc::kill(libc::getpid(), signal) }
            }
            Err(_) => process::exit(0),
        };
        loop {
            std::thread::park();
        }
    }
    for ending in [&libc::SIGTERM.to_string(), &libc::SIGINT.to_string(), "exit"] {
        let mut parent = parent(TEST, ending);
        let child = pids(&mut parent)[0];
        parent.wait().expect("ours");
        std::thread::sleep(Duration::from_millis(200));
        assert!(!is_gone(child), "{ending}");
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
}

/// The guardian's pid: the process that runs its script, and reads a pipe of this process.
#[cfg(target_os = "linux")]
fn guardians(parent: i32) -> Vec<i32> {
    let running = processes().into_iter().filter(|(.., args)| args.starts_with("/bin/sh -c"));
    running.map(|(pid, ..)| pid).filter(|pid| watches(*pid, parent)).collect()
}

/// Whether this guardian reads the pipe that the parent writes.
#[cfg(target_os = "linux")]
fn watches(guardian: i32, parent: i32) -> bool {
    let pipe = |pid: i32| std::fs::read_link(format!("/proc/{pid}/fd/0")).ok();
    let ours = std::fs::read_dir(format!("/proc/{parent}/fd")).expect("ours").flatten();
    let mut ours = ours.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    pipe(guardian).is_some_and(|pipe| ours.any(|link| link == pipe))
}

/// If the guardian is killed, the next start replaces it, and the new one knows the old children.
#[cfg(target_os = "linux")]
#[test]
fn a_guardian_that_was_killed_is_replaced() {
    const TEST: &str = "a_guardian_that_was_killed_is_replaced";
    if std::env::var(ENDING).is_ok() {
        let own = process::id() as i32;
        let (_first, pids) = tree(true);
        let guardian = guardians(own);
        assert_eq!(guardian.len(), 1, "one for the whole program: {guardian:?}");
        // A signal to the whole program does not reach the guardian. It ignores the signals that a process
        // can ignore.
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            unsafe { libc::kill(guardian[0], signal) };
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(guardians(own), guardian);
        let exits = Command::new("true").die_with_parent(true).run();
        block_on(exits).expect("success");
        unsafe { libc::kill(guardian[0], libc::SIGKILL) };
        eventually("the guardian is gone", || is_gone(guardian[0]));
        let (_second, more) = tree(true);
        assert_eq!(guardians(own).len(), 1);
        println!("\n{MARK}{pids} {more}");
        unsafe { libc::kill(own, libc::SIGKILL) };
    }
    nobody_is_left(TEST, 6);
}

/// The guardian has no descriptor of this program except the pipe. It has a session of its own, and is no
/// child of this process.
#[cfg(target_os = "linux")]
#[test]
fn the_guardian_has_no_descriptor_of_the_program() {
    alone("guardian::the_guardian_has_no_descriptor_of_the_program", || {
        let open = unsafe { libc::fcntl(2, libc::F_DUPFD, 60) };
        assert!(open >= 60);
        let (tree, _) = tree(true);
        let guardian = guardians(process::id() as i32)[0];
        eventually("its first shell is reaped", || {
            crate::support::children().iter().all(|(pid, ..)| tree.pid() == Some(*pid as u32))
        });
        let fds = std::fs::read_dir(format!("/proc/{guardian}/fd")).expect("it runs").flatten();
        let mut fds: Vec<_> = fds.map(|entry| entry.file_name().into_string().expect("a number")).collect();
        fds.sort();
        assert_eq!(fds, ["0", "1", "2"]);
        let session = unsafe { libc::getsid(guardian) };
        assert_ne!(session, unsafe { libc::getsid(0) });
        assert_eq!(std::fs::read_link(format!("/proc/{guardian}/cwd")).expect("it runs").to_str(), Some("/"));
    });
}

/// The parent is killed at any moment while it starts one child after the other. None is left.
#[test]
fn killed_while_it_starts() {
    const TEST: &str = "killed_while_it_starts";
    if let Ok(name) = std::env::var(ENDING) {
        let started: Vec<Process> = (0..)
            .map(|n| {
                if n == 1 {
                    println!("\n{MARK}");
                }
                let mut command = sh(&format!(": {name}; sleep 1000; :"));
                command.new_group();
                command.die_with_parent(true).spawn().expect("starts")
            })
            .take(200)
            .collect();
        std::thread::sleep(Duration::from_secs(1000));
        drop(started);
    }
    // No other process has this name.
    let name = format!("killed-while-it-starts-{}", process::id());
    for round in 0..20 {
        let mut parent = parent(TEST, &name);
        pids(&mut parent);
        std::thread::sleep(Duration::from_micros(round * 700));
        parent.kill().expect("ours");
        parent.wait().expect("ours");
        let left = || processes().iter().filter(|(_, zombie, args)| !zombie && args.contains(&name)).count();
        eventually("none is left", || left() == 0);
    }
}

/// A child that has left its group dies too.
#[cfg(target_os = "linux")]
#[test]
fn a_leader_that_left_its_group() {
    const TEST: &str = "a_leader_that_left_its_group";
    if std::env::var(ENDING).is_ok() {
        let mut leader = helper(&["group:join", "say:1:ready", "sleep:100000"]);
        let mut leader = leader.new_group().die_with_parent(true).spawn().expect("starts");
        assert!(matches!(block_on(leader.next()), Some(Event::Data { .. })));
        println!("\n{MARK}{}", leader.pid().expect("runs"));
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    nobody_is_left(TEST, 1);
}

/// If something stops the guardian, its pipe fills up. Then a child with `die_with_parent` is refused, and no
/// other call waits. When the guardian goes on, it knows the children that are left.
#[cfg(target_os = "linux")]
#[test]
fn a_guardian_that_is_stopped() {
    const TEST: &str = "a_guardian_that_is_stopped";
    if std::env::var(ENDING).is_ok() {
        let (_tree, pids) = tree(true);
        let (gone, _) = tree(true);
        let guardian = guardians(process::id() as i32)[0];
        unsafe { libc::kill(guardian, libc::SIGSTOP) };
        let guarded = || Command::new("true").die_with_parent(true).run();
        let refused =
            (0..10_000).find_map(|_| block_on(guarded()).err()).expect("the pipe is full in the end");
        assert!(matches!(refused, Error::Spawn { reason: SpawnReason::Other, .. }), "{refused}");
        let start = Instant::now();
        drop(gone);
        for _ in 0..10 {
            block_on(Command::new("true").run()).expect("nobody else waits");
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        unsafe { libc::kill(guardian, libc::SIGCONT) };
        eventually("it reads again", || block_on(guarded()).is_ok());
        println!("\n{MARK}{pids}");
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    nobody_is_left(TEST, 3);
}

/// In a new pid namespace a child has another number. Outside, that number belongs to another process: 1, and
/// a group of that number would mean every process. The test runs in a namespace, so "every process" is few.
#[cfg(target_os = "linux")]
#[test]
fn a_child_with_another_number() {
    const TEST: &str = "guardian::a_child_with_another_number";
    if std::env::var(ENDING).is_ok() {
        // All threads are there, because none can start later.
        block_on(Command::new("true").die_with_parent(true).run()).expect("here they are known");
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
        for group in [true, false] {
            let mut command = Command::new("true");
            if group {
                command.new_group();
            }
            let error = block_on(command.die_with_parent(true).run()).expect_err("nobody knows its number");
            assert!(matches!(error, Error::Spawn { reason: SpawnReason::Other, .. }), "{error}");
        }
        return;
    }
    root_needed();
    again_through(&["unshare", "--pid", "--fork", "--mount-proc"], TEST, ENDING);
}
