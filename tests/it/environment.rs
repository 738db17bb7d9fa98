//! Environment, `PATH`, working directory and identity follow std's documentation.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reaped::{Command, Error, Resource, SpawnReason, Stdio};

#[cfg(target_os = "linux")]
use super::support::alone;
use super::support::{again_as_ordinary_user, helper, root_needed, sh};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// A program that prints its name, in `dir/name`.
fn script(dir: &Path, name: &str) {
    std::fs::create_dir_all(dir).expect("a folder");
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho {} \"$@\"\n", path.display())).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
}

#[test]
fn set_removed_cleared() {
    let mut command = Command::new("env");
    command.env_clear().env("B", "2").env("A", "1").env("C", "3").env_remove("C").envs([("D", "4")]);
    assert_eq!(block_on(command.read()).expect("runs"), "A=1\nB=2\nD=4");
    // Cleared after it was set.
    assert_eq!(block_on(Command::new("env").env("A", "1").env_clear().read()).expect("runs"), "");
    let inherited = block_on(sh("echo $HOME/$A").env("A", "a").read()).expect("runs");
    assert_eq!(inherited, format!("{}/a", std::env::var("HOME").unwrap_or_default()));
    assert_eq!(block_on(sh("echo ${HOME-none}").env_remove("HOME").read()).expect("runs"), "none");
    let odd = block_on(sh("printf %s \"$A\"").env("A", "\n =x").read()).expect("runs");
    assert_eq!(odd, "\n =x");
}

#[test]
fn a_bare_name_is_searched_in_the_childs_path_if_set() {
    let dir = tempfile::tempdir().expect("a folder");
    script(&dir.path().join("one"), "tool");
    script(&dir.path().join("two"), "tool");
    let path = |folders: &[&str]| {
        let folders: Vec<String> = folders.iter().map(|f| dir.path().join(f).display().to_string()).collect();
        folders.join(":")
    };
    let said = |name: &str| dir.path().join(name).join("tool").display().to_string();
    let run = |path: String| block_on(Command::new("tool").env("PATH", path).read());
    assert_eq!(run(path(&["one", "two"])).expect("runs").trim_end(), said("one"));
    assert_eq!(run(path(&["missing", "two", "one"])).expect("runs").trim_end(), said("two"));
    // A file that cannot be executed is passed over, as in execvp(3).
    std::fs::create_dir(dir.path().join("folder")).expect("made");
    std::fs::create_dir(dir.path().join("folder/tool")).expect("made");
    std::fs::create_dir(dir.path().join("plain")).expect("made");
    std::fs::write(dir.path().join("plain/tool"), "no program").expect("written");
    assert_eq!(run(path(&["folder", "plain", "one"])).expect("runs").trim_end(), said("one"));
    let error = run(path(&["folder", "plain"])).expect_err("none can be executed");
    assert!(matches!(error, Error::Spawn { reason: SpawnReason::NotExecutable, .. }), "{error}");
    let error = run(path(&["missing"])).expect_err("there is none");
    assert!(matches!(error, Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }), "{error}");
    // If the child's PATH lacks the usual folders, the program is not looked for elsewhere.
    let error = block_on(Command::new("ls").env("PATH", path(&["one"])).read()).expect_err("not there");
    assert!(matches!(error, Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }), "{error}");
}

#[test]
fn a_cleared_environment_still_finds_a_bare_name() {
    assert_eq!(block_on(Command::new("echo").arg("x").env_clear().read()).expect("found"), "x");
    assert_eq!(block_on(Command::new("echo").arg("x").env_remove("PATH").read()).expect("found"), "x");
}

/// An empty `PATH` entry, and a relative one, count from the child's working directory.
#[test]
fn relative_programs_count_from_the_working_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    script(dir.path(), "here");
    script(&dir.path().join("sub"), "there");
    let said = |name: &str| dir.path().join(name).display().to_string();
    let run = |program: &str, path: &str| {
        let said = block_on(Command::new(program).current_dir(dir.path()).env("PATH", path).read());
        said.map(|text| text.trim_end().to_owned())
    };
    assert_eq!(run("./here", "/nowhere").expect("runs"), said("here"));
    assert_eq!(run("sub/there", "/nowhere").expect("runs"), said("sub/there"));
    assert_eq!(run("here", "").expect("runs"), said("here"));
    assert_eq!(run("here", "/nowhere:").expect("runs"), said("here"));
    assert_eq!(run("there", "sub").expect("runs"), said("sub/there"));
    let error = run("there", "").expect_err("not in the folder itself");
    assert!(matches!(error, Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }), "{error}");
}

#[test]
fn arg0_is_what_the_program_sees() {
    assert_eq!(block_on(sh("echo $0").arg0("other").read()).expect("runs"), "other");
    // `arg0` does not change which program runs.
    let error = block_on(Command::new("no-such-program").arg0("sh").run()).expect_err("missing");
    assert!(matches!(error, Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }));
}

#[test]
fn umask_is_the_childs_alone() {
    let own = || block_on(sh("umask").read()).expect("runs");
    let before = own();
    assert_eq!(block_on(sh("umask").umask(0o077).read()).expect("runs"), "0077");
    assert_eq!(own(), before);
}

/// If the system takes the first group of setgroups(2) as the effective one, none of the groups is lost.
#[test]
fn the_groups_are_those_that_were_named() {
    root_needed();
    let ids = |command: &mut Command| {
        let text = block_on(command.args(["-c", "id -u; id -g; id -G"]).read()).expect("runs");
        let numbers =
            |line: &str| line.split(' ').map(|id| id.parse().expect("an id")).collect::<BTreeSet<u32>>();
        text.lines().map(numbers).collect::<Vec<_>>()
    };
    let sets = |uid, gid, groups: &[u32]| vec![[uid].into(), [gid].into(), groups.iter().copied().collect()];
    let own = rustix::process::getegid().as_raw();
    let mut command = Command::new("sh");
    assert_eq!(ids(command.uid(65534).gid(65533).groups(&[7, 8])), sets(65534, 65533, &[65533, 7, 8]));
    let mut command = Command::new("sh");
    assert_eq!(ids(command.uid(65534).gid(65533)), sets(65534, 65533, &[65533]));
    let mut command = Command::new("sh");
    assert_eq!(ids(command.uid(65534).groups(&[7])), sets(65534, own, &[own, 7]));
    let mut command = Command::new("sh");
    assert_eq!(ids(command.uid(65534)), sets(65534, own, &[own]));
}

#[cfg(target_os = "linux")]
#[test]
fn identity_is_given_up_in_the_right_order() {
    root_needed();
    // Only root may enter this folder: the child enters the working directory before it becomes another user.
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).expect("ours alone");
    let status = |command: &mut Command| {
        let text = block_on(command.read()).expect("runs");
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("the field");
            line.split_once(':').expect("a value").1.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        (field("Uid"), field("Gid"), field("Groups"), field("CapEff"), field("CapPrm"))
    };
    let none = "0000000000000000".to_owned();
    let mut command = Command::new("cat");
    command.arg("/proc/self/status").current_dir(dir.path()).uid(65534).gid(65533);
    let four = |n: u32| [n.to_string(), n.to_string(), n.to_string(), n.to_string()].join(" ");
    assert_eq!(status(&mut command), (four(65534), four(65533), String::new(), none.clone(), none.clone()));
    command.groups(&[7, 8]);
    assert_eq!(status(&mut command), (four(65534), four(65533), "7 8".into(), none.clone(), none));
    // The child cannot become root again, and cannot enter the folder by its name.
    let path = dir.path().display();
    let mut back = sh(&format!("cd {path} 2>/dev/null && echo entered; test -r {path} && echo read; true"));
    assert_eq!(block_on(back.uid(65534).gid(65534).read()).expect("runs"), "");
}

#[test]
fn a_failed_step_runs_nothing() {
    root_needed();
    let dir = tempfile::tempdir().expect("a folder");
    let mark = dir.path().join("mark");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("for all");
    // For setuid(2) -1 means "unchanged". If such a child ran, it would be root.
    for set in [
        (|c: &mut Command| c.uid(u32::MAX)) as fn(&mut Command) -> &mut Command,
        |c| c.gid(u32::MAX),
        |c| c.gid(1).uid(u32::MAX),
    ] {
        let mut command = Command::new("touch");
        command.arg(&mark);
        set(&mut command);
        let error = block_on(command.run()).expect_err("impossible");
        assert!(matches!(error, Error::Spawn { reason: SpawnReason::User, .. }), "{error}");
        assert!(error.to_string().contains("cannot become the"), "{error}");
        assert!(!mark.exists());
    }
}

/// An ordinary user cannot become anyone else.
#[test]
fn without_privileges() {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        return again_as_ordinary_user("environment::without_privileges", "REAPED_TEST_USER", "1");
    }
    for set in
        [(|c: &mut Command| c.uid(0)) as fn(&mut Command) -> &mut Command, |c| c.gid(0), |c| c.groups(&[0])]
    {
        let mut command = Command::new("true");
        set(&mut command);
        let error = block_on(command.run()).expect_err("not permitted");
        assert!(matches!(error, Error::Spawn { reason: SpawnReason::User, .. }), "{error}");
    }
    let run = Command::new("true").uid(user.as_raw()).gid(group.as_raw()).run();
    block_on(run).expect("to be who one is, is permitted");
}

/// A child with a session of its own leads a group, and has no terminal.
#[test]
fn new_session() {
    let script = "kill -s 0 -- -$$ && if (: </dev/tty) 2>/dev/null; then echo terminal; else echo none; fi";
    assert_eq!(block_on(sh(script).new_session().read()).expect("a leader"), "none");
    // A session's leader always leads a group. If the caller asked for a group, signals go to all of it.
    let mut command =
        sh("trap 'echo told' TERM; sh -c 'trap \"echo too; exit\" TERM; echo up; sleep 100 & wait'; wait");
    let error = {
        let command = command.new_session().new_group().timeout(std::time::Duration::from_millis(500));
        block_on(command.output()).expect_err("slow")
    };
    let said = String::from_utf8_lossy(&error.output().expect("it ran").stdout).into_owned();
    assert!(said.contains("up\ntoo\n"), "{said}");
}

/// The soft and the hard limit. The last call for each resource counts. No limit takes away the descriptors
/// that the caller set.
#[test]
fn limits_are_the_childs_alone() {
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let mut command = sh("ulimit -Sn; ulimit -Hn; ulimit -Sc");
    command.rlimit(Resource::NOFILE, 1, 1).rlimit(Resource::CORE, 0, 0).rlimit(Resource::NOFILE, 20, 30);
    assert_eq!(block_on(command.read()).expect("runs"), "20\n30\n0");
    let mut command = helper(&["say:60:far"]);
    let output =
        block_on(command.rlimit(Resource::NOFILE, 20, 30).fd(60, Stdio::output()).output()).expect("runs");
    assert_eq!(output.fd(60), Some(&b"far\n"[..]));
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Nofile), before);
    let mut none = sh("ulimit -Sc");
    assert_eq!(block_on(none.rlimit(Resource::CORE, 0, u64::MAX).read()).expect("runs"), "0");

    for impossible in [
        (|c: &mut Command| c.rlimit(Resource::from_raw(9999), 1, 1)) as fn(&mut Command) -> &mut Command,
        |c| c.rlimit(Resource::CORE, 2, 1),
    ] {
        let mut command = Command::new("true");
        let error = block_on(impossible(&mut command).run()).expect_err("impossible");
        assert!(matches!(error, Error::Spawn { reason: SpawnReason::Limits, .. }), "{error}");
    }
}

/// If a user may not raise or lower a limit, the call fails and nothing runs.
#[test]
fn limits_of_an_ordinary_user() {
    if rustix::process::geteuid().is_root() {
        return again_as_ordinary_user("environment::limits_of_an_ordinary_user", "REAPED_TEST_USER", "1");
    }
    let lowered = || {
        let mut command = sh("exit 0");
        command.rlimit(Resource::NOFILE, 20, 20);
        command
    };
    block_on(lowered().run()).expect("to lower it is permitted");
    for (mut command, what) in [
        (Command::new("true").nice(-20).clone(), "cannot set the nice value"),
        (Command::new("true").rlimit(Resource::NOFILE, 1, 1 << 40).clone(), "cannot set RLIMIT_NOFILE"),
    ] {
        let error = block_on(command.run()).expect_err("not permitted");
        assert!(matches!(error, Error::Spawn { reason: SpawnReason::Limits, .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_nicer_child() {
    let own: i32 = block_on(Command::new("nice").read()).expect("runs").parse().expect("a number");
    for (more, expected) in [(0, own), (3, own + 3), (i32::MAX, 19)] {
        let said = block_on(Command::new("nice").nice(more).read()).expect("runs");
        assert_eq!(said.parse(), Ok(expected.min(19)), "{more} more than {own}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_new_privileges_in_the_child_alone() {
    let look = |command: &mut Command| {
        let status = block_on(command.arg("/proc/self/status").read()).expect("runs");
        status.lines().find_map(|line| line.strip_prefix("NoNewPrivs:")).expect("told").trim().to_owned()
    };
    let own = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
    assert_eq!(look(&mut Command::new("cat")), own.to_string());
    assert_eq!(look(Command::new("cat").no_new_privileges()), "1");
    assert_eq!(unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }, own);
}

/// A child that becomes another user changes nothing about the parent: setuid(2) makes the memory undumpable,
/// so the child has a copy. The error shows what execve(2) says about too many processes.
#[cfg(target_os = "linux")]
#[test]
fn another_user_leaves_the_parent_alone() {
    root_needed();
    alone("environment::another_user_leaves_the_parent_alone", || {
        let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) };
        assert_eq!(dumpable(), 1);
        for _ in 0..3 {
            let said = block_on(Command::new("id").arg("-u").uid(65534).gid(65533).groups(&[7]).read());
            assert_eq!(said.expect("runs"), "65534");
            let error = block_on(Command::new("/no/such/program").uid(65534).run()).expect_err("missing");
            assert!(matches!(error, Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }), "{error}");
        }
        assert_eq!(dumpable(), 1);
        let _another = Command::new("sleep").arg("1000").uid(65531).spawn().expect("starts");
        let mut crowded = Command::new("true");
        let error =
            block_on(crowded.uid(65531).rlimit(Resource::NPROC, 0, 0).run()).expect_err("one too many");
        assert!(matches!(error, Error::Spawn { reason: SpawnReason::OutOfProcesses, .. }), "{error}");
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
    });
}

/// A parent that has root as its real or saved id, but not as its effective one, passes none of it to the
/// child.
#[cfg(target_os = "linux")]
#[test]
fn no_root_id_is_left() {
    root_needed();
    alone("environment::no_root_id_is_left", || {
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setresgid(0, 65533, 0), 0);
            assert_eq!(libc::setresuid(0, 65534, 0), 0);
        }
        let said = block_on(Command::new("cat").arg("/proc/self/status").uid(65534).gid(65533).read())
            .expect("runs");
        for (name, id) in [("Uid:", "65534"), ("Gid:", "65533")] {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).expect("told");
            assert!(line.split_whitespace().all(|one| one == id), "{name}{line}");
        }
    });
}
