//! Whether secrets are left in the memory of this process. The test searches all of it while a secret is in
//! use, and afterwards.
//!
//! The tests must not leave copies of their own. A secret is made at run time, byte by byte, and is kept in
//! disguise. In memory it is readable only in the one vector that the crate gets.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker;
use reaped::gpg::{self, Decrypt, Error};
use reaped::{Command, Stdio};
use zeroize::Zeroize;

use super::gpg::Home;
use super::support::{SOON, alone, eventually, sh};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Turns a byte into its disguise, and back.
const DISGUISE: u8 = 0xa5;

/// Long enough not to come up by chance. Short enough for a freed block, whose head the allocator overwrites.
const PIECE: usize = 16;

/// A secret, in disguise.
struct Hidden(Vec<u8>);

impl Hidden {
    fn new(length: usize) -> Hidden {
        drop(search());
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("past 1970").as_nanos() as u64;
        let mut state = now ^ (u64::from(std::process::id()) << 40) | 1;
        let mut letter = || {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (b'a' + (state % 26) as u8) ^ DISGUISE
        };
        Hidden((0..length).map(|_| letter()).collect())
    }

    /// The secret in clear, in one block that the caller gives away.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.0.len());
        plain.extend(self.0.iter().map(|byte| byte ^ DISGUISE));
        plain
    }

    fn is(&self, bytes: &[u8]) -> bool {
        bytes.iter().map(|byte| byte ^ DISGUISE).eq(self.0.iter().copied())
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ DISGUISE).collect();
        let found = self.pieces().any(|piece| find(&bytes, piece).is_some());
        bytes.fill(0);
        found
    }

    /// Pieces of it, more from its beginning than from its end.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let last = self.0.len() - PIECE;
        let first = (0..16.min(last / PIECE)).map(|n| n * PIECE);
        let more = (8..40).map(|n| PIECE << n).take_while(move |place| *place < last);
        first.chain(more).chain([last]).map(|place| &self.0[place..place + PIECE])
    }

    /// The places in this process's memory that contain a piece of it.
    fn places(&self) -> Vec<String> {
        let mut places = Vec::new();
        let mut search = search();
        let Search { chunk, maps } = &mut *search;
        let memory = File::open("/proc/self/mem").expect("procfs");
        let own = chunk.as_ptr() as u64..chunk.as_ptr() as u64 + chunk.len() as u64;
        let mut list = File::open("/proc/self/maps").expect("procfs");
        let mut length = 0;
        while let count @ 1.. = list.read(&mut maps[length..]).expect("procfs") {
            length += count;
            assert!(length < maps.len(), "more mappings than there is room for");
        }
        for line in std::str::from_utf8(&maps[..length]).expect("UTF-8").lines() {
            let mut words = line.split_whitespace();
            let (range, mode) = (words.next().expect("a range"), words.next().expect("a mode"));
            let (start, end) = range.split_once('-').expect("a range");
            let number = |text| u64::from_str_radix(text, 16).expect("a number");
            let (mut at, end) = (number(start), number(end));
            if !mode.starts_with("rw") {
                continue;
            }
            while at < end {
                let size = chunk.len().min((end - at) as usize);
                // Some mapped memory cannot be read: a file may have become shorter.
                let Ok(count @ 1..) = memory.read_at(&mut chunk[..size], at) else { break };
                for (place, byte) in (at..).zip(&mut chunk[..count]) {
                    *byte = if own.contains(&place) { 0 } else { *byte ^ DISGUISE };
                }
                let found = self.pieces().filter_map(|piece| find(&chunk[..count], piece));
                places.extend(found.map(|place| format!("{:x} in {line}", at + place as u64)));
                // A piece may lie across the border.
                at +=
                    if count < PIECE || at + count as u64 == end { count } else { count - PIECE + 1 } as u64;
            }
        }
        chunk.fill(0);
        places
    }

    #[track_caller]
    fn is_there(&self) {
        assert!(!self.places().is_empty(), "it is not found while it is in use");
    }

    #[track_caller]
    fn is_nowhere(&self) {
        let places = self.places();
        assert!(places.is_empty(), "{} places: {places:#?}", places.len());
    }
}

/// The buffers of a search. They exist from the beginning, because a search that allocates would overwrite
/// the freed blocks.
struct Search {
    chunk: Vec<u8>,
    maps: Vec<u8>,
}

fn search() -> MutexGuard<'static, Search> {
    static SEARCH: OnceLock<Mutex<Search>> = OnceLock::new();
    let new = || Mutex::new(Search { chunk: vec![0; 1 << 20], maps: vec![0; 1 << 20] });
    SEARCH.get_or_init(new).lock().expect("no panic")
}

/// By the system's search, which is fast in a debug build too.
fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    let found = unsafe { libc::memmem(text.as_ptr().cast(), text.len(), piece.as_ptr().cast(), piece.len()) };
    (!found.is_null()).then(|| found.addr() - text.as_ptr().addr())
}

/// Reads the secret from descriptor 3 and prints its length.
fn length_of(secret: &Hidden) -> Command {
    let mut command = sh("wc -c <&3");
    command.fd(3, Stdio::secret(secret.plain()));
    command
}

#[test]
fn a_secret_is_wiped() {
    alone("secrets::a_secret_is_wiped", || {
        let secret = Hidden::new(64);
        secret.is_nowhere();
        // If a copy is not wiped, the search finds it.
        let mut copy = secret.plain();
        copy.truncate(40);
        secret.is_there();
        copy.zeroize();
        secret.is_nowhere();

        // The command keeps it, for its next run.
        let mut command = length_of(&secret);
        secret.is_there();
        for _ in 0..2 {
            assert_eq!(block_on(command.read()).expect("runs").trim(), "64");
            secret.is_there();
        }
        drop(command);
        secret.is_nowhere();

        // Only the run keeps it.
        let run = length_of(&secret).read();
        secret.is_there();
        assert_eq!(block_on(run).expect("runs").trim(), "64");
        secret.is_nowhere();

        // As events, while the process still exists.
        let mut process = length_of(&secret).spawn().expect("starts");
        secret.is_there();
        while block_on(process.next()).is_some() {}
        secret.is_nowhere();
    });
}

#[test]
fn a_secret_that_is_not_taken_is_wiped() {
    alone("secrets::a_secret_that_is_not_taken_is_wiped", || {
        // Never run; never started; refused.
        let secret = Hidden::new(64);
        drop(length_of(&secret));
        block_on(Command::new("no-such-program").fd(3, Stdio::secret(secret.plain())).run())
            .expect_err("missing");
        length_of(&secret).env("A=B", "").spawn().expect_err("no name of a variable");
        secret.is_nowhere();

        // More than a pipe holds, for a program that reads nothing. The run is dropped or killed, or the child
        // closes the pipe.
        let large = Hidden::new(1 << 20);
        let feed = |script: &str| {
            let mut command = sh(script);
            command.fd(3, Stdio::secret(large.plain()));
            command
        };
        let mut promise = feed("exec sleep 1000").output();
        large.is_there();
        assert!(Pin::new(&mut promise).poll(&mut Context::from_waker(&noop_waker())).is_pending());
        large.is_there();
        drop(promise);
        large.is_nowhere();
        let stopped = feed("exec sleep 1000").timeout(Duration::from_millis(50)).output();
        block_on(stopped).expect_err("too late");
        large.is_nowhere();
        block_on(feed("exec 3<&-; echo done").read()).expect("nothing has to be read");
        large.is_nowhere();
    });
}

/// gpg, with a secret as the passphrase.
fn gpg(home: &Path, args: &[&str], passphrase: &Hidden, input: Stdio) -> Vec<u8> {
    let mut command = Command::new("gpg");
    command.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase-fd", "3"]);
    command.args(["--trust-model", "always", "--s2k-count", "65536", "--no-symkey-cache", "--homedir"]);
    command.arg(home).args(args).fd(3, Stdio::secret(passphrase.plain())).stdin(input);
    block_on(command.read_bytes()).expect("gpg works")
}

/// The passphrase in any case, and the plaintext if the caller does not get it.
#[test]
fn decryption_leaves_nothing() {
    super::gpg::needed();
    alone("secrets::decryption_leaves_nothing", || {
        let home = Home::empty();
        let (passphrase, wrong) = (Hidden::new(64), Hidden::new(64));
        gpg(
            home.path(),
            &["--quick-gen-key", "eve@x", "future-default", "default", "never"],
            &passphrase,
            Stdio::null(),
        );
        // Long enough for the buffer to grow several times.
        let text = Hidden::new(200_000);
        let encrypt = |args: &[&str]| gpg(home.path(), args, &passphrase, Stdio::secret(text.plain()));
        let messages = [encrypt(&["-z", "0", "--symmetric"]), encrypt(&["-r", "eve@x", "--encrypt"])];
        let all_gone = || {
            passphrase.is_nowhere();
            wrong.is_nowhere();
            text.is_nowhere();
        };
        all_gone();
        let decrypt = |message: &[u8], passphrase: &Hidden| {
            let mut decrypt = Decrypt::new(message);
            decrypt.homedir(home.path()).passphrase(passphrase.plain());
            decrypt
        };
        for message in &messages {
            let run = decrypt(message, &passphrase).decrypt();
            passphrase.is_there();
            let mut open = block_on(run).expect("decrypted");
            passphrase.is_nowhere();
            assert!(text.is(&open.plaintext));
            text.is_there();
            open.plaintext.zeroize();
            all_gone();

            let error = block_on(decrypt(message, &wrong).decrypt()).expect_err("wrong");
            assert!(matches!(error, Error::WrongPassphrase(_)), "{error:?}");
            all_gone();

            let mut bad = message.clone();
            let place = bad.len() - 30;
            bad[place] ^= 1;
            let error = block_on(decrypt(&bad, &passphrase).decrypt()).expect_err("damaged");
            assert!(matches!(error, Error::Damaged(_)), "{error:?}");
            all_gone();

            let error =
                block_on(decrypt(message, &passphrase).limit(100_000).decrypt()).expect_err("too long");
            assert!(matches!(error, Error::Process { .. }), "{error:?}");
            all_gone();

            // Dropped after some of the plaintext has come.
            let mut run = decrypt(message, &passphrase).decrypt();
            while text.places().is_empty() {
                match Pin::new(&mut run).poll(&mut Context::from_waker(&noop_waker())) {
                    Poll::Pending => {}
                    Poll::Ready(result) => {
                        result.expect("decrypted").plaintext.zeroize();
                        break;
                    }
                }
            }
            drop(run);
            all_gone();
        }
        // The call in one line.
        unsafe { std::env::set_var("GNUPGHOME", home.path()) };
        let mut open = block_on(gpg::decrypt(&messages[0][..], passphrase.plain())).expect("decrypted");
        passphrase.is_nowhere();
        open.plaintext.zeroize();
        all_gone();
    });
}

/// A program in gpg's place that prints the passphrase: as a session key, in both of gpg's forms, and as
/// plaintext.
fn talkative(folder: &Path, end: &str) -> std::path::PathBuf {
    let path = folder.join("talkative-gpg");
    let script = "#!/bin/sh\nread -r p <&3\nprintf '[GNUPG:] SESSION_KEY 9:%s\\n' \"$p\" >&4\n\
                  printf \"gpg: session key: '9:%s'\\n\" \"$p\" >&2\nprintf %s \"$p\"\n";
    std::fs::write(&path, format!("{script}{end}\n")).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    path
}

#[test]
fn a_session_key_is_not_kept() {
    alone("secrets::a_session_key_is_not_kept", || {
        let folder = tempfile::tempdir().expect("a folder");
        let key = Hidden::new(64);
        let run = |end: &str, time: Duration| {
            let mut decrypt = Decrypt::new("x");
            decrypt.program(talkative(folder.path(), end)).passphrase(key.plain());
            block_on(decrypt.timeout(time).decrypt()).expect_err("no proof")
        };
        for end in ["exit 2", "exit 0", "printf '[GNUPG:] NODATA 1\\n' >&4; exit 2"] {
            let error = run(end, Duration::from_secs(60));
            key.is_nowhere();
            assert!(!format!("{error:?}").contains("SESSION_KEY"), "{error:?}");
            if let Error::Process { source, .. } = &error {
                let output = source.output().expect("it ran");
                let stars = format!("gpg: session key: '{}'\n", "*".repeat(66));
                assert_eq!(String::from_utf8_lossy(&output.stderr), stars);
                assert_eq!((&output.stdout[..], output.fd(4)), (&b""[..], None));
            }
        }
        // Cut off, and quoted from the middle of the key.
        for more in ["", "printf '%0220d' 0 >&2;", "printf '%0250d' 0 >&2;", "printf '%0280d' 0 >&2;"] {
            let mut time = SOON;
            loop {
                let error = run(&format!("{more} exec sleep 1000"), time);
                assert!(
                    matches!(error, Error::Process { source: reaped::Error::TimedOut(_), .. }),
                    "{error:?}"
                );
                let shown = format!("{error} {error:?}");
                assert!(!key.is_in(shown.as_bytes()), "not shown, for it is secret");
                if shown.contains("**") {
                    break;
                }
                // The run was stopped too early.
                assert!(time < Duration::from_secs(20), "it told nothing");
                time *= 4;
            }
        }
    });
}

/// A plaintext that is collected in several pieces, and several times. Nothing is left of any, however the
/// run ends.
#[test]
fn a_long_plaintext_leaves_nothing() {
    alone("secrets::a_long_plaintext_leaves_nothing", || {
        let folder = tempfile::tempdir().expect("a folder");
        let text = Hidden::new(5_000_000);
        let fine = "for line in BEGIN_DECRYPTION 'DECRYPTION_INFO 2 9 0' 'PLAINTEXT 62 0' DECRYPTION_OKAY GOODMDC \
                    END_DECRYPTION; do echo \"[GNUPG:] $line\" >&4; done";
        for end in ["exit 0", "exit 2", "exec sleep 1000"] {
            let path = folder.path().join("false-gpg");
            std::fs::write(&path, format!("#!/bin/sh\ncat <&3\n{fine}\n{end}\n")).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
            for dropped in [false, true] {
                let mut decrypt = Decrypt::new("x");
                decrypt.program(&path).passphrase(text.plain());
                let most = Duration::from_secs(if end.contains("sleep") { 2 } else { 600 });
                let mut run = decrypt.timeout(most).decrypt();
                drop(decrypt);
                if dropped {
                    // In the middle of it, or at any later step.
                    for _ in 0..40 {
                        match Pin::new(&mut run).poll(&mut Context::from_waker(&noop_waker())) {
                            Poll::Pending => {}
                            Poll::Ready(result) => {
                                let _ = result.map(|mut open| open.plaintext.zeroize());
                                break;
                            }
                        }
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    drop(run);
                } else {
                    match block_on(run) {
                        Ok(mut open) => {
                            assert!(end == "exit 0" && text.is(&open.plaintext));
                            text.is_there();
                            open.plaintext.zeroize();
                        }
                        Err(error) => assert!(end != "exit 0", "{error:?}"),
                    }
                }
                text.is_nowhere();
            }
        }
    });
}

/// The output is collected, and then nobody awaits it.
#[test]
fn a_dropped_decryption_wipes_what_it_has() {
    alone("secrets::a_dropped_decryption_wipes_what_it_has", || {
        let folder = tempfile::tempdir().expect("a folder");
        let text = Hidden::new(64);
        let mut decrypt = Decrypt::new("x");
        decrypt.program(talkative(folder.path(), "exec sleep 1000")).passphrase(text.plain());
        let mut run = decrypt.decrypt();
        drop(decrypt);
        let mut poll = || Pin::new(&mut run).poll(&mut Context::from_waker(&noop_waker())).is_pending();
        // The input was wiped after it was written. If a search finds the secret now, it came back from the
        // child.
        assert!(poll());
        eventually("it came back", || poll() && text.places().len() > 3);
        drop(run);
        text.is_nowhere();
    });
}
