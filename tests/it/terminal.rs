//! A terminal for the child.

use futures::FutureExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use reaped::{Command, Error, Event, InvalidReason, Process, PtySize, Stdio};

use super::support::{alone, descriptors, eventually, everywhere, no_children, sh, warm_up};

/// Reads until the output contains the text.
async fn until(process: &mut Process, said: &mut String, text: &str) {
    while !said.contains(text) {
        match process.next().await {
            Some(Event::Data { fd: 1, data }) => said.push_str(&String::from_utf8_lossy(&data)),
            other => panic!("{other:?} before {text:?}, after {said:?}"),
        }
    }
}

#[test]
fn all_three_are_one_terminal() {
    everywhere(|| async {
        // proc(5): the eighth field is the terminal's foreground group.
        let script = "test -t 0 && test -t 1 && test -t 2 && echo yes; stty size; tty </dev/tty >/dev/null && echo own; \
                      set -- $(cat /proc/$$/stat); test $8 = $$ && echo foreground; echo err >&2";
        let said = sh(script).pty(PtySize { rows: 50, columns: 132 }).read().await.expect("runs");
        assert_eq!(said, "yes\r\n50 132\r\nown\r\nforeground\r\nerr");
    });
}

#[test]
fn ctrl_c_reaches_the_foreground() {
    everywhere(|| async {
        let script = "trap 'echo caught' INT; echo ready; sleep 1000; echo over";
        let mut process = sh(script).pty(PtySize::default()).spawn().expect("starts");
        let mut writer = process.writer(0).expect("a terminal");
        let mut said = String::new();
        until(&mut process, &mut said, "ready").await;
        // The shell prints it before it has started `sleep`. Ctrl-C ends only processes that exist.
        let pid = process.pid().expect("runs");
        eventually("sleep runs", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let name = |child: &str| std::fs::read_to_string(format!("/proc/{child}/comm"));
            children.is_ok_and(|children| name(children.trim()).is_ok_and(|name| name == "sleep\n"))
        });
        writer.write_all(b"\x03").await.expect("typed");
        until(&mut process, &mut said, "over").await;
        assert!(said.contains("^C") && said.contains("caught"), "{said:?}");
        assert!(process.status().await.expect("a status").success());
    });
}

#[test]
fn a_new_size_reaches_the_child() {
    everywhere(|| async {
        let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
        let mut process = sh(script).pty(PtySize::default()).spawn().expect("starts");
        let mut said = String::new();
        until(&mut process, &mut said, "ready").await;
        process.resize(PtySize { rows: 7, columns: 9 }).expect("open");
        until(&mut process, &mut said, "7 9").await;
        let mut process = sh("exit").pty(PtySize::default()).spawn().expect("starts");
        while process.next().await.is_some() {}
        let error = process.resize(PtySize::default()).expect_err("gone");
        assert!(matches!(error, Error::AlreadyEnded(_)));
        let mut process = Command::new("cat").fd(3, Stdio::output()).spawn().expect("starts");
        let error = process.resize(PtySize::default()).expect_err("pipes");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::Conflict, .. }));
        // Taking its ends out changes nothing about the terminal.
        let mut command = Command::new("cat");
        let mut process = command.pty(PtySize::default()).fd(3, Stdio::output()).spawn().expect("starts");
        let _reader = process.reader(1).expect("a terminal");
        drop(process.writer(0));
        process.resize(PtySize::default()).expect("open");
    });
}

/// EIO at the end of a terminal is its end of file. Closing the writer gives the child an end of file.
#[test]
fn the_end_of_a_terminal() {
    everywhere(|| async {
        let mut cat = Command::new("cat").pty(PtySize::default()).spawn().expect("starts");
        let mut writer = cat.writer(0).expect("a terminal");
        writer.write_all(b"one\n").await.expect("typed");
        let mut said = String::new();
        until(&mut cat, &mut said, "one\r\none\r\n").await;
        // Also in the middle of a line.
        writer.write_all(b"two").await.expect("typed");
        writer.close().await.expect("closes");
        let mut ends = Vec::new();
        while let Some(event) = cat.next().await {
            match event {
                Event::Data { data, .. } => said.push_str(&String::from_utf8_lossy(&data)),
                Event::Closed { fd } => ends.push(fd),
                Event::Ended(status) => assert!(status.success()),
                _ => {}
            }
        }
        assert_eq!((said.as_str(), &ends[..]), ("one\r\none\r\ntwotwo", &[1][..]));

        // A verb types nothing: the child reads end of file at once.
        assert_eq!(Command::new("cat").pty(PtySize::default()).read().await.expect("runs"), "");
        // The end wakes the writer.
        let mut process = sh("sleep 0.05").pty(PtySize::default()).spawn().expect("starts");
        let mut writer = process.writer(0).expect("a terminal");
        while process.next().await.is_some() {}
        let error = writer.write_all(b"x").await.expect_err("hung up");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    });
}

/// A full terminal takes no end of file: it is typed once there is room.
#[test]
fn an_end_of_file_waits_for_room() {
    everywhere(|| async {
        for kind in ["whole lines", "within a line"] {
            let mut command = sh("stty -echo; echo ready; read go <&3; exec wc -c");
            let mut process = command.pty(PtySize::default()).fd(3, Stdio::input()).spawn().expect("starts");
            until(&mut process, &mut String::new(), "ready").await;
            let (mut writer, mut go) = (process.writer(0).expect("typed"), process.writer(3).expect("piped"));
            // Until it is full.
            let line = [b'x'; 50];
            let line = if kind == "whole lines" { &[&line[..49], b"\n"].concat() } else { &line[..] };
            let mut typed = 0;
            while let Some(count) = writer.write(line).now_or_never() {
                typed += count.expect("it reads");
                assert!(typed < 1 << 20, "it is never full");
            }
            drop(writer);
            // By now the end of file is due.
            assert!(process.next().now_or_never().is_none());
            go.write_all(b"go\n").await.expect("it reads");
            let output = process.output().await.expect("it ends");
            assert!(output.status.success());
            let counted: usize = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
            // The terminal discards what exceeds the longest line: 4,096 bytes, termios(3).
            let most = if kind == "whole lines" { typed } else { typed.min(4096) };
            assert!(counted <= typed && counted + 50 >= most, "{kind}: {counted} of {typed}");
        }
    });
}

/// As in ssh, sudo and login: the terminal is closed, and opened again later. If no process has it open for a
/// moment, that is not its end.
#[test]
fn a_terminal_that_is_opened_again() {
    everywhere(|| async {
        // The first one reads nothing, and may end before anything can be typed.
        for (script, typed) in [
            ("exec </dev/null >/dev/null 2>&1; sleep 0.1; echo back >/dev/tty", ""),
            (
                "exec </dev/null >/dev/null 2>&1; sleep 0.1; read line </dev/tty; echo $line >/dev/tty",
                "back\n",
            ),
        ] {
            let mut process = sh(script).pty(PtySize::default()).spawn().expect("starts");
            let mut writer = process.writer(0).expect("typed");
            writer.write_all(typed.as_bytes()).await.expect("open");
            let mut said = String::new();
            let mut reader = process.reader(1).expect("shown");
            reader.read_to_string(&mut said).await.expect("text");
            assert!(said.ends_with("back\r\n"), "{said:?}");
            process.status().await.expect("a status");
        }
    });
}

/// A child that keeps running after `detach` keeps its terminal: it gets no SIGHUP.
#[test]
fn a_detached_child_keeps_its_terminal() {
    let marks = tempfile::tempdir().expect("a folder");
    let mark = marks.path().join("mark");
    let mut command = sh(&format!("echo ready; sleep 0.2; echo on; touch {}", mark.display()));
    command.pty(PtySize::default());
    command.output().detach().expect("it runs");
    eventually("it runs to its end", || mark.exists());

    std::fs::remove_file(&mark).expect("it is there");
    let mut process = command.kill_on_drop(false).spawn().expect("starts");
    futures::executor::block_on(until(&mut process, &mut String::new(), "ready"));
    drop(process);
    eventually("it runs to its end", || mark.exists());
}

#[test]
fn a_dropped_terminal_hangs_up() {
    alone("terminal::a_dropped_terminal_hangs_up", || {
        warm_up();
        let before = descriptors();
        let marks = tempfile::tempdir().expect("a folder");
        let mark = marks.path().join("hup");
        futures::executor::block_on(async {
            let script = format!(
                "trap 'touch {}; exit' HUP; echo ready; while :; do sleep 0.01; done",
                mark.display()
            );
            let mut process = sh(&script).pty(PtySize::default()).spawn().expect("starts");
            until(&mut process, &mut String::new(), "ready").await;
            process.close_all();
            process.status().await.expect("a status");
        });
        assert!(mark.exists());
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

#[test]
fn more_descriptors_beside_the_terminal() {
    everywhere(|| async {
        let mut command = sh("cat <&3 >&4; echo shown");
        command.pty(PtySize::default()).fd(3, Stdio::bytes("in")).fd(4, Stdio::output());
        let output = command.output().await.expect("runs");
        assert_eq!((&output.stdout[..], output.fd(4)), (&b"shown\r\n"[..], Some(&b"in"[..])));
    });
}

#[test]
fn a_terminal_and_another_stdin_contradict() {
    let mut command = Command::new("true");
    command.pty(PtySize::default()).stdin(Stdio::null());
    let error = command.spawn().expect_err("two settings");
    assert!(matches!(error, Error::Invalid { reason: InvalidReason::Conflict, .. }));
    assert_eq!(
        error.to_string(),
        "invalid command `true`: descriptor 0 was set, and with pty it is the terminal"
    );
}
