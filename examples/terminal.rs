//! Runs a program without and with a terminal of its own, changes the terminal's size, and types a line and
//! Ctrl-C: `cargo run --example terminal`. Needs Unix.

#[cfg(not(unix))]
fn main() {
    eprintln!("needs Unix");
}

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("usage: terminal (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        unix::talk(false).await?;
        unix::talk(true).await
    })
}

#[cfg(unix)]
mod unix {
    use futures::AsyncWriteExt;
    use reaped::{Command, PtySize};

    const SCRIPT: &str = "exec 2>&1; tty; stty size; echo ready
        read -r go; stty size; echo asleep
        exec sleep 2";

    pub(super) async fn talk(in_terminal: bool) -> std::io::Result<()> {
        println!("{}", if in_terminal { "in a terminal:" } else { "through pipes:" });
        let mut sh = Command::new("sh");
        sh.args(["-c", SCRIPT]);
        if in_terminal {
            sh.pty(PtySize { rows: 24, columns: 80 });
        }
        let mut process = sh.spawn()?;
        let mut writer = process.writer(0).expect("a pipe or a terminal, not taken yet");
        loop {
            let Some(line) = process.lines().next().await else { break };
            println!("    {}", line.text);
            if line.text == "ready" {
                if in_terminal {
                    process.resize(PtySize { rows: 50, columns: 132 })?;
                }
                writer.write_all(b"go\n").await?;
            }
            if line.text == "asleep" {
                // Ctrl-C: a terminal turns it into SIGINT; in a pipe it is an ordinary byte.
                writer.write_all(b"\x03").await?;
            }
        }
        println!("    ended: {}", process.status().await?);
        Ok(())
    }
}
