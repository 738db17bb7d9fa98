//! Each reason for having no plaintext, made with the real gpg.

use std::io;

use reaped::gpg::{Decrypt, Error, Validity};

use super::{Home, PASSPHRASE, SECRET, block_on};

#[test]
fn wrong_passphrases() {
    let home = Home::with_keys();
    for (message, right) in [(home.symmetric(&[], "x"), SECRET), (home.public(&[], "x"), PASSPHRASE)] {
        for wrong in ["wrong", "", "pässword ünd mor", &format!("{right} "), &right.to_uppercase()] {
            let error = home.refusal(message.clone(), wrong);
            assert!(matches!(error, Error::WrongPassphrase(_)), "{wrong:?}: {error:?}");
            assert!(!error.status().is_empty());
        }
        // The passphrase goes to gpg unchanged. If gpg would cut something off, the call refuses it.
        for cut in [format!("{right}\n"), format!("{right}\0"), format!("{right}\nmore"), "\n".into()] {
            let error = home.refusal(message.clone(), &cut);
            assert!(matches!(error, Error::InvalidPassphrase(_)), "{error:?}");
            assert!(!format!("{error} {error:?}").contains(right));
        }
        let error = block_on(home.decrypt(message.clone()).decrypt()).expect_err("no passphrase");
        assert!(matches!(error, Error::PassphraseMissing(_)), "{error:?}");
        assert!(home.open(message, right).is_ok());
    }
    let error = home.refusal(home.public(&[], "x"), &"x".repeat(300));
    assert!(matches!(error, Error::InvalidPassphrase(_)), "{error:?}");
    assert!(matches!(home.refusal(home.symmetric(&[], "x"), &"x".repeat(300)), Error::WrongPassphrase(_)));
}

#[test]
fn no_secret_key() {
    let home = Home::with_keys();
    let stranger = Home::empty();
    for args in [&[][..], &["--throw-keyids"]] {
        let message = home.public(args, "not for you");
        let error = stranger.refusal(message.clone(), PASSPHRASE);
        assert!(matches!(error, Error::NoSecretKey(_)), "{error:?}");
        assert!(error.to_string().starts_with("cannot decrypt: no secret key for it"), "{error}");
        let error = block_on(stranger.decrypt(message).decrypt()).expect_err("no key");
        assert!(matches!(error, Error::NoSecretKey(_)), "{error:?}");
    }
}

#[test]
fn input_that_is_not_encrypted() {
    let home = Home::with_keys();
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect();
    for message in [
        Vec::new(),
        b"\n".to_vec(),
        b"just text, as people write it\n".to_vec(),
        noise,
        home.signed("bob@x", "signed"),
        home.gpg(&["-u", "bob@x", "--clearsign"], "signed"),
        home.gpg(&["--store"], "stored"),
        home.gpg(&["--export", "bob@x"], ""),
    ] {
        let result = home.open(message.clone(), SECRET);
        assert!(
            matches!(result, Err(Error::NotEncrypted(_))),
            "{:?}: {result:?}",
            message.escape_ascii().to_string()
        );
    }
}

#[test]
fn cut_off() {
    let home = Home::with_keys();
    let text: Vec<u8> = (0..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (message, passphrase) in [
        (home.symmetric(&["-z", "0"], text.clone()), SECRET),
        (home.symmetric(&[], text.clone()), SECRET),
        (home.public(&[], text.clone()), PASSPHRASE),
        (home.public(&["-u", "bob@x", "--sign"], text.clone()), PASSPHRASE),
    ] {
        let near = (0..message.len().min(130)).chain(message.len() - 40..message.len());
        let mut damaged = 0;
        for length in near.chain((0..message.len()).step_by(197)) {
            let error = home.refusal(&message[..length], passphrase);
            damaged += usize::from(matches!(error, Error::Damaged(_)));
            check_error(&error, &text);
        }
        assert!(damaged > 50, "only {damaged} of them are called damaged");
    }
    // Armour may lose its last line, but no part of its content.
    let message = home.symmetric(&["--armor"], text.clone());
    for length in (0..message.len()).step_by(41).chain(message.len() - 60..message.len()) {
        match home.open(&message[..length], SECRET) {
            Ok(decrypted) => assert!(decrypted.plaintext == text && length > message.len() - 40, "{length}"),
            Err(error) => check_error(&error, &text),
        }
    }
}

/// The message is one line, without any of the text.
pub fn check_error(error: &Error, text: &[u8]) {
    let shown = format!("{error}");
    assert!(!shown.is_empty() && !shown.contains(char::is_control), "{shown:?}");
    if let Error::Process { source, .. } = error {
        let output = source.output().expect("it ran");
        assert_eq!(output.stdout, b"", "{error:?}");
        assert!(
            text.len() < 100 || !output.stderr.windows(16).any(|part| text.windows(16).any(|t| t == part))
        );
    }
}

#[test]
fn one_bit_flipped() {
    let home = Home::with_keys();
    let text =
        "the text, long enough to have flips of its own in it, and shorter than the patience of a tester";
    for (message, passphrase) in [
        (home.symmetric(&["-z", "0"], text), SECRET),
        (home.symmetric(&[], text), SECRET),
        (home.public(&["-z", "0"], text), PASSPHRASE),
        (home.public(&["-u", "bob@x", "--sign"], text), PASSPHRASE),
    ] {
        let (mut harmless, mut last) = (0, 0);
        for place in 0..message.len() {
            let mut flipped = message.clone();
            flipped[place] ^= 1 << (place % 8);
            match home.open(flipped, passphrase) {
                // Some bits of a message's head mean nothing: the bits of a number's length, for example.
                Ok(decrypted) => {
                    assert_eq!(decrypted.plaintext, text.as_bytes(), "at {place}");
                    (harmless, last) = (harmless + 1, place);
                }
                Err(error) => check_error(&error, text.as_bytes()),
            }
        }
        assert!(harmless < 12 && (harmless == 0 || last < message.len() - text.len()), "{harmless}, {last}");
    }
}

#[test]
fn good_signatures() {
    let home = Home::with_keys();
    let message = home.seal(home.signed("bob@x", "signed"));
    let open = block_on(home.decrypt(message.clone()).passphrase(SECRET).require_signature(true).decrypt());
    let open = open.expect("signed");
    assert_eq!(open.plaintext, b"signed");
    let [signature] = &open.signatures[..] else { panic!("{open:?}") };
    assert_eq!((signature.validity, signature.user_id.as_deref()), (Validity::Good, Some("bob@x")));
    let fingerprint = signature.primary_fingerprint.as_deref().expect("valid");
    assert!(fingerprint.len() == 40 && fingerprint.ends_with(&signature.key_id), "{signature:?}");
    assert_eq!(home.open(message, SECRET).expect("signed").signatures, open.signatures);
    // Signed by two keys.
    let both = home.gpg(&["--passphrase", PASSPHRASE, "-u", "bob@x", "-u", "alice@x", "--sign"], "by both");
    let open = block_on(home.decrypt(home.seal(both)).passphrase(SECRET).require_signature(true).decrypt());
    assert_eq!(open.expect("signed").signatures.len(), 2);
}

#[test]
fn missing_signatures() {
    let home = Home::with_keys();
    let stranger = Home::empty();
    let unknown = home.seal(home.signed("bob@x", "by a stranger"));
    let past = Home::empty();
    let long_ago = ["--faked-system-time", "20200101T000000"];
    past.make_key("victor@x", "", &long_ago);
    let expired = past.gpg(&[&long_ago[..], &["-z", "0", "-u", "victor@x", "--sign"]].concat(), "of old");
    let reader = Home::empty();
    reader.gpg(&["--import"], past.gpg(&["--export"], ""));
    // gpg writes the revocation along with the key, with a colon in front so that nobody uses it by mistake.
    let author = Home::empty();
    author.make_key("rose@x", "", &[]);
    let revoked = reader.seal(author.signed("rose@x", "revoked since"));
    let mut revocations = author.path().join("openpgp-revocs.d").read_dir().expect("made with the key");
    let revocation = std::fs::read_to_string(revocations.next().expect("one").expect("readable").path());
    reader.gpg(&["--import"], author.gpg(&["--export"], ""));
    // The other calls' trust model has no trustdb, and this call writes one.
    reader.gpg(
        &["--trust-model", "pgp", "--import"],
        revocation.expect("text").replace(":-----BEGIN", "-----BEGIN"),
    );
    for (home, message, validity) in [
        (&stranger, unknown, Some(Validity::Unchecked)),
        (&reader, reader.seal(expired), Some(Validity::KeyExpired)),
        (&reader, revoked, Some(Validity::KeyRevoked)),
        (&home, home.symmetric(&[], "not signed"), None),
    ] {
        let open = home.open(message.clone(), SECRET).expect("not required");
        assert_eq!(open.signatures.first().map(|s| s.validity), validity);
        let mut decrypt = home.decrypt(message);
        let error =
            block_on(decrypt.passphrase(SECRET).require_signature(true).decrypt()).expect_err("required");
        assert!(matches!(error, Error::SignatureMissing(_)), "{error:?}");
        assert!(error.status().iter().any(|line| line.keyword() == "GOODMDC"));
    }
}

#[test]
fn bad_signatures() {
    let home = Home::with_keys();
    let mut changed = home.signed("bob@x", "pay 100 to carol");
    let place = changed.windows(3).position(|part| part == b"100").expect("not compressed");
    changed[place] = b'9';
    // The encryption itself is intact.
    let message = home.seal(changed);
    for require in [false, true] {
        let mut decrypt = home.decrypt(message.clone());
        let error =
            block_on(decrypt.passphrase(SECRET).require_signature(require).decrypt()).expect_err("bad");
        assert!(matches!(error, Error::BadSignature(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("carol"));
    }
    // A key that the user distrusts is as bad.
    let message = home.seal(home.signed("bob@x", "x"));
    let open = home.open(message.clone(), SECRET).expect("signed");
    let fingerprint = open.signatures[0].primary_fingerprint.as_deref().expect("valid");
    home.gpg(&["--import-ownertrust"], format!("{fingerprint}:3:\n"));
    std::fs::write(home.path().join("gpg.conf"), "trust-model direct\n").expect("written");
    let error = home.refusal(message, SECRET);
    assert!(matches!(error, Error::BadSignature(_)), "{error:?}");
}

/// gpg also writes the data that stands beside the encryption, which anybody can put there.
#[test]
fn plaintext_beside_the_encryption() {
    let home = Home::with_keys();
    let (inside, outside) = (home.symmetric(&[], "inside"), home.gpg(&["-z", "0", "--store"], "outside"));
    // A packet that means nothing, for an encryption without a plaintext.
    let empty = home.seal(*b"\xca\x03PGP");
    for parts in [
        [&inside, &outside],
        [&outside, &inside],
        [&empty, &outside],
        [&outside, &empty],
        [&inside, &inside],
        [&inside, &empty],
        [&empty, &empty],
    ] {
        let error = home.refusal(parts.map(|part| &part[..]).concat(), SECRET);
        assert!(matches!(error, Error::Damaged(_) | Error::NotEncrypted(_)), "{error:?}");
    }
    assert!(matches!(home.refusal(empty, SECRET), Error::Damaged(_)));
    let twice = home.seal(inside);
    assert_eq!(home.open(twice, SECRET).expect("two layers").plaintext, b"inside");
}

#[test]
fn kinds_of_io_errors() {
    let home = Home::with_keys();
    let message = home.symmetric(&[], "x");
    let kind = |error: Error| io::Error::from(error).kind();
    assert_eq!(kind(home.refusal(message.clone(), "wrong")), io::ErrorKind::PermissionDenied);
    assert_eq!(kind(home.refusal(message.clone(), "a\nb")), io::ErrorKind::InvalidInput);
    assert_eq!(kind(home.refusal("text", "")), io::ErrorKind::InvalidData);
    let inner = io::Error::from(home.refusal(message, "wrong")).into_inner().expect("kept");
    assert!(!inner.downcast::<Error>().expect("ours").status().is_empty());
}

/// The exact text, as a person would see it.
#[test]
fn messages() {
    let home = Home::with_keys();
    let text = |message: &[u8], passphrase: &str| home.refusal(message, passphrase).to_string();
    let symmetric = home.symmetric(&[], "x");
    assert_eq!(text(&symmetric, "wrong"), "cannot decrypt: wrong passphrase");
    let to_key = text(&home.public(&[], "x"), "wrong");
    assert!(to_key.starts_with("cannot decrypt: wrong passphrase for the secret key "), "{to_key}");
    assert_eq!(text(b"text", "x"), "cannot decrypt: the input is not an encrypted OpenPGP message");
    let signed = home.signed("bob@x", "x");
    assert_eq!(
        text(&signed, "x"),
        "cannot decrypt: the input is an OpenPGP message, but not an encrypted one"
    );
    let mut decrypt = home.decrypt(symmetric.clone());
    let unsigned =
        block_on(decrypt.passphrase(SECRET).require_signature(true).decrypt()).expect_err("unsigned");
    assert_eq!(unsigned.to_string(), "cannot decrypt: the message is not signed");
    let mut bad = home.symmetric(&["-z", "0"], "x");
    *bad.last_mut().expect("some") ^= 1;
    assert_eq!(text(&bad, SECRET), "cannot decrypt: the message is damaged: its integrity check failed");
    let elsewhere = block_on(Decrypt::new(symmetric).homedir("/no/such/home").passphrase(SECRET).decrypt());
    let elsewhere = elsewhere.expect_err("no home").to_string();
    assert!(elsewhere.contains("exited with code 2: ") && elsewhere.contains("/no/such/home"), "{elsewhere}");
}
