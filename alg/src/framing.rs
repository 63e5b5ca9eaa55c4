//! Complete, bounded lines out of one direction of a stream.
//!
//! Every line-based ALG reads through this layer, so that none of them ever sees half a line or one
//! without bound. A line ends with LF, with or without a CR before it; a CR alone is no end
//! (RFC 959 section 5.3 asks for CR LF, and peers send bare LF). A line over the limit is
//! reported once with its first bytes and then passed over to its end, unread.
//!
//! Invariants: what is reported depends on the bytes alone, never on how they were cut, except that
//! the rest of an over-long line comes in as many [`Framed::Rest`] pieces as there were inputs;
//! [`Framed::Incomplete`] changes no state; one pass over the input.
//!
//! It does not decode: Telnet commands, character sets and folded lines are the protocol's business.

/// Cuts one direction of a stream into lines.
#[derive(Debug, Clone)]
pub struct LineFramer {
    limit_bytes: usize,
    in_rest: bool,
}

/// What is at the head of the undecided bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed<'a> {
    /// The start of a line that may still become complete.
    Incomplete,
    /// A whole line.
    Line {
        /// The line without its end.
        text: &'a [u8],
        /// Its bytes, with its end.
        length: usize,
    },
    /// The first bytes of a line longer than the limit; [`Framed::Rest`] follows.
    TooLong {
        /// As many bytes as the limit allows, all of them decided.
        head: &'a [u8],
    },
    /// A line that can no longer be completed, because nothing more is shown together with it. If
    /// bytes do follow, they are its [`Framed::Rest`], never a new line.
    Cut {
        /// What there is of it, all of it decided.
        head: &'a [u8],
    },
    /// A further part of a line reported as too long or cut.
    Rest {
        /// Bytes of that part, up to the line's end if it is there.
        length: usize,
    },
}

impl LineFramer {
    /// A framer at byte 0 of a stream. A line may have `limit_bytes` with its end (at least 1).
    #[must_use]
    pub const fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes: if limit_bytes == 0 { 1 } else { limit_bytes }, in_rest: false }
    }

    /// Looks at the head of `input`, which starts where the last answer but `Incomplete` ended.
    /// `at_end` says that `input` will not be shown again with more behind it.
    pub fn next<'a>(&mut self, input: &'a [u8], at_end: bool) -> Framed<'a> {
        if self.in_rest {
            let end = input.iter().position(|&byte| byte == b'\n');
            self.in_rest = end.is_none();
            return Framed::Rest { length: end.map_or(input.len(), |at| at + 1) };
        }
        let window = input.get(..self.limit_bytes).unwrap_or(input);
        if let Some(at) = window.iter().position(|&byte| byte == b'\n') {
            let text = window.get(..at).unwrap_or_default();
            return Framed::Line { text: text.strip_suffix(b"\r").unwrap_or(text), length: at + 1 };
        }
        if window.len() == self.limit_bytes {
            self.in_rest = true;
            return Framed::TooLong { head: window };
        }
        if at_end && !input.is_empty() {
            self.in_rest = true;
            return Framed::Cut { head: input };
        }
        Framed::Incomplete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(limit: usize, cuts: &[&[u8]], at_end: bool) -> Vec<(String, usize)> {
        let mut framer = LineFramer::new(limit);
        let mut held = Vec::new();
        let mut seen: Vec<(String, usize)> = Vec::new();
        for (index, cut) in cuts.iter().enumerate() {
            held.extend_from_slice(cut);
            while !held.is_empty() {
                let last = at_end && index + 1 == cuts.len();
                let (name, length) = match framer.next(&held, last) {
                    Framed::Incomplete => break,
                    Framed::Line { text, length } => {
                        (format!("line {}", String::from_utf8_lossy(text)), length)
                    }
                    Framed::TooLong { head } => ("too long".to_owned(), head.len()),
                    Framed::Cut { head } => ("cut".to_owned(), head.len()),
                    Framed::Rest { length } => ("rest".to_owned(), length),
                };
                held.drain(..length);
                match seen.last_mut() {
                    Some((before, sum)) if before == "rest" && name == "rest" => *sum += length,
                    _ => seen.push((name, length)),
                }
            }
        }
        seen
    }

    #[test]
    fn lines_end_with_line_feed_and_never_with_carriage_return_alone() {
        type Row<'a> = (&'a str, &'a [u8], &'a [(&'a str, usize)]);
        let rows: [Row<'_>; 5] = [
            ("both ends", b"a\r\nb\n", &[("line a", 3), ("line b", 2)]),
            ("empty lines", b"\r\n\n", &[("line ", 2), ("line ", 1)]),
            ("return alone", b"a\rb\r\n", &[("line a\rb", 5)]),
            ("two returns", b"a\r\r\n", &[("line a\r", 4)]),
            ("no end", b"abc", &[]),
        ];
        for (name, input, want) in rows {
            let want: Vec<_> = want.iter().map(|(text, n)| ((*text).to_owned(), *n)).collect();
            assert_eq!(frames(8, &[input], false), want, "{name}");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_reported_once_and_skipped_to_its_end() {
        let want = vec![
            ("line 123456".to_owned(), 8),
            ("too long".to_owned(), 8),
            ("rest".to_owned(), 3),
            ("line x".to_owned(), 2),
        ];
        let input = b"123456\r\n123456789\r\nx\n";
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let cuts = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(frames(8, &cuts, false), want, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn bytes_after_a_cut_line_are_never_a_new_line() {
        let mut framer = LineFramer::new(16);
        assert_eq!(framer.next(b"SITE ", true), Framed::Cut { head: b"SITE " });
        assert_eq!(framer.next(b"PORT 1\r\nQUIT", false), Framed::Rest { length: 8 });
        assert_eq!(framer.next(b"QUIT\r\n", false), Framed::Line { text: b"QUIT", length: 6 });
    }
}
