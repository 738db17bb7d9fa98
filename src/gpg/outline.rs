//! Calls, gpg: the outer form of a message: the headers of its packets (RFC 9580, 4.2) and of its armour (6.2). Pure;
//! it decrypts nothing, and does not know gpg's report.
//!
//! An AEAD packet (number 20) consists of whole chunks with their tags. If its length does not fit that, gpg (2.2 to
//! 2.5) stays silent and even exits with code 0. It replaces the text that it cannot check by zeros, or drops it, and
//! goes on. So gpg's word on such a message counts only if the length is right, which this module checks.
//!
//! Rules: it takes a message in pieces, and each piece costs what its bytes do. A message that differs from the
//! standard form in any way is not accepted as one.

use std::ops::ControlFlow;

/// The numbers of packets that come before what is encrypted, with its session key in them.
const SESSION_KEYS: [u8; 2] = [1, 3];

/// The numbers of packets in which something is encrypted.
const ENCRYPTED: [u8; 3] = [9, 18, AEAD];

const AEAD: u8 = 20;

/// The bytes of an AEAD packet's tags.
const TAG: u64 = 16;

/// The longest line. gpg cuts off what it has above 20,000 bytes (armor.c).
const LONGEST: usize = 10_000;

/// A message that is looked at, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Outline {
    form: Form,
    packets: Packets,
    /// The part of a line of armour that has no end yet.
    line: Vec<u8>,
}

/// How the packets are written down, and how far that was read.
#[derive(Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Unknown,
    Binary,
    BeforeArmour,
    /// Within the lines before the empty one.
    ArmourHeader,
    ArmourData,
    /// After the padding, where at most the checksum may come.
    ArmourChecksum,
    ArmourEnd,
    /// After the last line, where nothing may come.
    AfterArmour,
    /// Neither, or not by the book.
    Other,
}

impl Outline {
    /// The next bytes of the message. It breaks if no more of them matter.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> ControlFlow<()> {
        if let (Form::Unknown, Some(first)) = (&self.form, bytes.first()) {
            // The highest bit of a packet's first byte is set.
            self.form = if first & 0x80 != 0 { Form::Binary } else { Form::BeforeArmour };
        }
        if self.form == Form::Binary {
            self.packets.push(bytes);
        } else {
            while let Some(end) = memchr::memchr(b'\n', bytes) {
                let (line, rest) = bytes.split_at(end + 1);
                bytes = rest;
                if self.line.is_empty() {
                    self.armour(line);
                } else {
                    let mut whole = std::mem::take(&mut self.line);
                    whole.extend_from_slice(line);
                    self.armour(&whole);
                }
                if self.is_settled() {
                    return ControlFlow::Break(());
                }
            }
            if self.line.len() + bytes.len() > LONGEST {
                self.form = Form::Other;
            } else {
                self.line.extend_from_slice(bytes);
            }
        }
        if self.is_settled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Whether it begins as an encrypted message does.
    pub(super) fn begins_encrypted(&self) -> bool {
        self.packets.first.is_some_and(|tag| SESSION_KEYS.contains(&tag) || ENCRYPTED.contains(&tag))
    }

    /// Whether the whole of it, which ends here, is session keys and one AEAD packet, as long as its chunks and their tags are.
    pub(super) fn is_aead(&mut self) -> bool {
        if !self.line.is_empty() {
            let last = std::mem::take(&mut self.line);
            self.armour(&last);
        }
        let whole = matches!(self.form, Form::Binary | Form::AfterArmour);
        whole && self.packets.is_aead()
    }

    fn is_settled(&self) -> bool {
        self.form == Form::Other || self.packets.state == State::Other
    }

    /// One line of what is not binary.
    fn armour(&mut self, line: &[u8]) {
        if line.len() > LONGEST {
            self.form = Form::Other;
            return;
        }
        let line = line.trim_ascii_end();
        self.form = match std::mem::replace(&mut self.form, Form::Other) {
            Form::BeforeArmour if line.is_empty() => Form::BeforeArmour,
            Form::BeforeArmour if line == b"-----BEGIN PGP MESSAGE-----" => Form::ArmourHeader,
            Form::ArmourHeader if line.is_empty() => Form::ArmourData,
            Form::ArmourHeader if line.windows(2).any(|two| two == b": ") => Form::ArmourHeader,
            Form::ArmourData | Form::ArmourChecksum | Form::ArmourEnd
                if line == b"-----END PGP MESSAGE-----" =>
            {
                Form::AfterArmour
            }
            Form::ArmourData | Form::ArmourChecksum if is_checksum(line) => Form::ArmourEnd,
            Form::ArmourData => self.data(line),
            Form::AfterArmour if line.is_empty() => Form::AfterArmour,
            _ => Form::Other,
        };
    }

    /// One line of base64. All but the last have whole groups of four.
    fn data(&mut self, line: &[u8]) -> Form {
        let mut bytes = Vec::with_capacity(line.len() / 4 * 3);
        let (mut groups, mut form) = (line.chunks_exact(4), Form::ArmourData);
        for group in &mut groups {
            let (digits, count) = match group {
                [a, b, b'=', b'='] => ([*a, *b, b'A', b'A'], 1),
                [a, b, c, b'='] => ([*a, *b, *c, b'A'], 2),
                [a, b, c, d] => ([*a, *b, *c, *d], 3),
                _ => return Form::Other,
            };
            if form == Form::ArmourChecksum || !digits.iter().all(is_base64) {
                return Form::Other;
            }
            let value = digits.iter().fold(0, |value, digit| value << 6 | base64(*digit));
            bytes.extend_from_slice(&value.to_be_bytes()[1..=count]);
            if count < 3 {
                form = Form::ArmourChecksum;
            }
        }
        if line.is_empty() || !groups.remainder().is_empty() {
            return Form::Other;
        }
        self.packets.push(&bytes);
        form
    }
}

fn is_checksum(line: &[u8]) -> bool {
    matches!(line, [b'=', sum @ ..] if sum.len() == 4 && sum.iter().all(is_base64))
}

fn is_base64(digit: &u8) -> bool {
    digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/')
}

/// The value of such a digit.
fn base64(digit: u8) -> u32 {
    u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    })
}

/// The packets of a message, one after the other.
#[derive(Debug, Default)]
struct Packets {
    state: State,
    /// The number of the first.
    first: Option<u8>,
    /// The number of this one.
    tag: u8,
    /// The bytes of its body until now.
    length: u64,
    /// The first of them.
    head: [u8; 4],
    /// How many packets with a session key came before.
    keys: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// The first byte of a packet is next.
    #[default]
    Start,
    /// So many bytes of a length are still to come, after those that have this value.
    Length { left: u8, value: u64 },
    /// The first byte of a length of the new kind is next.
    NewLength,
    /// The second byte of one that has two is next.
    Second(u8),
    /// So many bytes of the body are still to come, and then, if it is in parts, another length.
    Body { left: u64, parts: bool },
    /// The AEAD packet is over.
    End,
    /// It cannot become such a message any more.
    Other,
}

impl Packets {
    fn push(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            match std::mem::replace(&mut self.state, State::Other) {
                State::Start => self.state = self.start(*byte),
                State::NewLength => self.state = self.new_length(*byte),
                State::Second(high) => {
                    self.state = self.body((u64::from(high) << 8) + u64::from(*byte) + 192, false);
                }
                State::Length { left, value } => {
                    let value = value << 8 | u64::from(*byte);
                    self.state = match left {
                        1 => self.body(value, false),
                        _ => State::Length { left: left - 1, value },
                    };
                }
                State::Body { left, parts } => {
                    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let place = usize::try_from(self.length).map_or(4, |length| length.min(4));
                    let head = &mut self.head[place..];
                    let count = head.len().min(here);
                    head[..count].copy_from_slice(&bytes[..count]);
                    self.length = self.length.saturating_add(here as u64);
                    self.state = self.body(left - here as u64, parts);
                    bytes = &bytes[here..];
                    continue;
                }
                State::End | State::Other => return self.state = State::Other,
            }
            bytes = rest;
        }
    }

    fn start(&mut self, byte: u8) -> State {
        let new = byte & 0x40 != 0;
        self.tag = if new { byte & 0x3f } else { byte >> 2 & 0xf };
        self.length = 0;
        if byte & 0x80 == 0 {
            return State::Other;
        }
        self.first.get_or_insert(self.tag);
        // gpg takes what begins with an AEAD packet for armour.
        let fits = SESSION_KEYS.contains(&self.tag) || (self.tag == AEAD && self.keys > 0);
        if !fits {
            return State::Other;
        }
        match (new, byte & 3) {
            (true, _) => State::NewLength,
            // To the end of all.
            (false, 3) => State::Other,
            (false, size) => State::Length { left: 1 << size, value: 0 },
        }
    }

    fn new_length(&mut self, byte: u8) -> State {
        match byte {
            0..192 => self.body(byte.into(), false),
            192..224 => State::Second(byte - 192),
            255 => State::Length { left: 4, value: 0 },
            // In parts of a power of two. Only data may be.
            _ if self.tag == AEAD => self.body(1 << (byte & 0x1f), true),
            _ => State::Other,
        }
    }

    /// So many bytes of the body are still to come.
    fn body(&mut self, left: u64, parts: bool) -> State {
        match (left, parts) {
            (0, true) => State::NewLength,
            (0, false) if self.tag == AEAD => State::End,
            (0, false) => {
                self.keys += 1;
                State::Start
            }
            (left, parts) => State::Body { left, parts },
        }
    }

    /// Whether an AEAD packet has ended, and can be as long as it is.
    fn is_aead(&self) -> bool {
        let [version, _, mode, chunk] = self.head;
        let nonce = match mode {
            // EAX and OCB.
            1 => 16,
            2 => 15,
            _ => return false,
        };
        // The last tag is one over nothing.
        let chunks = self.length.checked_sub(4 + nonce + TAG);
        let full = 1_u64.checked_shl(u32::from(chunk) + 6).filter(|_| chunk <= 56);
        let (Some(chunks), Some(full)) = (chunks, full) else { return false };
        let last = chunks % (full + TAG);
        self.state == State::End && version == 1 && chunks > TAG && (last == 0 || last > TAG)
    }
}

#[cfg(test)]
mod tests;
