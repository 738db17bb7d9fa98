//! The verdict on what gpg 2.2 and 2.4 write, and on what they never should.

use proptest::prelude::*;

use super::super::status::parse;
use super::*;

/// What gpg 2.2 wrote for a message that was encrypted with a passphrase.
const SYMMETRIC: &str = "NEED_PASSPHRASE_SYM 9 3 2
BEGIN_DECRYPTION
DECRYPTION_INFO 2 9 0
PLAINTEXT 62 1795256239 m
PLAINTEXT_LENGTH 6
DECRYPTION_OKAY
GOODMDC
END_DECRYPTION";

const KEY: &str = "A66678F9E8429D8AD58D339CFA418B7EA2047C27";

/// A message with these lines where gpg checks signatures.
fn signed(lines: &str) -> String {
    SYMMETRIC.replace("DECRYPTION_OKAY", &format!("NEWSIG\n{lines}\nDECRYPTION_OKAY"))
}

fn good() -> String {
    format!("GOODSIG FA418B7EA2047C27 T%C3%9F <t@x>\nVALIDSIG {KEY} 2026-11-21 1 0 4 0 1 10 00 {KEY}")
}

const UNKNOWN: &str = "ERRSIG A7ACE7AA08849361 22 8 00 1 9 -\nNO_PUBKEY A7ACE7AA08849361";

fn full(lines: &str, exit: Option<i32>, given: bool, require: bool) -> Result<Vec<Signature>, Refusal> {
    let text: String = lines.lines().map(|line| format!("[GNUPG:] {line}\n")).collect();
    let status = parse(text.as_bytes());
    judge(&Facts {
        status: &status,
        exit,
        plaintext: 6,
        is_aead: true,
        begins_encrypted: false,
        passphrase_given: given,
        require_signature: require,
    })
}

fn verdict(lines: &str, exit: i32) -> Result<Vec<Signature>, Cause> {
    full(lines, Some(exit), true, false).map_err(|refusal| refusal.cause)
}

fn required(lines: &str, exit: i32) -> Result<Vec<Signature>, Cause> {
    full(lines, Some(exit), true, true).map_err(|refusal| refusal.cause)
}

#[test]
fn a_sound_message() {
    assert_eq!(verdict(SYMMETRIC, 0), Ok(Vec::new()));
    assert_eq!(required(SYMMETRIC, 0), Err(Cause::SignatureMissing));
    // Text, whose line ends may be converted; and gpg need not know the length.
    assert_eq!(
        verdict(&SYMMETRIC.replace("PLAINTEXT 62", "PLAINTEXT 74").replace("H 6", "H 7"), 0),
        Ok(vec![])
    );
    assert_eq!(verdict(&SYMMETRIC.replace("PLAINTEXT_LENGTH 6\n", ""), 0), Ok(vec![]));
    // gpg 2.4 with AEAD says GOODMDC too; others need not.
    let aead = SYMMETRIC.replace("INFO 2 9 0", "INFO 0 9 2");
    assert_eq!(verdict(&aead, 0), Ok(vec![]));
    assert_eq!(verdict(&aead.replace("GOODMDC\n", ""), 0), Ok(vec![]));
    assert_eq!(verdict(&SYMMETRIC.replace("GOODMDC\n", ""), 0), Err(Cause::Damaged));
    // Found with the fuzz target: the second counted, though it was not about this encryption.
    let informed_twice =
        aead.replace("GOODMDC\n", "").replace("INFO 0 9 2", "INFO 2 9 0\nDECRYPTION_INFO 0 9 2");
    assert_eq!(verdict(&informed_twice, 0), Err(Cause::Damaged));
    // A message to two, of whom we are one.
    let two = format!("ENC_TO AA 1 0\nNO_SECKEY AA\nENC_TO BB 1 0\n{SYMMETRIC}");
    assert_eq!(verdict(&two, 0), Ok(vec![]));
}

#[test]
fn encrypted_twice() {
    let outer = "BEGIN_DECRYPTION\nDECRYPTION_INFO 2 9 0";
    let end = "DECRYPTION_OKAY\nGOODMDC\nEND_DECRYPTION";
    assert_eq!(verdict(&format!("{outer}\n{SYMMETRIC}\n{end}"), 0), Ok(vec![]));
    assert_eq!(verdict(&format!("{outer}\n{SYMMETRIC}\nEND_DECRYPTION"), 0), Err(Cause::Damaged));
    assert_eq!(verdict(&format!("{outer}\n{SYMMETRIC}"), 0), Err(Cause::Damaged));
    assert_eq!(verdict(&format!("{SYMMETRIC}\n{outer}\n{end}"), 0), Err(Cause::Damaged));
}

#[test]
fn plaintext_elsewhere() {
    let empty = SYMMETRIC.replace("PLAINTEXT 62 1795256239 m\nPLAINTEXT_LENGTH 6\n", "");
    for lines in [
        empty.clone(),
        format!("PLAINTEXT 62 0 m\n{empty}"),
        format!("{empty}\nPLAINTEXT 62 0 m"),
        format!("PLAINTEXT 62 0 m\n{SYMMETRIC}"),
        format!("{SYMMETRIC}\nPLAINTEXT 62 0 m"),
        SYMMETRIC.replace("PLAINTEXT 62", "PLAINTEXT 62 0 a\nPLAINTEXT 62"),
        SYMMETRIC.replace("GOODMDC", "GOODMDC\nPLAINTEXT 62 0 m").replace("PLAINTEXT 62 1795256239 m\n", ""),
        SYMMETRIC.replace("LENGTH 6", "LENGTH 5"),
        // Found with the fuzz target: the last of two was taken, and what was no number was as good as none.
        SYMMETRIC.replace("LENGTH 6", "LENGTH 5\nPLAINTEXT_LENGTH 6"),
        SYMMETRIC.replace("LENGTH 6", "LENGTH six"),
    ] {
        assert_eq!(verdict(&lines, 0), Err(Cause::Damaged), "{lines}");
    }
    let beside =
        SYMMETRIC.replace("DECRYPTION_OKAY", "ERROR proc_pkt.plaintext 89_BAD_DATA\nDECRYPTION_OKAY");
    assert_eq!(verdict(&beside, 2), Err(Cause::Damaged));
    assert_eq!(verdict("PLAINTEXT 62 0 m\nPLAINTEXT_LENGTH 6", 0), Err(Cause::NotEncrypted));
}

#[test]
fn signatures() {
    let signatures = required(&signed(&good()), 0).expect("valid");
    assert_eq!(
        signatures,
        [Signature {
            validity: Validity::Good,
            key_id: "FA418B7EA2047C27".into(),
            fingerprint: Some(KEY.into()),
            primary_fingerprint: Some(KEY.into()),
            user_id: Some("Tß <t@x>".into()),
        }]
    );
    assert_eq!(verdict(&signed(UNKNOWN), 2).expect("fine")[0].validity, Validity::Unchecked);
    assert_eq!(required(&signed(UNKNOWN), 2), Err(Cause::SignatureMissing));
    assert_eq!(required(&signed(UNKNOWN), 0), Err(Cause::SignatureMissing));
    // One is enough; one bad spoils it.
    assert_eq!(required(&signed(&format!("{}\nNEWSIG\n{UNKNOWN}", good())), 2).map(|s| s.len()), Ok(2));
    assert_eq!(required(&signed(&format!("{UNKNOWN}\nNEWSIG\n{}", good())), 2).map(|s| s.len()), Ok(2));
    let bad = "BADSIG FA418B7EA2047C27 T";
    for lines in [bad.to_owned(), format!("{}\nNEWSIG\n{bad}", good()), format!("{bad}\n{}", good())] {
        for exit in [0, 1, 2] {
            assert_eq!(verdict(&signed(&lines), exit), Err(Cause::BadSignature));
            assert_eq!(required(&signed(&lines), exit), Err(Cause::BadSignature));
        }
    }
    assert_eq!(verdict(&format!("{SYMMETRIC}\n{bad}"), 1), Err(Cause::BadSignature));
    // In batch mode gpg ends there.
    let cut = "BEGIN_DECRYPTION\nDECRYPTION_INFO 2 9 0\nPLAINTEXT 62 0 m\nNEWSIG\nBADSIG FA T\nFAILURE gpg-exit 33554433";
    assert_eq!(verdict(cut, 1), Err(Cause::BadSignature));
    assert_eq!(
        verdict(&cut.replace("BADSIG FA T", "GOODSIG FA T\nTRUST_NEVER 0 pgp"), 1),
        Err(Cause::BadSignature)
    );
    assert_eq!(verdict(&signed(&format!("{}\nTRUST_NEVER 0 pgp", good())), 0), Err(Cause::BadSignature));
}

#[test]
fn signatures_that_do_not_count() {
    for word in ["EXPSIG", "EXPKEYSIG", "REVKEYSIG"] {
        let lines = signed(&good().replace("GOODSIG", word));
        let found = verdict(&lines, 0).expect("not required");
        assert_eq!(found[0].fingerprint.as_deref(), Some(KEY));
        assert_eq!(required(&lines, 0), Err(Cause::SignatureMissing), "{word}");
    }
    for lines in [
        signed("GOODSIG FA418B7EA2047C27 T"),
        // Found with the fuzz target: every fingerprint ends with no name at all.
        signed(&good().replace("GOODSIG FA418B7EA2047C27", "GOODSIG")),
        signed(&good().replace("GOODSIG FA418B7EA2047C27 T", "GOODSIG 7 T")),
        signed(&good().replace("10 00", "10 10")),
        signed(&good().replace("10 00", "10 02")),
        signed(&good().replace("GOODSIG FA", "GOODSIG FB")),
        signed(&good().replace(" 2026-11-21 1 0 4 0 1 10 00", "")),
        signed(good().lines().nth(1).expect("VALIDSIG")),
        format!("NEWSIG\n{}\n{SYMMETRIC}", good()),
        format!("{SYMMETRIC}\nNEWSIG\n{}", good()),
        signed(&format!("{UNKNOWN}\n{}", good().lines().nth(1).expect("VALIDSIG"))),
    ] {
        assert_eq!(required(&lines, 0), Err(Cause::SignatureMissing), "{lines}");
        assert!(verdict(&lines, 0).is_ok(), "{lines}");
    }
}

#[test]
fn exit_codes() {
    for exit in [1, 2, 3, 127, -1] {
        assert_eq!(verdict(SYMMETRIC, exit), Err(Cause::Unexplained), "{exit}");
        assert_eq!(verdict(&signed(&good()), exit), Err(Cause::Unexplained), "{exit}");
        assert_eq!(verdict(&signed(UNKNOWN), exit).is_ok(), matches!(exit, 1 | 2), "{exit}");
    }
    assert_eq!(
        verdict(&format!("{}\nFAILURE gpg-exit 33554433", signed(UNKNOWN)), 2).map(|s| s.len()),
        Ok(1)
    );
    for complaint in ["ERROR x 1", "FAILURE decrypt 1", "FAILURE", "UNEXPECTED 0", "NODATA 3", "BADARMOR"] {
        assert_eq!(verdict(&format!("{}\n{complaint}", signed(UNKNOWN)), 2), Err(Cause::Unexplained));
    }
    let killed = full(SYMMETRIC, None, true, false).expect_err("killed");
    assert_eq!(killed.cause, Cause::Unexplained);
}

#[test]
fn reasons() {
    let failed = "BEGIN_DECRYPTION\nDECRYPTION_FAILED\nEND_DECRYPTION";
    let cause = |lines: &str| verdict(lines, 2).expect_err("failed");
    let key =
        |code: &str| cause(&format!("ENC_TO B58E4D76CED32E33 1 0\nERROR pkdecrypt_failed {code}\n{failed}"));
    assert_eq!(key("67108875"), Cause::WrongPassphrase);
    assert_eq!(key("11_BAD_PASSPHRASE"), Cause::WrongPassphrase);
    assert_eq!(key("67109041"), Cause::WrongPassphrase);
    assert_eq!(key("67109137"), Cause::InvalidPassphrase);
    assert_eq!(key("33554450"), Cause::Damaged);
    assert_eq!(key("67108941"), Cause::Unexplained, "no agent");
    assert_eq!(key("nonsense"), Cause::Damaged);
    assert_eq!(key("99999999999999999999"), Cause::Damaged);
    assert_eq!(
        cause(&format!("NEED_PASSPHRASE_SYM 9 3 2\nMISSING_PASSPHRASE\n{failed}")),
        Cause::WrongPassphrase
    );
    assert_eq!(
        cause(&format!("ERROR symkey_decrypt.maybe_error 11_BAD_PASSPHRASE\n{failed}")),
        Cause::WrongPassphrase
    );
    assert_eq!(
        cause(&format!("ENC_TO B58E4D76CED32E33 1 0\nNO_SECKEY B58E4D76CED32E33\n{failed}")),
        Cause::NoSecretKey
    );
    // One key is not there, and the other does not open.
    assert_eq!(
        cause(&format!("NO_SECKEY AA\nERROR pkdecrypt_failed 67108875\n{failed}")),
        Cause::WrongPassphrase
    );
    assert_eq!(
        cause(&SYMMETRIC.replace("DECRYPTION_OKAY\nGOODMDC", "BADMDC\nDECRYPTION_FAILED")),
        Cause::Damaged
    );
    assert_eq!(cause("NEED_PASSPHRASE_SYM 9 3 2\nBEGIN_DECRYPTION"), Cause::Damaged);
    assert_eq!(cause("NODATA 1\nNODATA 2\nFAILURE decrypt 4294967295"), Cause::NotEncrypted);
    assert_eq!(cause("UNEXPECTED 0\nFAILURE decrypt 38"), Cause::NotEncrypted);
    assert_eq!(cause(""), Cause::Unexplained);
    assert_eq!(verdict("", 0), Err(Cause::Unexplained));
    assert_eq!(verdict("NODATA 3", 0), Err(Cause::NotEncrypted));
    // Nobody gave a passphrase, and nobody may be asked.
    for code in ["67108949", "67108963", "67109041"] {
        let lines = format!("ENC_TO B58E4D76CED32E33 1 0\nERROR pkdecrypt_failed {code}\n{failed}");
        assert_eq!(full(&lines, Some(2), false, false).expect_err("none").cause, Cause::PassphraseMissing);
    }
    let lines = format!("NEED_PASSPHRASE_SYM 9 3 2\nERROR get_passphrase 85\nCANCELED_BY_USER\n{failed}");
    assert_eq!(full(&lines, Some(2), false, false).expect_err("none").cause, Cause::PassphraseMissing);
}

#[test]
fn texts_are_one_plain_line() {
    let evil = "GOODSIG \u{1b}[2J\u{7}FA T\u{1b}[2J";
    for lines in [
        signed(evil),
        signed(&evil.replace("GOODSIG", "BADSIG")),
        "NO_SECKEY \u{1b}\nDECRYPTION_FAILED".into(),
    ] {
        let text = full(&lines, Some(0), true, true).expect_err("refused").text;
        assert!(!text.contains(char::is_control) && !text.is_empty(), "{text:?}");
    }
}

/// A report in which nothing is missing or doubled that must be there once.
fn sound(lines: &[&str]) -> bool {
    let place = |word: &str| {
        let mut found = (0..lines.len()).filter(|n| lines[*n].split(' ').next() == Some(word));
        found.next().filter(|_| found.next().is_none())
    };
    let places = ["BEGIN_DECRYPTION", "PLAINTEXT", "DECRYPTION_OKAY", "END_DECRYPTION"].map(place);
    let mdc = place("GOODMDC").is_some_and(|mdc| places[0] < Some(mdc) && Some(mdc) < places[3]);
    places.iter().all(Option::is_some) && places.is_sorted() && mdc
}

proptest! {
    /// Lines of real reports in any order and number: success only for what is sound.
    #[test]
    fn no_mixture_of_lines_is_taken_for_proof(
        picks in proptest::collection::vec(0..12_usize, 0..12),
        exit in -1..3_i32,
    ) {
        let more = ["BADMDC", "DECRYPTION_FAILED", "BADSIG FA T", "PLAINTEXT 74 0"];
        let all: Vec<&str> = SYMMETRIC.lines().chain(more).collect();
        let lines: Vec<&str> = picks.iter().map(|n| all[*n]).collect();
        if verdict(&lines.join("\n"), exit).is_ok() {
            prop_assert!(exit == 0 && sound(&lines), "{:?}", lines);
            prop_assert!(!lines.iter().any(|l| more[..3].contains(l)), "{:?}", lines);
        }
    }

    /// One line of a good report lost, doubled or moved.
    #[test]
    fn one_change_to_a_good_report(from in 0..8_usize, to in 0..9_usize, copy in any::<bool>()) {
        let all: Vec<&str> = SYMMETRIC.lines().collect();
        let mut lines = all.clone();
        lines.insert(to, all[from]);
        if !copy {
            lines.remove(if from >= to { from + 1 } else { from });
        }
        if verdict(&lines.join("\n"), 0).is_ok() {
            prop_assert!(sound(&lines), "{:?}", lines);
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let status = parse(&bytes);
        let facts = Facts { status: &status, exit: Some(0), plaintext: 0, is_aead: true, begins_encrypted: true, passphrase_given: true, require_signature: false };
        prop_assert!(judge(&facts).is_err());
    }
}

/// What stands before BEGIN_DECRYPTION.
fn after(lines: &str) -> String {
    format!("{lines}\n{SYMMETRIC}")
}

fn outside(lines: &str, exit: i32, is_aead: bool, begins_encrypted: bool) -> Result<(), Refusal> {
    let text: String = lines.lines().map(|line| format!("[GNUPG:] {line}\n")).collect();
    let status = parse(text.as_bytes());
    let facts = Facts {
        status: &status,
        exit: Some(exit),
        plaintext: 6,
        is_aead,
        begins_encrypted,
        passphrase_given: true,
        require_signature: false,
    };
    judge(&facts).map(drop)
}

/// What gpg 2.2 says of OCB, whether it was tampered with or not; and what gpg 2.4 says.
#[test]
fn without_an_mdc_the_exit_code_and_the_length_are_part_of_the_proof() {
    for info in ["INFO 0 9 0", "INFO 0 9 2", "INFO 2 9 2"] {
        for lines in [SYMMETRIC.to_owned(), signed(UNKNOWN), signed(&good())] {
            let lines = lines.replace("INFO 2 9 0", info);
            assert!(outside(&lines, 0, true, true).is_ok(), "{lines}");
            for (exit, is_aead) in [(0, false), (1, true), (2, true), (2, false)] {
                let refusal = outside(&lines, exit, is_aead, true).expect_err("no proof");
                assert_eq!(refusal.cause, Cause::Damaged, "{lines}");
            }
        }
        // From outside only one encryption is seen.
        let outer = format!(
            "BEGIN_DECRYPTION\nDECRYPTION_{info}\n{SYMMETRIC}\nDECRYPTION_OKAY\nGOODMDC\nEND_DECRYPTION"
        );
        assert_eq!(outside(&outer, 0, true, true).expect_err("no proof").cause, Cause::Damaged);
    }
    // Without a word on how it is encrypted there is no MDC.
    let silent = signed(UNKNOWN).replace("DECRYPTION_INFO 2 9 0\n", "");
    assert!(outside(&silent, 2, true, true).is_err());
    // With an MDC it does not matter what it looks like from outside.
    assert!(outside(&signed(UNKNOWN), 2, false, false).is_ok());
}

#[test]
fn a_way_that_led_nowhere_is_excused_and_nothing_else() {
    for way in [
        "ENC_TO AA 18 0\nERROR pkdecrypt_failed 67108875",
        "ERROR symkey_decrypt.maybe_error 11_BAD_PASSPHRASE",
        "ERROR get_passphrase 67108949",
        "ENC_TO 0000000000000000 18 0",
    ] {
        for exit in [0, 1, 2] {
            assert_eq!(verdict(&after(way), exit), Ok(vec![]), "{way}");
            assert!(verdict(&format!("{way}\n{}", signed(UNKNOWN)), exit).is_ok(), "{way}");
        }
        assert!(verdict(&after(way), 3).is_err(), "{way}");
        assert!(verdict(&after(way).replace("INFO 2", "INFO 0"), 2).is_err(), "{way}");
        for complaint in
            ["ERROR add_keyblock_resource 1", "ERROR keydb_search 1", "NODATA 3", "UNEXPECTED 0", "BADARMOR"]
        {
            assert!(verdict(&format!("{}\n{complaint}", after(way)), 2).is_err(), "{way}, {complaint}");
        }
    }
    // After the last encryption began it is not about the way there.
    for late in ["ERROR pkdecrypt_failed 67108875", "ERROR symkey_decrypt.maybe_error 11_BAD_PASSPHRASE"] {
        assert!(verdict(&format!("{SYMMETRIC}\n{late}"), 2).is_err(), "{late}");
    }
    // A recipient with a name, whose key was not there or did the work, is no reason for an exit code.
    assert!(verdict(&after("ENC_TO AA 18 0\nNO_SECKEY AA"), 2).is_err());
}

#[test]
fn a_reason_says_no_more_than_is_known() {
    let text = |lines: &str, given: bool| full(lines, Some(2), given, false).expect_err("failed").text;
    let failed = "BEGIN_DECRYPTION\nDECRYPTION_FAILED\nEND_DECRYPTION";
    let hidden = format!("ENC_TO 0000000000000000 18 0\nNO_SECKEY 0000000000000000\n{failed}");
    assert_eq!(text(&hidden, true), "no secret key for it, or a wrong passphrase: a recipient is hidden");
    assert_eq!(
        text(&hidden, false),
        "no secret key for it, or one that needs a passphrase: a recipient is hidden"
    );
    let of = |lines: &str| text(&format!("{lines}\n{failed}"), true);
    assert_eq!(of("ENC_TO AA 1 0\nNO_SECKEY AA"), "no secret key for it; it is encrypted to key AA");
    // A passphrase is wrong for the key that was there.
    let wrong = "ERROR pkdecrypt_failed 67108875";
    assert_eq!(
        of(&format!("ENC_TO AA 1 0\nENC_TO BB 1 0\nNO_SECKEY BB\n{wrong}")),
        "wrong passphrase for the secret key AA"
    );
    for several in [
        "ENC_TO AA 1 0\nENC_TO BB 1 0",
        "ENC_TO 0000000000000000 1 0",
        "ENC_TO AA 1 0\nNEED_PASSPHRASE_SYM 9 3 2",
    ] {
        assert_eq!(of(&format!("{several}\n{wrong}")), "wrong passphrase");
    }
    // One way led to the session key.
    let changed = format!(
        "{wrong}\nDECRYPTION_KEY A B u\n{}",
        SYMMETRIC.replace("DECRYPTION_OKAY\nGOODMDC", "BADMDC\nDECRYPTION_FAILED")
    );
    assert_eq!(verdict(&changed, 2), Err(Cause::Damaged));
    // Without an MDC, gpg 2.2 and 2.4 on a passphrase that may be wrong, on one that is not, and on a key.
    let ocb = "NEED_PASSPHRASE_SYM 9 0 8\nBEGIN_DECRYPTION\nDECRYPTION_INFO 0 9 0\n";
    for end in [
        "NODATA 3\nDECRYPTION_OKAY\nGOODMDC\nEND_DECRYPTION",
        "ERROR aead_checktag 33554442\nBADMDC\nDECRYPTION_FAILED\nEND_DECRYPTION",
    ] {
        assert_eq!(verdict(&format!("{ocb}{end}"), 2), Err(Cause::WrongPassphrase));
        assert_eq!(verdict(&format!("{ocb}PLAINTEXT 62 0\n{end}"), 2), Err(Cause::Damaged));
        assert_eq!(verdict(&format!("DECRYPTION_KEY A B u\n{ocb}{end}"), 2), Err(Cause::Damaged));
    }
    let zeros = signed("GOODSIG 0000000000000000 T");
    let unnamed = full(&zeros, Some(0), true, true).expect_err("no VALIDSIG").text;
    assert_eq!(unnamed, "the signature by a key without a name is not one over data");
    let unreadable = |begins| outside("NODATA 3", 2, false, begins).expect_err("nothing").cause;
    assert_eq!((unreadable(true), unreadable(false)), (Cause::Unexplained, Cause::NotEncrypted));
}

/// Of 64 digits the first are the key's ID, of 40 the last.
#[test]
fn signatures_by_keys_of_version_5() {
    let long = "19347BC9872464025F99DF3EC2E0000ED9884892E1F7B3EA4C94009159569B54";
    let by = |id: &str, fingerprint: &str| {
        signed(&format!("GOODSIG {id} T\nVALIDSIG {fingerprint} 2026-11-21 1 0 5 0 1 10 00 {fingerprint}"))
    };
    let found = required(&by("19347BC987246402", long), 0).expect("valid");
    assert_eq!(found[0].primary_fingerprint.as_deref(), Some(long));
    assert!(required(&by(long, long), 0).is_ok() && required(&by(KEY, KEY), 0).is_ok());
    for (id, fingerprint) in [("4C94009159569B54", long), ("A66678F9E8429D8A", KEY)] {
        assert_eq!(required(&by(id, fingerprint), 0), Err(Cause::SignatureMissing), "{id}");
    }
}
