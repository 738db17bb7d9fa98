//! The input of a target, read as a row of choices. It is simple enough to be written by hand.

pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Choices(data)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte; 0 after the last.
    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// Below `end`, from one byte.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.byte() as usize % end
    }

    pub(crate) fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    /// This many bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
