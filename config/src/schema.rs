//! The grammar as data: which tables exist, which keys each one has, and why a key is there.
//!
//! Each section's file declares its [`Section`] and reads and prints by the same [`Key`]s, so a key
//! is named once. A new section is one file, its line in [`SECTIONS`], and its calls in `Config::read`
//! and `Config::to_toml`.

use crate::{
    alg, control, eal, events, filter, fragments, icmp, interface, log, nat, nic_port, pcp, route, tables,
    tcp, timeouts, workers,
};

/// Every table of the file, in the order in which it is printed.
pub(crate) const SECTIONS: &[&Section] = &[
    &eal::SECTION,
    &workers::SECTION,
    &nic_port::SECTION,
    &nic_port::DEVICE,
    &interface::SECTION,
    &route::SECTION,
    &nat::SECTION,
    &nat::pool::SECTION,
    &nat::statics::SECTION,
    &nat::rule::SECTION,
    &nat::forward::SECTION,
    &nat::limits::LIMITS,
    &nat::limits::HOLD,
    &filter::SECTION,
    &alg::SECTION,
    &alg::ftp::SECTION,
    &alg::tftp::SECTION,
    &alg::sip::SECTION,
    &alg::rtsp::SECTION,
    &alg::irc::SECTION,
    &alg::pptp::SECTION,
    &alg::rule::SECTION,
    &tcp::SECTION,
    &timeouts::SECTION,
    &timeouts::UDP_PORT,
    &fragments::SECTION,
    &tables::SECTION,
    &icmp::SECTION,
    &pcp::SECTION,
    &events::SECTION,
    &control::SECTION,
    &log::SECTION,
];

/// The file itself, the table above all others.
pub(crate) const ROOT: Section = Section { path: "", form: Form::Table, about: "", keys: &[] };

/// One table of the file.
pub(crate) struct Section {
    /// Dotted path: `alg.ftp`.
    pub(crate) path: &'static str,
    /// How it is written.
    pub(crate) form: Form,
    /// What it is for, the comment above it; empty: it only holds other tables.
    pub(crate) about: &'static str,
    /// Its keys, other than the tables in it.
    pub(crate) keys: &'static [Key],
}

/// How a table is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `[path]`, once.
    Table,
    /// `[[path]]`, as often as needed.
    List,
    /// `name = { ... }` in the table above.
    Inline,
}

/// One key of a table.
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// A value as one would write it.
    pub(crate) example: &'static str,
    /// What it does and why the default is what it is, the comment above it.
    pub(crate) reason: &'static str,
}

impl Section {
    /// The part of the path after the last dot.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The table as one would write it: `[workers]`, `[[nat.pool]]`.
    pub(crate) fn header(&self) -> String {
        match self.form {
            Form::Table if self.path.is_empty() => "the file".to_string(),
            Form::Table => format!("[{}]", self.path),
            Form::List => format!("[[{}]]", self.path),
            Form::Inline => self.path.to_string(),
        }
    }

    /// The tables directly below this one.
    pub(crate) fn children(&self) -> impl Iterator<Item = &'static Section> {
        let path = self.path;
        SECTIONS.iter().copied().filter(move |child| {
            child.path.rsplit_once('.').map_or("", |(parent, _)| parent) == path && !child.path.is_empty()
        })
    }

    /// What may stand in this table: its keys by name, the tables below it by header.
    pub(crate) fn entries(&self) -> Vec<(&'static str, String)> {
        let keys = self.keys.iter().map(|key| (key.name, key.name.to_string()));
        let tables = self.children().filter(|child| child.form != Form::Inline);
        keys.chain(tables.map(|child| (child.name(), child.header()))).collect()
    }

    /// What an unknown key of this table was probably meant to be.
    pub(crate) fn suggest(&self, unknown: &str) -> String {
        let others =
            SECTIONS.iter().filter(|section| section.entries().iter().any(|(name, _)| *name == unknown));
        let others: Vec<String> = others.map(|section| section.header()).collect();
        if !others.is_empty() {
            return format!("it belongs in {}", join_or(&others));
        }
        let entries = self.entries();
        let near = entries
            .iter()
            .map(|(name, written)| (strsim::normalized_damerau_levenshtein(name, unknown), written))
            .filter(|(likeness, _)| *likeness > 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((_, written)) => format!("did you mean {written}?"),
            None => {
                let written: Vec<String> = entries.into_iter().map(|(_, written)| written).collect();
                enumerate(if self.path.is_empty() { "table" } else { "key" }, &written)
            }
        }
    }
}

/// What there is to choose from: `the keys are a, b and c`.
pub(crate) fn enumerate(what: &str, words: &[String]) -> String {
    match words {
        [] => format!("there are no {what}s"),
        [one] => format!("the only {what} is {one}"),
        several => format!("the {what}s are {}", join(several, "and")),
    }
}

/// `a, b or c`
pub(crate) fn join_or(words: &[String]) -> String {
    join(words, "or")
}

fn join(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_and_key_is_declared_once_with_an_example() {
        for (index, section) in SECTIONS.iter().enumerate() {
            assert!(SECTIONS.iter().take(index).all(|other| other.path != section.path), "{}", section.path);
            for (index, key) in section.keys.iter().enumerate() {
                let name = format!("{} {}", section.path, key.name);
                assert!(section.keys.iter().take(index).all(|other| other.name != key.name), "{name}");
                let line = format!("{} = {}", key.name, key.example);
                assert!(toml::de::DeTable::parse(&line).is_ok(), "{name}: {line}");
            }
        }
    }

    #[test]
    fn suggests_the_right_table_before_a_near_key() {
        for (section, unknown, suggestion) in [
            (&eal::SECTION, "burst", "it belongs in [workers]"),
            (&eal::SECTION, "ftp", "it belongs in [alg]"),
            (&eal::SECTION, "hugepage", "did you mean hugepages?"),
            (&nat::SECTION, "pools", "did you mean [[nat.pool]]?"),
            (&ROOT, "interfaces", "did you mean [[interface]]?"),
            (&log::SECTION, "file", "the only key is level"),
        ] {
            assert_eq!(section.suggest(unknown), suggestion, "{unknown}");
        }
    }
}
