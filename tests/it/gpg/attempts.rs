//! A message with more than one way to the session key. Some ways fail, and the error says what happened if
//! all do.

use reaped::gpg::{Error, Validity};

use super::refusals::check_error;
use super::{Home, PASSPHRASE, SECRET, block_on};

const OTHER: &str = "of another key";

/// Encrypts a text that an unknown key has signed, so gpg's exit code is always 2.
fn of_a_stranger(home: &Home, recipients: &[&str]) -> Vec<u8> {
    let author = Home::empty();
    author.make_key("rose@x", "", &[]);
    let signed = author.signed("rose@x", "by a stranger");
    home.gpg(&[recipients, &["--no-literal", "-z", "0", "--encrypt"]].concat(), signed)
}

/// gpg reports that one way to the session key fails, and then opens the message, with an MDC, in another
/// way.
#[test]
fn the_first_of_two_ways_fails() {
    let home = Home::with_keys();
    home.make_key("carol@x", OTHER, &[]);
    let with_passphrase = ["-r", "carol@x", "--passphrase", SECRET, "--symmetric"];
    for (recipients, passphrases) in [
        (&["-r", "carol@x", "-r", "alice@x"][..], [OTHER, PASSPHRASE]),
        (&["-r", "alice@x", "-r", "carol@x"], [OTHER, PASSPHRASE]),
        (&with_passphrase, [OTHER, SECRET]),
    ] {
        let message = of_a_stranger(&home, recipients);
        for passphrase in passphrases {
            let open = home.open(message.clone(), passphrase).expect("opened");
            assert_eq!(open.plaintext, b"by a stranger");
            assert_eq!(open.signatures[0].validity, Validity::Unchecked);
        }
        let error = home.refusal(message.clone(), "wrong");
        assert!(matches!(error, Error::WrongPassphrase(_)), "{error:?}");
        // The proof does not depend on the signer.
        let mut changed = message;
        *changed.last_mut().expect("some") ^= 1;
        let error = home.refusal(changed, passphrases[1]);
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }
}

/// gpg tries each key for a recipient without a name. If one does not fit, only its exit code shows it.
#[test]
fn a_hidden_recipient_with_the_second_key() {
    let home = Home::with_keys();
    home.make_key("ben@x", "", &[]);
    for name in ["bob@x", "ben@x", "alice@x"] {
        let message = home.gpg(&["-R", name, "--encrypt"], "to somebody");
        assert_eq!(
            home.open(message.clone(), PASSPHRASE).expect("opened").plaintext,
            b"to somebody",
            "{name}"
        );
        let mut changed = message;
        *changed.last_mut().expect("some") ^= 1;
        let error = home.refusal(changed, PASSPHRASE);
        assert!(matches!(error, Error::Damaged(_)), "{name}: {error:?}");
    }
}

/// gpg does not say whether a key was there. The error says no more than that, and names no key of zeros.
#[test]
fn a_hidden_recipient_and_a_wrong_passphrase() {
    let home = Home::with_keys();
    let message = home.gpg(&["-R", "alice@x", "--encrypt"], "to somebody");
    let error = home.refusal(message.clone(), "wrong");
    assert!(matches!(error, Error::NoSecretKey(_)), "{error:?}");
    let text = error.to_string();
    let expected = "cannot decrypt: no secret key for it, or a wrong passphrase: a recipient is hidden";
    assert!(text.starts_with(expected), "{text}");
    check_error(&error, b"");
    let error = block_on(home.decrypt(message).decrypt()).expect_err("no passphrase").to_string();
    assert!(error.contains("no secret key for it, or one that needs a passphrase"), "{error}");
    for text in [text, error] {
        assert!(!text.split(": gpg: ").next().expect("ours").contains("00000000"), "{text}");
    }
    // Beside a recipient with a name.
    let error = Home::empty().refusal(home.gpg(&["-r", "bob@x", "-R", "alice@x", "--encrypt"], "x"), "");
    assert!(matches!(error, Error::NoSecretKey(_)), "{error:?}");
    assert!(error.to_string().contains("a recipient is hidden: gpg: "), "{error}");
}

/// gpg reports that there is no key, and gives the reason only in its text for people.
#[test]
fn an_agent_that_cannot_be_reached() {
    let home = Home::with_keys();
    let message = home.public(&[], "to a key");
    let gone = Home::with_keys();
    std::fs::write(gone.path().join("gpg.conf"), "no-autostart\n").expect("written");
    let error = gone.refusal(message, PASSPHRASE);
    assert!(matches!(error, Error::NoSecretKey(_)), "{error:?}");
    let said = String::from_utf8_lossy(error.stderr()).into_owned();
    assert!(said.contains("gpg-agent"), "{said}");
    assert!(error.to_string().contains("gpg-agent"), "{error}");
    assert!(format!("{error:?}").contains("gpg-agent"), "{error:?}");
    // The key's owner appears only in the full report.
    assert!(said.contains("alice@x") && !error.to_string().contains("alice@x"), "{error}");
    check_error(&error, b"");
}

/// For every reason, the error has the end of gpg's stderr.
#[test]
fn the_end_of_stderr_is_in_every_error() {
    let home = Home::with_keys();
    let mut damaged = home.symmetric(&["-z", "0"], "x");
    *damaged.last_mut().expect("some") ^= 1;
    let stranger = Home::empty();
    for (error, kind) in [
        (home.refusal(home.symmetric(&[], "x"), "wrong"), "WrongPassphrase"),
        (block_on(home.decrypt(home.symmetric(&[], "x")).decrypt()).expect_err("none"), "PassphraseMissing"),
        (stranger.refusal(home.public(&[], "x"), ""), "NoSecretKey"),
        (home.refusal(damaged, SECRET), "Damaged"),
        (home.refusal("text", SECRET), "NotEncrypted"),
        (home.refusal(b"\xc1\x15\x06012345678901234567890", SECRET), "Process"),
    ] {
        assert!(format!("{error:?}").starts_with(kind), "{kind}: {error:?}");
        let said = error.stderr();
        assert!(said.starts_with(b"gpg: ") && said.ends_with(b"\n"), "{kind}: {error:?}");
    }
    let mut decrypt = home.decrypt(home.symmetric(&[], "x"));
    let error = block_on(decrypt.passphrase(SECRET).require_signature(true).decrypt()).expect_err("unsigned");
    assert!(matches!(error, Error::SignatureMissing(_)) && !error.stderr().is_empty(), "{error:?}");
}

/// If data begins like an encrypted message, the error does not call it anything else.
#[test]
fn a_session_key_of_an_unknown_version() {
    let home = Home::with_keys();
    let message = home.symmetric(&[], "x");
    for unknown in [&b"\xc1\x15\x0601234567890123456789"[..], b"\xc3\x15\x0901234567890123456789"] {
        let armoured = String::from_utf8(home.gpg(&["--enarmor"], unknown)).expect("ASCII");
        for message in [
            unknown.to_vec(),
            [unknown, &message[..]].concat(),
            armoured.replace("ARMORED FILE", "MESSAGE").into_bytes(),
        ] {
            let error = home.refusal(message, SECRET);
            assert!(matches!(error, Error::Process { .. }), "{error:?}");
            assert!(error.to_string().contains("unknown version"), "{error}");
        }
    }
    // After a packet that gpg knows, the data counts as cut off.
    let key = usize::from(message[1]) + 2;
    let message = [&message[..key], b"\xc1\x15\x0601234567890123456789", &message[key..]].concat();
    let error = home.refusal(message, SECRET);
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    assert!(
        error.to_string().ends_with("or has a session key of a version that gpg does not know"),
        "{error}"
    );
    // A photograph.
    let error = home.refusal([&b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], &[1; 200]].concat(), SECRET);
    assert!(matches!(error, Error::NotEncrypted(_)), "{error:?}");
}

/// Sound messages that are refused, because gpg's exit code is not 0. No status line gives the reason, or it is not
/// about the message. The error has gpg's words.
#[test]
fn what_remains_refused() {
    let home = Home::with_keys();
    let text = "as sound as it can be";
    let binary = home.symmetric(&[], text);
    let armoured = String::from_utf8(home.symmetric(&["--armor"], text)).expect("ASCII");
    let (head, sum) = armoured.rsplit_once("\n=").expect("a checksum");
    let wrong_sum = format!("{head}\n={}{}", if sum.starts_with('A') { 'B' } else { 'A' }, &sum[1..]);
    for (message, why) in [
        (armoured.replacen("\n\n", "\n", 1).into_bytes(), "no blank line"),
        (wrong_sum.into_bytes(), "a wrong checksum"),
        ([&binary[..], b"\n"].concat(), "a byte more"),
        ([&binary[..], b"Yours, Alice\n"].concat(), "a text more"),
    ] {
        let error = home.refusal(message, SECRET);
        assert!(matches!(error, Error::Process { source: reaped::Error::Failed(_), .. }), "{why}: {error:?}");
        assert!(error.to_string().contains("exited with code 2: gpg: "), "{why}: {error}");
        check_error(&error, text.as_bytes());
    }
    for message in [armoured.clone(), format!("Hello,\n{armoured}"), format!("{armoured}Yours, Alice\n")] {
        assert_eq!(home.open(message, SECRET).expect("opened").plaintext, text.as_bytes());
    }
}
