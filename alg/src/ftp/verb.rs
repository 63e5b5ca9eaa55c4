//! The verb of a command as one number, so that two are compared at once, whatever their case.

/// A word of up to eight letters and digits, in upper case. What is longer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verb(u64);

impl Verb {
    /// The verb that `word` is.
    #[inline]
    pub(super) const fn of(mut word: &[u8]) -> Self {
        if word.len() > size_of::<u64>() {
            return Self(0);
        }
        let mut letters = 0;
        while let [letter, rest @ ..] = word {
            letters = (letters << u8::BITS) | letter.to_ascii_uppercase() as u64;
            word = rest;
        }
        Self(letters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_everything_else_does() {
        assert_eq!(Verb::of(b"pOrT"), Verb::of(b"PORT"));
        assert_eq!(Verb::of(b"xsha256"), Verb::of(b"XSHA256"));
        for other in [&b"POR"[..], b"PORTS", b"TROP", b"P0RT", b"", b"ABCDEPORT", b"PORTABCDE"] {
            assert_ne!(Verb::of(other), Verb::of(b"PORT"), "{other:?}");
        }
    }
}
