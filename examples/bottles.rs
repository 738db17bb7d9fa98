//! Writes ten verses to `wc -l` and prints every event, as Twisted's example of a
//! `ProcessProtocol` does: `cargo run --example bottles`.

use std::io;

use futures::AsyncWriteExt;
use reaped::{Command, Event};

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("usage: bottles (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        let mut process = Command::new("wc").arg("-l").spawn()?;
        println!("started: {process:?}");

        let mut writer = process.writer(0).expect("a pipe, not taken yet");
        for bottles in (90..100).rev() {
            writer.write_all(verse(bottles).as_bytes()).await?;
        }
        drop(writer); // `wc` waits for this end of file

        let mut count = String::new();
        while let Some(event) = process.next().await {
            match event {
                Event::Data { fd, data } => {
                    println!("data:    {} bytes from descriptor {fd}", data.len());
                    count.push_str(&String::from_utf8_lossy(&data));
                }
                Event::Closed { fd } => println!("closed:  descriptor {fd}"),
                Event::Exited(status) => println!("exited:  {status}"),
                Event::Ended(status) => println!("ended:   {status}, and every pipe is closed"),
                other => println!("other:   {other:?}"),
            }
        }
        println!("I saw {} lines", count.trim());
        Ok(())
    })
}

fn verse(bottles: u32) -> String {
    format!(
        "{bottles} bottles of beer on the wall,\n{bottles} bottles of beer!\n\
         Take one down, pass it around,\n{} bottles of beer on the wall.\n",
        bottles - 1
    )
}
