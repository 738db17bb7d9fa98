//! Shows the lines of a long-running command as they come, each with its stream, and then how it ended:
//! `cargo run --example build_log`, or with your own command, `cargo run --example build_log -- make all`.

use reaped::{Command, Error, Stdio};

/// The command if none is given.
const BUILD: &str = "
    echo 'compiling one.c'; sleep 0.2
    echo 'compiling two.c'; sleep 0.2
    echo 'two.c:7: warning: unused variable' >&2; sleep 0.2
    echo 'linking'; sleep 0.2
    printf 'done'
";

fn main() -> Result<(), Error> {
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.is_empty() {
        words = ["sh", "-c", BUILD].map(Into::into).to_vec();
    }
    if words[0].as_encoded_bytes().starts_with(b"-") {
        eprintln!("usage: build_log [program [argument...]]");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        let mut process = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).spawn()?;
        let mut lines = process.lines();
        while let Some(line) = lines.next().await {
            println!("{}| {}", if line.fd == 2 { "err" } else { "out" }, line.text);
        }
        let status = process.status().await?;
        println!("the build {} ({status})", if status.success() { "succeeded" } else { "failed" });
        Ok(())
    })
}
