//! The effective config as TOML: every default filled in, a line of reason above each key.

use std::fmt::{Display, Write};

use crate::schema::{Key, Section};

/// Builds the text, table by table.
#[derive(Default)]
pub(crate) struct Printer {
    text: String,
    table: &'static str,
    /// What has its reason already, as table and key: in a list, the first entry carries the reasons.
    explained: Vec<(&'static str, &'static str)>,
}

impl Printer {
    /// Begins a table.
    pub(crate) fn table(&mut self, section: &Section) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.table = section.path;
        self.explain("", section.about);
        self.line(format_args!("{}", section.header()))
    }

    /// Adds a key to the table begun last.
    pub(crate) fn key(&mut self, key: &Key, value: impl Display) -> &mut Self {
        self.explain(key.name, key.reason);
        self.line(format_args!("{} = {value}", key.name))
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn explain(&mut self, key: &'static str, reason: &str) {
        if !self.explained.contains(&(self.table, key)) {
            self.explained.push((self.table, key));
            self.line(format_args!("# {reason}"));
        }
    }

    fn line(&mut self, line: impl Display) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
        self
    }
}

/// A TOML string.
pub(crate) fn quoted(text: impl Display) -> String {
    let mut quoted = String::from('"');
    for c in text.to_string().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A TOML list of values that are TOML already.
pub(crate) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(", "))
}

/// An inline table.
pub(crate) fn inline(entries: &[(&Key, String)]) -> String {
    let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{} = {value}", key.name)).collect();
    format!("{{ {} }}", entries.join(", "))
}
