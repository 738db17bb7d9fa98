//! Calls, gpg: who signed, and how gpg judges it. Plain data, made from status lines; decides nothing.

use super::status::{StatusLine, unescape};

/// One signature of the decrypted message.
///
/// A [`Good`](Validity::Good) signature was made by some key in the keyring. That need not be the right key: compare
/// [`primary_fingerprint`](Self::primary_fingerprint) with the one you expect.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::gpg::{self, Decrypted, Validity};
/// fn is_from(letter: &Decrypted, fingerprint: &str) -> bool {
///     letter.signatures.iter().any(|signature| {
///         signature.validity == Validity::Good
///             && signature.primary_fingerprint.as_deref() == Some(fingerprint)
///     })
/// }
/// let message = "-----BEGIN PGP MESSAGE-----
///
/// jA0ECQMCpjt6vtB5eEz/0j8Btt4Iyso/gYcbTxvMjqRqixSIubOaDZEcUtohfOaM
/// Dxj4JSdgA7xuU0QL3OWpsdPysZapj5wQo14uknzAXNw=
/// =chaB
/// -----END PGP MESSAGE-----";
/// # // If there is no gpg, the call says so.
/// # if let Err(gpg::Error::GpgMissing { .. }) = gpg::decrypt(message, "secret").await { return Ok(()) }
/// let letter = gpg::decrypt(message, "secret").await?;
/// // Nobody has signed it.
/// assert!(!is_from(&letter, "0123456789ABCDEF0123456789ABCDEF01234567"));
/// # Ok::<(), gpg::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signature {
    /// How gpg judges it.
    pub validity: Validity,
    /// The long key ID of the signing key, or its fingerprint if gpg gave that. It is only a claim until the
    /// signature is valid.
    pub key_id: String,
    /// The fingerprint of the signing key, if gpg found the signature cryptographically valid (`VALIDSIG`) and made
    /// over data.
    pub fingerprint: Option<String>,
    /// The fingerprint of the primary key that the signing key belongs to.
    pub primary_fingerprint: Option<String>,
    /// The primary user ID of the key, if the key is in the keyring. Its owner chose the text.
    pub user_id: Option<String>,
}

/// How gpg judges a signature.
///
/// ```
/// use reaped::gpg::Validity;
/// let advice = |validity| match validity {
///     Validity::Good => "compare the fingerprint",
///     Validity::Unchecked => "import the key",
///     _ => "ask the sender to sign again",
/// };
/// assert_eq!(advice(Validity::Expired), "ask the sender to sign again");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Validity {
    /// Made over this data, by a key in the keyring that is in force (`GOODSIG`).
    Good,
    /// Was good, and has expired (`EXPSIG`).
    Expired,
    /// Made by a key that has expired since then (`EXPKEYSIG`).
    KeyExpired,
    /// Made by a key that was revoked since then (`REVKEYSIG`).
    KeyRevoked,
    /// Cannot be checked: the key is not in the keyring, or the algorithm is unknown (`ERRSIG`).
    Unchecked,
}

impl Signature {
    /// It is good, and gpg has said so in both of its ways, for one key.
    pub(super) fn is_proof(&self) -> bool {
        // A long key ID is 16 digits; a shorter name, or none, would fit a fingerprint by chance.
        let named = self.key_id.len() >= 16 && self.key_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.validity == Validity::Good && self.fingerprint.is_some() && named
    }

    /// Takes up a line if it is about a signature.
    pub(super) fn collect(found: &mut Vec<Signature>, line: &StatusLine) {
        let validity = match line.keyword() {
            "GOODSIG" => Validity::Good,
            "EXPSIG" => Validity::Expired,
            "EXPKEYSIG" => Validity::KeyExpired,
            "REVKEYSIG" => Validity::KeyRevoked,
            "ERRSIG" => Validity::Unchecked,
            "VALIDSIG" => return found.last_mut().map_or((), |last| last.confirm(line)),
            _ => return,
        };
        let (key_id, user_id) = line.text().split_once(' ').unwrap_or((line.text(), ""));
        let named = validity != Validity::Unchecked && !user_id.is_empty();
        found.push(Signature {
            validity,
            key_id: key_id.to_owned(),
            fingerprint: None,
            primary_fingerprint: None,
            user_id: named.then(|| unescape(user_id)),
        });
    }

    /// `VALIDSIG` comes after the line that names the validity, for the same key.
    fn confirm(&mut self, line: &StatusLine) {
        let args: Vec<&str> = line.args().collect();
        let [fingerprint, _, _, _, _, _, _, _, class, ..] = args[..] else { return };
        // Class 00 and 01 sign data (RFC 4880, 5.2.1); the others sign keys, or nothing.
        if self.validity == Validity::Unchecked
            || self.fingerprint.is_some()
            || !is_of(fingerprint, &self.key_id)
            || !matches!(class, "00" | "01")
        {
            return;
        }
        self.fingerprint = Some(fingerprint.to_owned());
        self.primary_fingerprint = Some(args.get(9).unwrap_or(&fingerprint).to_string());
    }
}

/// Whether a key ID belongs to this fingerprint. It is the last digits, or the first if the fingerprint has 64 (key
/// version 5 and 6; gnupg's keyid.c; RFC 9580, 5.5.4.3).
fn is_of(fingerprint: &str, key_id: &str) -> bool {
    if fingerprint.len() == 64 { fingerprint.starts_with(key_id) } else { fingerprint.ends_with(key_id) }
}
