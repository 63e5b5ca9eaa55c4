//! Headers that tell which product an end runs, hidden where policy says so: `Server` and `User-Agent` of SIP and RTSP.
//!
//! Only the value is replaced, by a word that both grammars take for a product (RFC 3261 section 20.35, RFC 2326 section
//! 12.36); header, order and line ends stay, so what is read of the message stays, too. A header that is not all there, or
//! has no value, is let be. Never half: where the value meets another replacement, or there is no room for it, all stays.

use std::ops::Range;

use memchr::memchr;

use crate::contract::{Context, Direction, Event, Subject};

/// Hides what policy wants hidden in the header of a message, which `head` begins with. Returns whether there is a
/// replacement of its own. One pass, and one question to policy for each such header.
pub(crate) fn hide_products(direction: Direction, head: &[u8], cx: &mut Context<'_>) -> bool {
    if !cx.policy.may_mask() {
        return false;
    }
    let mut is_hidden = false;
    for (name, value) in products(head) {
        let argument = head.get(value.clone()).unwrap_or_default();
        let subject = Subject { direction, command: name, argument, user: b"" };
        if argument == NEUTRAL || !cx.policy.masks(&subject) {
            continue;
        }
        if cx.edits.insert(value, NEUTRAL) {
            cx.events.count(Event::Masked);
            is_hidden = true;
        } else {
            cx.events.count(Event::RecheckFailed);
        }
    }
    is_hidden
}

/// The headers that name a product: which, and where its value stands, with the line ends of folded lines in it.
fn products(head: &[u8]) -> impl Iterator<Item = (&'static [u8], Range<usize>)> {
    let mut at = line_end(head, 0);
    std::iter::from_fn(move || {
        while let Some(start) = at {
            let mut end = line_end(head, start)?;
            while matches!(head.get(end), Some(b' ' | b'\t')) {
                end = line_end(head, end)?;
            }
            at = Some(end);
            let line = head.get(start..end)?;
            let first = line.first().map(u8::to_ascii_lowercase);
            if first.is_none_or(|byte| byte.is_ascii_whitespace()) && line.trim_ascii().is_empty() {
                return None;
            }
            // As the names of `PRODUCTS` do.
            if !matches!(first, Some(b's' | b'u')) {
                continue;
            }
            let Some(colon) = memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let known = PRODUCTS.iter().find(|known| name.trim_ascii_end().eq_ignore_ascii_case(known));
            let text = value.get(1..).unwrap_or_default();
            let (Some(known), false) = (known, text.trim_ascii().is_empty()) else { continue };
            let from = start + colon + 1 + (text.len() - text.trim_ascii_start().len());
            return Some((*known, from..from + text.trim_ascii().len()));
        }
        None
    })
}

/// Behind the line that begins at `at`. `None`: it has no end.
fn line_end(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    memchr(b'\n', rest).map(|length| at + length + 1)
}

/// What policy knows these headers by.
const PRODUCTS: [&[u8]; 2] = [b"Server", b"User-Agent"];
/// A product's name, as RFC 3261 and RFC 2326 write one.
const NEUTRAL: &[u8] = b"masked";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(head: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        products(head.as_bytes()).map(|(name, at)| (text(name), text(&head.as_bytes()[at]))).collect()
    }

    #[test]
    fn a_product_is_the_value_of_its_header_and_nothing_else() {
        let rows: [(&str, &[(&str, &str)]); 8] = [
            ("A\r\nServer: x/1 (y)\r\n\r\n", &[("Server", "x/1 (y)")]),
            ("A\nserver :x \nUSER-AGENT:y\n\n", &[("Server", "x"), ("User-Agent", "y")]),
            ("A\r\nServer: x\r\n\t y\r\nB: c\r\n\r\n", &[("Server", "x\r\n\t y")]),
            ("A\r\nServer:\r\nServer: \r\n x\r\n\r\n", &[("Server", "x")]),
            ("A\r\nX: 1\r\n Server: x\r\n\r\n", &[]),
            ("Server: x\r\n\r\n", &[]),
            ("A\r\n\r\nServer: x\r\n", &[]),
            ("A\r\nServers: x\r\nServer x\r\nServer: x", &[]),
        ];
        for (head, want) in rows {
            let want: Vec<_> =
                want.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(found(head), want, "{head:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What is read of a masked head is what was read before, but for the values.
        #[test]
        fn a_replaced_value_changes_no_other_header(head in "A\r?\n((Server|User-Agent|X)[ ]?:[ ab/:]{0,4}(\r\n[ \t][a:]{0,3})?\r?\n){0,4}(\r\n|\n)?") {
            let mut masked = head.clone().into_bytes();
            let places: Vec<_> = products(head.as_bytes()).collect();
            for (_, at) in places.iter().rev() {
                masked.splice(at.clone(), NEUTRAL.iter().copied());
            }
            let after: Vec<_> = products(&masked).map(|(name, at)| (name, masked[at].to_vec())).collect();
            let want: Vec<_> = places.iter().map(|(name, _)| (*name, NEUTRAL.to_vec())).collect();
            prop_assert_eq!(after, want);
        }
    }
}
