//! Durations as they are written: numbers with units, longest first: `2h4m`, `90s`, `300ms`.

use std::time::Duration;

/// Reads a duration; each unit at most once, in descending order.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        total_ms = number.parse::<u64>().ok()?.checked_mul(*unit_ms)?.checked_add(total_ms)?;
        rest = after;
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse`] reads the same; below two minutes in seconds, as RFCs do.
pub(crate) fn print(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let keeps_seconds = rest_ms < 120_000;
    let mut text = String::new();
    for (unit, unit_ms) in UNITS.iter().skip(if keeps_seconds { SECONDS } else { 0 }) {
        let count = rest_ms / unit_ms;
        rest_ms %= unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_string() } else { text }
}

/// Units and their length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Position of the second in [`UNITS`].
const SECONDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_documentation_shows_and_nothing_else() {
        for (text, ms) in [
            ("2h4m", Some(7_440_000)),
            ("90s", Some(90_000)),
            ("300ms", Some(300)),
            ("1d1h1m1s1ms", Some(90_061_001)),
            ("0s", Some(0)),
            ("", None),
            ("90", None),
            ("s", None),
            ("4m2h", None),
            ("1m1m", None),
            ("1 m", None),
            ("-1s", None),
            ("1.5s", None),
            ("18446744073709551615d", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["2h4m", "90s", "300ms", "30d", "60s", "119s", "2m", "1d1h1m1s1ms", "0s"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
    }
}
