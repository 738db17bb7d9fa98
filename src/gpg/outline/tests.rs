//! What is one AEAD message from outside, and what only looks like it.

use proptest::prelude::*;

use super::*;

/// A packet with a session key: tag, length, and what stands for a body.
const KEY: &[u8] = &[0xc3, 4, 4, 9, 0, 8];

/// The body of an AEAD packet of chunks of 64 bytes, with so many bytes after the nonce.
fn body(bytes: usize) -> Vec<u8> {
    [&[1, 9, 2, 0][..], &[7; 15], &vec![8; bytes]].concat()
}

fn packet(body: &[u8]) -> Vec<u8> {
    [&[0xd4, 0xff], &(body.len() as u32).to_be_bytes()[..], body].concat()
}

fn message(bytes: usize) -> Vec<u8> {
    [KEY, &packet(&body(bytes))].concat()
}

fn armour(message: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text: String = message
        .chunks(3)
        .flat_map(|three| {
            let value = (0..3).fold(0, |value, n| value << 8 | usize::from(*three.get(n).unwrap_or(&0)));
            (0..4).map(move |n| if n > three.len() { '=' } else { DIGITS[value >> (18 - 6 * n) & 63].into() })
        })
        .collect();
    (1..text.len().div_ceil(64)).rev().for_each(|line| text.insert(line * 64, '\n'));
    format!("-----BEGIN PGP MESSAGE-----\nVersion: 1\n\n{text}\n=AAAA\n-----END PGP MESSAGE-----\n")
}

fn outline(message: &[u8], piece: usize) -> Outline {
    let mut outline = Outline::default();
    let _ = message.chunks(piece).try_for_each(|piece| outline.push(piece));
    outline
}

fn is_aead(message: &[u8]) -> bool {
    outline(message, 50).is_aead()
}

#[test]
fn lengths_that_chunks_can_have() {
    for bytes in 0..400 {
        // Chunks of 64 bytes and their tags, and one more tag.
        let whole = bytes > 16 + 16 && (bytes - 16) % 80 != 0 && (bytes - 16) % 80 > 16;
        let full = bytes > 16 && (bytes - 16) % 80 == 0;
        assert_eq!(is_aead(&message(bytes)), whole || full, "{bytes}");
        assert_eq!(is_aead(armour(&message(bytes)).as_bytes()), whole || full, "{bytes}, armoured");
    }
}

#[test]
fn every_way_to_write_a_length() {
    let long = body(80 * 100 + 16);
    assert_eq!(long.len(), 8035);
    for written in [
        [&[0xd4, 0xff, 0, 0, 0x1f, 0x63][..], &long].concat(),
        [&[0xd4, 192 + ((8035 - 192) >> 8) as u8, ((8035 - 192) & 255) as u8][..], &long].concat(),
        [
            &[0xd4, 0xec][..],
            &long[..4096],
            &[0xeb],
            &long[4096..6144],
            &[0xe0],
            &long[6144..6145],
            &[0xff, 0, 0, 7, 98],
            &long[6145..],
        ]
        .concat(),
        [&[0xd4, 0xec][..], &long[..4096], &[0xff, 0, 0, 0x0f, 0x63], &long[4096..]].concat(),
    ] {
        assert!(is_aead(&[KEY, &written].concat()));
        // Old and new, of one, two and four bytes.
        for key in [&b"\x84\x01k"[..], b"\x8d\0\x01k", b"\x86\0\0\0\x01k", b"\xc1\0", b"\xc1\xff\0\0\0\x01k"]
        {
            assert!(is_aead(&[key, &written].concat()), "{key:?}");
        }
    }
}

#[test]
fn what_is_anything_else() {
    let good = message(96);
    assert!(is_aead(&good));
    for other in [
        // No session key; one without an end, and one in parts; cut off; and something more.
        packet(&body(96)),
        [b"\x87k", &good[..]].concat(),
        [b"\xc3\xe0kk", &good[..]].concat(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"\n"].concat(),
        [&good[..], &good].concat(),
        // Another packet before, within an MDC, and no packet.
        [b"\xca\x03PGP", &good[..]].concat(),
        [KEY, &[0xd2, 2, 1, 2]].concat(),
        b"text".to_vec(),
        Vec::new(),
        // Another version, algorithm and chunks that no number can hold.
        [KEY, &packet(&[&[2][..], &body(96)[1..]].concat())].concat(),
        [KEY, &packet(&[&[1, 9, 3][..], &body(96)[3..]].concat())].concat(),
        [KEY, &packet(&[&[1, 9, 2, 57][..], &body(96)[4..]].concat())].concat(),
    ] {
        assert!(!is_aead(&other), "{other:?}");
    }
}

#[test]
fn armour_by_the_book() {
    let good = armour(&message(114));
    let no_sum = good.replace("=AAAA\n", "");
    for text in [&good, &no_sum, &good.replace('\n', "\r\n"), good.trim_end(), &format!("\n{good}\n\n")] {
        assert!(is_aead(text.as_bytes()), "{text}");
    }
    for text in [
        good.replace("\n\n", "\n"),
        good.replace("=AAAA\n", "=AAAA\n=AAAA\n"),
        good.replace("=AAAA\n", "=AA\n"),
        good.replace("=AAAA\n", "AAAA\n=AAAA\n"),
        good.replace("-----END", "----END"),
        good.replace("MESSAGE", "SIGNATURE"),
        good.replace("Version: ", "Version"),
        good.replace("wwQE", "ww-E"),
        good.replace("wwQE", "ww E"),
        good.replace("wwQE", "=wQE"),
        good.replace("wwQE", "ww==E"),
        format!("Hello\n{good}"),
        format!("{good}Yours\n"),
        format!("{good}{good}"),
        good[..good.len() - 10].to_owned(),
        good.replace("Version: 1", &format!("Version: {}", "1".repeat(LONGEST))),
    ] {
        assert!(text != good && !is_aead(text.as_bytes()), "{text}");
    }
    // A line end first, and then what would be binary.
    let mut outline = Outline::default();
    assert!(outline.push(b"\n").is_continue());
    let _ = outline.push(&message(96));
    assert!(!outline.is_aead());
}

#[test]
fn how_it_begins() {
    for (message, encrypted) in [
        (&b"\xc1\x01\x06"[..], true),
        (b"\x8c\x0d\x04", true),
        (b"\xd2\x05", true),
        (b"\xff\xd8\xff\xe0", false),
        (b"\x89PNG", false),
        (b"text", false),
        (b"", false),
    ] {
        assert_eq!(outline(message, 50).begins_encrypted(), encrypted, "{message:?}");
    }
    assert!(outline(armour(b"\xc1\x01\x06").as_bytes(), 50).begins_encrypted());
    // No more of it is asked for than is needed.
    assert!(Outline::default().push(&[KEY, &[0xd2]].concat()).is_break());
}

proptest! {
    /// It does not matter how it comes.
    #[test]
    fn in_any_pieces(bytes in 0..200_usize, piece in 1..99_usize, armoured in any::<bool>(), flip in any::<Option<(u16, u8)>>()) {
        let mut message = message(bytes);
        if armoured {
            message = armour(&message).into_bytes();
        }
        if let Some((place, bit)) = flip {
            let place = usize::from(place) % message.len();
            message[place] ^= 1 << (bit % 8);
        }
        let (mut whole, mut pieces) = (outline(&message, message.len()), outline(&message, piece));
        prop_assert_eq!(whole.begins_encrypted(), pieces.begins_encrypted());
        prop_assert_eq!(whole.is_aead(), pieces.is_aead());
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!is_aead(&bytes));
    }
}
