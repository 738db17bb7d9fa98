//! How bytes are cut into lines, through the protocol as the transport uses it.

use crate::choices::Choices;
use crate::protocol::{Direction, Notice, Piece, Protocol};

const FDS: [i32; 2] = [1, 2];

/// The parts of lines: ends, and characters of one, two, three and four bytes.
const ALPHABET: [&[u8]; 8] =
    [b"\n", b"\r", b"a", "ä".as_bytes(), "€".as_bytes(), "🦀".as_bytes(), b"\r\n", b"b"];

/// The bytes of one channel.
#[derive(Default)]
struct Channel {
    /// Every byte within the limit.
    whole: Vec<u8>,
    /// How many of them were returned.
    given: usize,
    room: usize,
    closed: bool,
    released: bool,
    paused: bool,
    pieces: Vec<(Vec<u8>, bool)>,
}

impl Channel {
    fn rest(&self) -> &[u8] {
        &self.whole[self.given..]
    }

    fn told(&self) -> bool {
        !self.paused && !self.released
    }

    /// The rest decides what comes next.
    fn gave(&mut self, piece: Piece, limit: usize, at_end: bool) {
        let bytes = piece.raw.as_deref().unwrap_or(piece.text.as_bytes());
        let Some((expected, complete, used)) = next(self.rest(), limit, at_end) else {
            panic!("{bytes:?} came too early, limit {limit}")
        };
        assert_eq!((bytes, piece.complete), (expected, complete), "limit {limit}");
        assert_eq!(piece.text, String::from_utf8_lossy(bytes), "how it is shown");
        self.pieces.push((bytes.to_vec(), complete));
        self.given += used;
    }
}

/// **Invariant.** For any bytes in any chunks, and looks at any moment:
///
/// - Each call returns the same as a splitter without memory that gets the bytes not returned yet ([`next`]).
/// - If the limit stays the same, the pieces are the same as in a split of all bytes at once.
/// - If all bytes are UTF-8 and a character fits into the limit, each piece is UTF-8.
/// - An event or a takeover returns exactly the bytes that no line has returned.
pub fn lines(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut protocol = Protocol::new(FDS.map(|fd| (fd, Direction::Out)));
    let mut channels: [Channel; 2] = Default::default();
    for (slot, channel) in channels.iter_mut().enumerate() {
        channel.room = match choices.byte() {
            most @ 0..64 => {
                protocol.limit(slot, most.into());
                most.into()
            }
            _ => usize::MAX,
        };
    }
    let same = choices.yes();
    let most = choices.below(20);

    while !choices.is_over() {
        let op = choices.byte();
        let slot = usize::from(op & 1);
        match op >> 1 & 7 {
            0..=2 if !channels[slot].closed && !channels[slot].released => {
                let count = choices.below(24);
                feed(&mut protocol, slot, &mut channels[slot], choices.bytes(count));
            }
            3 | 4 => {
                let limit = if same { most } else { choices.below(20) };
                let more = choices.below(8);
                line(&mut protocol, &mut channels, limit, more);
            }
            5 if !same => take(&mut protocol, slot, &mut channels, op >> 4),
            6 => {
                channels[slot].paused = op >> 4 & 1 == 1;
                protocol.pause(slot, channels[slot].paused);
            }
            7 if !channels[slot].closed && !channels[slot].released => {
                protocol.closed(slot);
                channels[slot].closed = true;
            }
            _ => {}
        }
        let holds_back = channels.iter().any(|c| c.paused && !c.rest().is_empty());
        assert_eq!(protocol.holds_back(), holds_back, "held back");
    }

    protocol.resume_all();
    for (slot, channel) in channels.iter_mut().enumerate() {
        channel.paused = false;
        if !channel.closed && !channel.released {
            protocol.closed(slot);
            channel.closed = true;
        }
    }
    while line(&mut protocol, &mut channels, most, 1) {}
    for channel in &channels {
        assert!(channel.rest().is_empty(), "never given: {:?}", channel.rest());
        if same {
            check_whole(channel, most);
        }
    }
}

fn feed(protocol: &mut Protocol, slot: usize, channel: &mut Channel, choices: &[u8]) {
    let mut bytes = Vec::new();
    for choice in choices {
        match choice {
            0..128 => bytes.extend(ALPHABET[usize::from(choice % 8)]),
            // Parts of characters, and bytes that are no UTF-8 at all.
            _ => bytes.push(*choice),
        }
    }
    protocol.buffer(slot).extend_from_slice(&bytes);
    protocol.received(slot, bytes.len());
    let kept = bytes.len().min(channel.room);
    channel.room -= kept;
    channel.whole.extend(&bytes[..kept]);
}

/// Asks for one line, and for some more that are ready. Returns whether there was one.
fn line(protocol: &mut Protocol, channels: &mut [Channel; 2], limit: usize, more: usize) -> bool {
    let told = channels.iter().position(|c| c.told() && next(c.rest(), limit, c.closed).is_some());
    let Some((slot, fd, piece)) = protocol.line(limit) else {
        assert_eq!(told, None, "a line is missing, limit {limit}");
        return false;
    };
    assert_eq!((Some(slot), fd), (told, FDS[slot]), "not the first that has one, limit {limit}");
    channels[slot].gave(piece, limit, channels[slot].closed);
    let Some(mut ready) = protocol.lend(slot) else {
        assert!(channels[slot].rest().is_empty(), "nothing is lent of {:?}", channels[slot].rest());
        return true;
    };
    for _ in 0..more {
        let of_batch =
            ready.line(limit).map(|(_, text, complete)| Piece { text: text.to_owned(), raw: None, complete });
        match of_batch.or_else(|| ready.line_apart(limit).map(|(_, piece)| piece)) {
            Some(piece) => channels[slot].gave(piece, limit, false),
            None => assert!(next(channels[slot].rest(), limit, false).is_none(), "a line is missing"),
        }
    }
    protocol.give_back(*ready);
    true
}

/// Takes the bytes that were not returned, by an event or by a takeover.
fn take(protocol: &mut Protocol, slot: usize, channels: &mut [Channel; 2], how: u8) {
    let channel = &mut channels[slot];
    if how & 3 == 3 && !channel.closed && !channel.released {
        assert_eq!(protocol.released(slot), channel.rest(), "taken over");
        (channel.given, channel.released) = (channel.whole.len(), true);
    } else if let Some(Notice::Data { fd, data }) = protocol.notice() {
        let slot = FDS.iter().position(|known| *known == fd).expect("one of ours");
        let channel = &mut channels[slot];
        assert!(channel.told() && data == channel.rest(), "{data:?} is not {:?}", channel.rest());
        channel.given = channel.whole.len();
    }
}

/// The first piece of the rest, whether it is a whole line, and how many bytes it used up. A piece of a
/// longer line is returned only once the line is certainly longer than the limit.
fn next(rest: &[u8], limit: usize, at_end: bool) -> Option<(&[u8], bool, usize)> {
    let limit = limit.max(1);
    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = without_cr(&rest[..end]);
        if line.len() <= limit {
            return Some((line, true, end + 1));
        }
    } else {
        let at_least = if at_end { rest.len() } else { without_cr(rest).len() };
        if at_least <= limit {
            return (at_end && !rest.is_empty()).then_some((rest, false, rest.len()));
        }
    }
    let cut = place_to_cut(rest, limit);
    Some((&rest[..cut], false, cut))
}

fn without_cr(line: &[u8]) -> &[u8] {
    match line {
        [start @ .., b'\r'] => start,
        _ => line,
    }
}

/// At the limit, or up to three bytes before it if the limit is inside of a character.
fn place_to_cut(line: &[u8], limit: usize) -> usize {
    let inside = |place: usize| (0x80..0xc0).contains(&line[place]);
    let mut cut = limit;
    while inside(cut) {
        cut -= 1;
        if cut == 0 || limit - cut > 3 {
            return limit;
        }
    }
    cut
}

fn check_whole(channel: &Channel, limit: usize) {
    let mut rest = &channel.whole[..];
    for (bytes, complete) in &channel.pieces {
        let (expected, whole, used) = next(rest, limit, true).expect("one more piece");
        assert_eq!((&bytes[..], *complete), (expected, whole), "not as the whole is split, limit {limit}");
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    if limit >= 4 && std::str::from_utf8(&channel.whole).is_ok() {
        let mut pieces = channel.pieces.iter();
        assert!(pieces.all(|(bytes, _)| std::str::from_utf8(bytes).is_ok()), "a character was split");
    }
}
