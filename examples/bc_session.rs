//! Asks the calculator `bc` one question after another, each made from the answer before: `cargo run --example bc_session`.

use std::io;

use futures::AsyncWriteExt;
use reaped::{Command, Lines, Writer};

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("usage: bc_session (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        let mut bc = Command::new("bc").spawn()?;
        let mut writer = bc.writer(0).expect("a pipe, not taken yet");
        let mut lines = bc.lines();

        let seconds = ask(&mut writer, &mut lines, "60 * 60 * 24").await?;
        let year = ask(&mut writer, &mut lines, &format!("{seconds} * 365")).await?;
        let root = ask(&mut writer, &mut lines, &format!("scale = 3; sqrt({year})")).await?;
        ask(&mut writer, &mut lines, &format!("{root} > 5000")).await?;

        drop(writer); // end of file: `bc` ends
        println!("bc is done: {}", bc.status().await?);
        Ok(())
    })
}

/// Asks for one expression. The next line is the answer, also if `bc` complains.
async fn ask(writer: &mut Writer, lines: &mut Lines<'_>, expression: &str) -> io::Result<String> {
    writer.write_all(format!("{expression}\n").as_bytes()).await?;
    let line = lines.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
    println!("{expression} = {}", line.text);
    Ok(line.text)
}
