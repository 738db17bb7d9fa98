//! Messages with an AEAD packet (OCB), which gpg 2.2 reads and does not write. The test makes them, and
//! changes them in every way. No matter what gpg says, no changed plaintext comes out.

use aes::Aes256;
use futures::stream::{self, StreamExt};
use ocb3::aead::generic_array::GenericArray;
use ocb3::aead::{Aead, KeyInit, Payload};
use ocb3::{Ocb3, consts::U15};
use reaped::gpg::{Decrypted, Error, Validity};
use sha2::{Digest, Sha256};

use super::{Home, SECRET, block_on};

const NONCE: [u8; 15] = *b"one nonce of 15";

/// A session key that is the hash of the passphrase (RFC 9580, 3.7.1.1: simple S2K), for AES256.
const KEY: [u8; 6] = [0xc3, 4, 4, 9, 0, 8];

/// A packet of the new kind (4.2.1).
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("not so long");
    let length = if length < 192 { vec![length as u8] } else { [&[255][..], &length.to_be_bytes()].concat() };
    [&[0xc0 | tag][..], &length, body].concat()
}

/// A packet in parts of 512 bytes.
fn in_parts(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut parts = body.chunks(512).peekable();
    let mut packet = vec![0xc0 | tag];
    while let Some(part) = parts.next() {
        match (parts.peek(), part.len()) {
            (Some(_), _) => packet.push(224 + 9),
            (None, length) => packet.extend([&[255][..], &(length as u32).to_be_bytes()].concat()),
        }
        packet.extend(part);
    }
    packet
}

/// Data (5.9).
fn literal(text: &[u8]) -> Vec<u8> {
    packet(11, &[b"b\0\0\0\0\0", text].concat())
}

/// Data to the end of all (4.2.2).
fn endless(text: &[u8]) -> Vec<u8> {
    [b"\xafb\0\0\0\0\0", text].concat()
}

/// A packet that is compressed by ZIP, without getting shorter (5.6; RFC 1951, 3.2.4), to the end of all.
fn compressed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).expect("one block").to_le_bytes();
    [&[0xa3, 1, 1], &length[..], &length.map(|byte| !byte), packet].concat()
}

/// The body of an AEAD packet (draft-ietf-openpgp-rfc4880bis-10, 5.16), in chunks of 2 to the power of 6 and so many bytes.
fn sealed(packets: &[u8], chunk: u8) -> Vec<u8> {
    let cipher = Ocb3::<Aes256, U15>::new(&Sha256::digest(SECRET));
    let head = [1, 9, 2, chunk];
    let seal = |index: u64, bytes: &[u8], more: &[u8]| {
        let mut nonce = NONCE;
        nonce[7..].iter_mut().zip(index.to_be_bytes()).for_each(|(byte, other)| *byte ^= other);
        let aad = [&[0xd4], &head[..], &index.to_be_bytes(), more].concat();
        cipher.encrypt(GenericArray::from_slice(&nonce), Payload { msg: bytes, aad: &aad }).expect("it fits")
    };
    let mut body = [&head[..], &NONCE].concat();
    let mut index = 0;
    for bytes in packets.chunks(1 << (6 + chunk)) {
        body.extend(seal(index, bytes, &[]));
        index += 1;
    }
    body.extend(seal(index, &[], &(packets.len() as u64).to_be_bytes()));
    body
}

fn message(packets: &[u8], chunk: u8) -> Vec<u8> {
    [&KEY, &packet(20, &sealed(packets, chunk))[..]].concat()
}

/// Decrypts all of them, a few at a time, and passes each result on.
fn open_all(home: &Home, messages: Vec<Vec<u8>>, mut each: impl FnMut(usize, Result<Decrypted, Error>)) {
    let runs = stream::iter(messages.into_iter().enumerate()).map(|(n, message)| {
        let run = home.decrypt(message).passphrase(SECRET).decrypt();
        async move { (n, run.await) }
    });
    block_on(runs.buffer_unordered(4).for_each(|(n, opened)| {
        each(n, opened);
        std::future::ready(())
    }));
}

/// The text in the three ways that a message can have it: unsigned; with a signature before it, as in PGP 2; with a
/// signature after it. The message announces the last before the text.
fn texts(home: &Home, text: &str) -> [Vec<u8>; 3] {
    let signature = home.gpg(&["-u", "bob@x", "--detach-sign"], text);
    let data = literal(text.as_bytes());
    [data.clone(), [signature, data].concat(), home.signed("bob@x", text)]
}

#[test]
fn whole_messages() {
    let home = Home::with_keys();
    let stranger = Home::empty();
    let text = "so much text that it takes more than one of the small chunks".repeat(10);
    let [plain, before, after] = texts(&home, &text);
    for chunk in [0, 1, 6, 16, 56] {
        for packets in [&plain, &before, &after, &compressed(&plain), &endless(text.as_bytes())] {
            let open = home.open(message(packets, chunk), SECRET).expect("decrypted");
            assert!(open.plaintext == text.as_bytes());
            let signed = packets == &before || packets == &after;
            assert_eq!(open.signatures.first().map(|s| s.validity), signed.then_some(Validity::Good));
        }
        let armoured = home.gpg(&["--enarmor"], message(&plain, chunk));
        let armoured = String::from_utf8(armoured).expect("ASCII").replace("ARMORED FILE", "MESSAGE");
        assert!(home.open(armoured, SECRET).expect("decrypted").plaintext == text.as_bytes());
        let in_parts = [&KEY, &in_parts(20, &sealed(&plain, chunk))[..]].concat();
        assert!(home.open(in_parts, SECRET).expect("decrypted").plaintext == text.as_bytes());
        // gpg's exit code shows a signature that it cannot check, or a wrong tag, and does not say which.
        for packets in [&before, &after] {
            let error = stranger.refusal(message(packets, chunk), SECRET);
            assert!(matches!(error, Error::Damaged(_)), "{error:?}");
            assert!(error.to_string().contains("without an MDC"), "{error}");
        }
    }
}

/// Each bit of the smallest message, and some bits of the others. They have no signature, or one before or
/// after the data; its key is known or unknown; the data has one chunk or many.
#[test]
fn one_bit_of_any_small_message() {
    let home = Home::with_keys();
    let stranger = Home::empty();
    let text = "attack at dawn";
    let [plain, before, after] = texts(&home, text);
    let mut kinds = vec![(&stranger, &plain, 0, 1)];
    for chunk in [0, 16] {
        kinds.extend([(&stranger, &before, chunk, 9), (&stranger, &after, chunk, 9)]);
        kinds.extend([(&home, &before, chunk, 17), (&home, &after, chunk, 17)]);
    }
    for (home, packets, chunk, step) in kinds {
        let whole = message(packets, chunk);
        // Any start between 0 and the step will do.
        let bits: Vec<usize> = (packets.len() % step..whole.len() * 8).step_by(step).collect();
        let flipped = bits.iter().map(|bit| {
            let mut message = whole.clone();
            message[bit / 8] ^= 1 << (bit % 8);
            message
        });
        let mut harmless = Vec::new();
        open_all(home, flipped.collect(), |n, opened| {
            if let Ok(open) = opened {
                assert_eq!(open.plaintext, text.as_bytes(), "bit {}", bits[n]);
                harmless.push(bits[n]);
            }
        });
        println!("{} bits, of which {harmless:?} are harmless", bits.len());
        // The packet of the session key names a cipher, but the other packet's cipher counts. If its key has
        // the same length, the message opens.
        assert!(harmless.iter().all(|bit| bit / 8 < KEY.len()), "{harmless:?}");
    }
}

/// One large chunk: gpg writes its beginning before it has checked a tag. gpg cannot check the signature, so
/// its exit code is never 0.
#[test]
fn one_bit_of_a_large_chunk() {
    let home = Home::with_keys();
    let stranger = Home::empty();
    let text = "The quick brown fox jumps over the lazy dog.\n".repeat(231);
    let [plain, before, _] = texts(&home, &text);
    for packets in [before, plain] {
        let whole = message(&packets, 10);
        let flipped = (40..whole.len()).step_by(307).map(|place| {
            let mut message = whole.clone();
            message[place] ^= 4;
            message
        });
        open_all(&stranger, flipped.collect(), |n, opened| {
            let error = opened.expect_err("tampered with");
            assert!(matches!(error, Error::Damaged(_) | Error::WrongPassphrase(_)), "{n}: {error:?}");
            assert!(!format!("{error:?}").contains("quick"), "{n}: {error:?}");
        });
    }
}

/// gpg 2.2 to 2.5 does not notice a packet that is too long or too short for its chunks. For the part that it
/// could not check it writes zeros or nothing. It still reports success, and exits with code 0.
#[test]
fn every_other_length() {
    let home = Home::with_keys();
    let (mut deceived, mut number) = (0, 0);
    for (size, chunk, packets) in [
        (20_000, 0, endless as fn(&[u8]) -> Vec<u8>),
        (19_956, 3, literal),
        (16_372, 6, literal),
        (20_000, 3, |text| compressed(&literal(text))),
    ] {
        let text: Vec<u8> = (0..size).map(|n: u32| b'a' + (n % 26) as u8).collect();
        let body = sealed(&packets(&text), chunk);
        assert!(home.open([&KEY, &packet(20, &body)[..]].concat(), SECRET).expect("whole").plaintext == text);
        let shorter = (1..100).step_by(7).map(|count| body[..body.len() - count].to_vec());
        let longer = (1..40).step_by(3).map(|count| [&body[..], &vec![b'A'; count]].concat());
        let bodies =
            shorter.chain(longer).chain([body[..body.len() - 48].to_vec(), body[..body.len() - 54].to_vec()]);
        let messages: Vec<Vec<u8>> = bodies
            .flat_map(|body| [packet(20, &body), in_parts(20, &body)])
            .map(|packet| [&KEY, &packet[..]].concat())
            .collect();
        number += messages.len();
        open_all(&home, messages, |n, opened| match opened {
            // Bytes after the last tag take nothing away.
            Ok(open) => assert!(open.plaintext == text, "{n} of {size} bytes"),
            Err(error) => {
                let said = |keyword| error.status().iter().any(|line| line.keyword() == keyword);
                deceived += usize::from(said("GOODMDC") && said("PLAINTEXT") && !said("DECRYPTION_FAILED"));
            }
        });
    }
    println!("of {number} wrong lengths, gpg says GOODMDC of {deceived}");
}

/// An encryption inside another one is not visible from outside.
#[test]
fn within_another_encryption() {
    let home = Home::with_keys();
    let inner = message(&literal(b"twice"), 0);
    for outer in [home.seal(inner.clone()), message(&inner, 6), message(&home.symmetric(&[], "twice"), 6)] {
        let error = home.refusal(outer, SECRET);
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
        assert!(error.to_string().contains("encrypted twice"), "{error}");
    }
}

/// gpg does not distinguish a wrong passphrase from a change in the first chunk.
#[test]
fn a_wrong_passphrase() {
    let home = Home::with_keys();
    for chunk in [0, 16] {
        let message = message(&literal(b"text"), chunk);
        let error = home.refusal(message.clone(), "wrong");
        assert!(matches!(error, Error::WrongPassphrase(_)), "{error:?}");
        assert!(
            error.to_string().starts_with("cannot decrypt: wrong passphrase, or the message is damaged"),
            "{error}"
        );
        let error = block_on(home.decrypt(message).decrypt()).expect_err("none");
        assert!(matches!(error, Error::PassphraseMissing(_)), "{error:?}");
    }
}
