//! The shipped examples: each one is valid, explains its keys, and survives printing; and mutations of
//! them never panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use algate_config::{Config, Machine};
use proptest::prelude::*;

/// Name and text of every file in `examples/`.
fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let tomls = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let read =
        |path: std::path::PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    let mut examples: Vec<_> = tomls.map(read).collect();
    examples.sort();
    assert!(examples.len() >= 6, "the examples are there");
    examples
}

fn parse(text: &str, name: &str) -> Config {
    Config::parse(text, name, &Machine::unchecked()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_example_is_valid_and_survives_printing() {
    for (name, text) in examples() {
        let config = parse(&text, &name);
        assert_eq!(parse(&config.to_toml(), &name), config, "{name}");
    }
}

#[test]
fn every_key_of_an_example_has_its_reason() {
    for (name, text) in examples().into_iter().filter(|(name, _)| !name.ends_with("/algate.toml")) {
        for (index, pair) in text.lines().collect::<Vec<_>>().windows(2).enumerate() {
            let is_key = pair[1].contains(" = ") && !pair[1].starts_with('#');
            assert!(!is_key || pair[0].starts_with("# "), "{name}:{}: {}", index + 2, pair[1]);
        }
    }
}

#[test]
fn the_reference_example_is_what_algate_prints() {
    let (name, text) = examples().into_iter().find(|(name, _)| name.ends_with("/algate.toml")).unwrap();
    let (_, body) = text.split_once("\n\n").expect("an introduction comes first");
    assert_eq!(parse(&text, &name).to_toml(), body);
}

#[test]
fn values_below_a_standard_survive_printing() {
    let (name, text) = examples().into_iter().find(|(name, _)| name.ends_with("/algate.toml")).unwrap();
    let text = text
        .replace("udp = \"5m\"", "udp = \"1s500ms\"")
        .replace("allow_short = false", "allow_short = true");
    let config = parse(&text, &name);
    assert_eq!(config.timeouts.udp.as_millis(), 1500);
    assert_eq!(parse(&config.to_toml(), &name), config);
}

/// Replaces a few characters, or repeats, removes or swaps lines.
fn mutate(text: &str, edits: &[(usize, usize, char, u8)]) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for &(line, column, c, kind) in edits {
        let (at, other) = (line % lines.len(), column % lines.len());
        match kind % 4 {
            0 => lines.swap(at, other),
            1 => lines.insert(at, lines[other].clone()),
            2 if lines.len() > 1 => drop(lines.remove(at)),
            _ => {
                let mut chars: Vec<char> = lines[at].chars().collect();
                let at_char = column % (chars.len() + 1);
                chars.splice(at_char..(at_char + 1).min(chars.len()), [c]);
                lines[at] = chars.into_iter().collect();
            }
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic_and_what_is_accepted_survives_printing(
        which in 0..6_usize,
        edits in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<char>(), any::<u8>()), 1..6),
    ) {
        let text = mutate(&examples()[which].1, &edits);
        match Config::parse(&text, "a", &Machine::unchecked()) {
            Ok(config) => prop_assert_eq!(parse(&config.to_toml(), "a"), config),
            Err(errors) => prop_assert!(!errors.is_empty() && errors.is_sorted_by_key(|error| error.line)),
        }
    }
}
