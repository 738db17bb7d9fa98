//! Batch files, programs that only `PATHEXT` finds, and arguments that are not quoted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures::executor::block_on;
use reaped::{Command, Error, InvalidReason, SpawnReason};

use super::support::{alone, helper};
use super::windows_break::is_wine;

/// A folder with a batch file. By the helper it prints each of its first arguments in brackets, unchanged.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Folder { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text.replace('\n', "\r\n")).expect("written");
        path
    }

    /// The child's PATH: this folder before all others.
    fn search(&self) -> OsString {
        let path = std::env::var_os("PATH").expect("a path");
        let folders = [self.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
        std::env::join_paths(folders).expect("no quotes")
    }
}

fn says(what: &str) -> String {
    format!("@echo off\necho {what}\n")
}

fn read(command: &mut Command) -> String {
    block_on(command.read()).unwrap_or_else(|error| panic!("{command:?}: {error}")).trim().to_owned()
}

#[test]
fn a_batch_file_is_found_by_its_name_alone() {
    let folder = Folder::new();
    let batch = folder.file("reaped-batch.bat", &says("bat %1"));
    folder.file("reaped-both.bat", &says("bat"));
    folder.file("reaped-both.cmd", &says("cmd"));
    folder.file("reaped.dot.CMD", &says("dotted"));
    folder.file("reaped-script.vbs", "no program");
    let search = folder.search();
    let named = |name: &str| {
        let mut command = Command::new(name);
        command.env("PATH", &search);
        command
    };
    assert_eq!(read(named("reaped-batch").arg("x")), "bat x");
    assert_eq!(read(named("reaped-batch.bat").arg("x")), "bat x");
    assert_eq!(read(&mut named("reaped.dot")), "dotted");
    // `PATHEXT` gives the order: the child's, if the command sets one.
    assert_eq!(read(named("reaped-both").env("PATHEXT", ".EXE;.CMD;.BAT")), "cmd");
    assert_eq!(read(named("reaped-both").env("PathExt", ".bat;.cmd")), "bat");
    // By a path, absolute or relative to the child's folder.
    assert_eq!(read(Command::new(batch.with_extension("")).arg("x")), "bat x");
    assert_eq!(read(Command::new(".\\reaped-batch").arg("x").current_dir(folder.path())), "bat x");
    // A name without a path is not looked up in the working directory, and a file that is no program is not
    // started.
    let missing = [
        Command::new("reaped-batch").current_dir(folder.path()).clone(),
        named("reaped-script"),
        named("reaped-script").env("PATHEXT", ".VBS;.BAT").clone(),
        named("reaped-batch").env("PATHEXT", ".EXE").clone(),
    ];
    for mut command in missing {
        let error = block_on(command.run()).expect_err("there is none");
        assert_eq!(error.spawn_reason(), Some(SpawnReason::ProgramNotFound), "{command:?}: {error}");
    }
}

/// A program of the system, and an `.exe`, comes before every batch file of its name.
#[test]
fn an_exe_goes_before_a_batch_file() {
    let (first, second) = (Folder::new(), Folder::new());
    first.file("reaped-own.bat", &says("batch file"));
    first.file("hostname.bat", &says("batch file"));
    let exe = second.path().join("reaped-own.exe");
    std::fs::copy(std::env::current_exe().expect("this binary"), exe).expect("a copy");
    let mut both = first.path().as_os_str().to_owned();
    both.push(";");
    both.push(second.search());
    let mut own = Command::new("reaped-own");
    assert_eq!(read(own.env("PATH", &both).args(["--helper", "say:1:exe"])), "exe");
    let host = read(Command::new("hostname").env("PATH", &both));
    assert_ne!(host, "batch file");
}

/// The parent's PATH comes last, and hides no program of the system.
#[test]
fn a_batch_file_in_the_parents_path() {
    alone("windows_batch::a_batch_file_in_the_parents_path", || {
        let (parents, childs) = (Folder::new(), Folder::new());
        parents.file("hostname.bat", &says("parent's"));
        parents.file("reaped-batch.bat", &says("parent's"));
        parents.file("reaped-both.bat", &says("parent's"));
        childs.file("reaped-both.bat", &says("child's"));
        let before = std::env::var_os("PATH").expect("a path");
        // No other test runs in this process.
        unsafe { std::env::set_var("PATH", parents.search()) };
        assert_eq!(read(&mut Command::new("reaped-batch")), "parent's");
        assert_eq!(read(Command::new("reaped-batch").env_clear().env("PATH", &before)), "parent's");
        assert_eq!(read(Command::new("reaped-both").env("PATH", childs.path())), "child's");
        assert_ne!(read(&mut Command::new("hostname")), "parent's");
        // The parent's PATHEXT counts too, and an extension that it does not name is not found.
        unsafe { std::env::set_var("PATHEXT", ".EXE") };
        let error = block_on(Command::new("reaped-batch").run()).expect_err("there is none");
        assert_eq!(error.spawn_reason(), Some(SpawnReason::ProgramNotFound), "{error}");
    });
}

/// No argument becomes a command or a variable's value: the child gets it unchanged, or the call refuses it.
#[test]
fn arguments_of_a_batch_file_are_no_commands() {
    let folder = Folder::new();
    // A file that an argument would make if it got out of its quotes.
    let planted = folder.path().join("planted");
    let helper = std::env::current_exe().expect("this binary");
    let batch = folder.file("reaped-hostile.cmd", &format!("@\"{}\" --helper args %*\n", helper.display()));
    let search = folder.search();
    let plant = format!("echo x> {}", planted.display());
    let arguments = [
        "plain".to_owned(),
        String::new(),
        "two words".to_owned(),
        "\"&calc.exe".to_owned(),
        format!("\"&{plant}&\""),
        format!("&{plant}"),
        format!("|{plant}"),
        format!("\"|{plant}|\""),
        format!("\\\"&{plant}"),
        format!("\" & {plant} & rem \""),
        format!("^&{plant}"),
        "!REAPED_SECRET!".to_owned(),
        "a\\".to_owned(),
        "(x) ^ < > ,;=".to_owned(),
    ];
    let told = |argument: &str| {
        let mut command = Command::new("reaped-hostile");
        command.env("PATH", &search).env("REAPED_SECRET", "was expanded").args([argument, "last"]);
        let said = block_on(command.read_bytes());
        assert!(!planted.exists(), "{argument:?} was a command");
        String::from_utf8(said.unwrap_or_else(|error| panic!("{argument:?}: {error}"))).expect("text")
    };
    for argument in &arguments {
        assert_eq!(told(argument), format!("[{argument}]\n[last]\n"));
    }
    // Between two percent signs std puts something that `cmd` ignores, but Wine's `cmd` takes for the name.
    // So under Wine the variables are expanded, and the test shows only that this crate and std do the same.
    let expanded = [
        "%PATH%",
        "%REAPED_SECRET%",
        "100%",
        &format!("%PATH:~0,0%\"&{plant}"),
        &format!("%CMDCMDLINE:~-1%&{plant}"),
    ];
    for argument in expanded {
        let mut std = std::process::Command::new(&batch);
        std.env("PATH", &search).env("REAPED_SECRET", "was expanded").args([argument, "last"]);
        let std = String::from_utf8(std.output().expect("it starts").stdout).expect("text");
        assert_eq!(told(argument), std);
        assert!(is_wine() || std == format!("[{argument}]\n[last]\n"), "{std}");
    }
    for argument in [format!("x\n{plant}"), format!("\r\n{plant}"), "a\rb".to_owned(), "\n".to_owned()] {
        let mut command = Command::new("reaped-hostile");
        let error = block_on(command.env("PATH", &search).args(["first", &argument]).run());
        let Err(Error::Invalid { reason: InvalidReason::BatchArgument, details }) = error else {
            panic!("{argument:?}: {error:?}")
        };
        assert!(details.to_string().contains("argument 2 has a line end"), "{details}");
        assert!(!planted.exists(), "{argument:?} was a command");
    }
}

/// To any other program a line end is an ordinary character.
#[test]
fn a_line_end_is_an_argument_as_any() {
    assert_eq!(block_on(helper(&["say:1:a\nb\r\n"]).read()).expect("text"), "a\nb\r\n");
}

#[test]
fn a_raw_argument_is_not_quoted() {
    let mut command = helper(&[]);
    command.arg("say:1:a b").raw_arg("say:1:\"c d\" \"say:1:e\" f\"oo").raw_arg("bar\"");
    let error = block_on(command.read()).expect_err("the last step is none");
    assert_eq!(error.output().expect("it ran").stdout, b"a b\nc d\ne\n", "{error}");
    assert!(command.get_args().eq(["--helper", "say:1:a b", "say:1:\"c d\" \"say:1:e\" f\"oo", "bar\""]));
    assert_eq!(read(Command::new("cmd").arg("/c").raw_arg("echo \"a  b\"")), "\"a  b\"");
    let nul = block_on(Command::new("cmd").raw_arg("a\0b").run());
    assert!(matches!(nul, Err(Error::Invalid { reason: InvalidReason::Nul, .. })), "{nul:?}");
    // A copy of a command has its own.
    let mut copy = helper(&["say:1:x"]).clone();
    assert_eq!(read(copy.raw_arg("\"say:1:y z\"")), "x\ny z");
}
