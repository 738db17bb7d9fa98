//! A TCP server that answers each client with the output of a program, and serves others while a slow one runs.
//! Two clients in the same program show it: `cargo run --example fortune_server`.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use reaped::Command;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

const FORTUNES: [&str; 3] = [
    "Good news will come to you by pipe.",
    "A child that you have forgotten will be reaped.",
    "He who waits for one blocks nobody.",
];

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("usage: fortune_server (without arguments)");
        std::process::exit(2);
    }
    smol::block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        smol::spawn(serve(listener)).detach();

        // The first to connect gets the slow program.
        let first = TcpStream::connect(address).await?;
        let second = TcpStream::connect(address).await?;
        let (first, second) = futures::try_join!(client("first", first), client("second", second))?;
        println!("the second was answered before the first: {}", second < first);
        Ok(())
    })
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    for (number, fortune) in FORTUNES.iter().cycle().enumerate() {
        let (stream, _) = listener.accept().await?;
        // One program in two is slow. Each client has a task, and no task needs a thread.
        let seconds = if number % 2 == 0 { "1" } else { "0" };
        smol::spawn(answer(stream, seconds, fortune)).detach();
    }
    Ok(())
}

async fn answer(mut stream: TcpStream, seconds: &str, fortune: &str) -> io::Result<()> {
    let mut teller = Command::new("sh");
    teller.args(["-c", r#"sleep "$1"; echo "$2""#, "teller", seconds, fortune]);
    stream.write_all(&teller.read_bytes().await?).await
}

/// Reads the answer, and returns the time that it took.
async fn client(name: &str, mut stream: TcpStream) -> io::Result<Duration> {
    let (start, mut fortune) = (Instant::now(), String::new());
    stream.read_to_string(&mut fortune).await?;
    println!("the {name} client, after {:.2?}: {}", start.elapsed(), fortune.trim());
    Ok(start.elapsed())
}
