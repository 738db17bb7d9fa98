//! Sends lines to a worker and reads its answers at the same time, so that neither blocks on a full pipe. The worker is
//! this program again: `cargo run --example word_counter`.

use std::io::{self, BufRead};

use futures::AsyncWriteExt;
use reaped::Command;

const POEM: [&str; 4] = [
    "Mary had a little lamb,",
    "its fleece was white as snow,",
    "and everywhere that Mary went",
    "the lamb was sure to go.",
];
/// So many that no pipe holds all lines, or all answers.
const TIMES: usize = 25_000;

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => futures::executor::block_on(parent()),
        Some("worker") => worker(),
        Some(_) => {
            eprintln!("usage: word_counter (without arguments)");
            std::process::exit(2);
        }
    }
}

async fn parent() -> io::Result<()> {
    let mut process = Command::new(std::env::current_exe()?).arg("worker").spawn()?;
    let mut writer = process.writer(0).expect("a pipe, not taken yet");

    let send = async move {
        for line in POEM.iter().cycle().take(TIMES * POEM.len()) {
            writer.write_all(format!("{line}\n").as_bytes()).await?;
        }
        Ok(()) // the writer is dropped here: the worker's end of file
    };
    let receive = async {
        let (mut answers, mut words) = (0, 0);
        let mut lines = process.lines();
        while let Some(answer) = lines.next().await {
            if let Some(line) = POEM.get(answers) {
                println!("{} words: {line}", answer.text);
            }
            answers += 1;
            words += answer.text.parse::<usize>().map_err(io::Error::other)?;
        }
        println!("{answers} lines in all, {words} words");
        io::Result::Ok(())
    };
    futures::try_join!(send, receive)?;
    println!("the worker ended: {}", process.status().await?);
    Ok(())
}

/// The child prints the number of words of each line. It uses nothing of this crate.
fn worker() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        println!("{}", line?.split_whitespace().count());
    }
    Ok(())
}
