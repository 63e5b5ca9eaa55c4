//! A cursor over the parsed file that knows where everything stands.
//!
//! A reader asks a [`Table`] for a key and gets its value, or `None` when it is absent or wrong. What
//! is wrong is noted in the [`Document`] on the way, and reading goes on: one pass finds everything.
//! The value that a reader puts in place of a wrong one is never seen, for [`Document::finish`] then
//! returns the errors instead of the config.

use std::cell::RefCell;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::errors::{Error, Errors};
use crate::schema::{Form, Key, ROOT, Section};

/// The file and the mistakes found in it so far.
pub(crate) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    errors: RefCell<Vec<Error>>,
}

impl<'a> Document<'a> {
    /// A file that has not been read yet.
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, errors: RefCell::new(Vec::new()) }
    }

    /// Notes what the TOML parser found, the first mistake of each line. A key given twice leaves the
    /// rest intact; anything else may have swallowed lines, so it is returned without looking further.
    pub(crate) fn check_syntax(&self, found: &[toml::de::Error]) -> Result<(), Errors> {
        let mut found: Vec<_> = found.iter().map(|e| (e.span().unwrap_or_default(), e.message())).collect();
        found.sort_by_key(|(span, _)| (span.start, span.end));
        found.dedup_by_key(|(span, _)| self.position(span.start).0);
        let mut is_readable = true;
        for (span, message) in found {
            let mut place = Place { document: self, key: String::new(), span, shows_value: true };
            if message == DUPLICATE_KEY {
                place.key = self.written(&place.span);
                place.shows_value = false;
                place.refuse("is given twice", "keep one of the two");
            } else {
                is_readable = false;
                place.span = self.line_around(place.span.start);
                place.refuse(format!("is not TOML: {message}"), "correct the line");
            }
        }
        if is_readable { Ok(()) } else { self.finish(()) }
    }

    /// The value read, or all the mistakes.
    pub(crate) fn finish<T>(&self, value: T) -> Result<T, Errors> {
        Errors::collect(self.errors.take()).map_or(Ok(value), Err)
    }

    /// Line and column (in characters) of a byte offset, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        (line, column)
    }

    fn line_around(&self, offset: usize) -> Range<usize> {
        let (before, after) = self.text.split_at_checked(offset).unwrap_or((self.text, ""));
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = before.len() + after.find('\n').unwrap_or(after.len());
        start..end
    }

    /// The text of a span on one line, shortened: it goes into a message.
    fn written(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = words.chars().take(SHOWN_CHARS).flat_map(escape_control).collect();
        if words.chars().count() > SHOWN_CHARS {
            shown.push_str("...");
        }
        shown
    }
}

/// A spot in the file that a mistake can be pinned to.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    document: &'a Document<'a>,
    key: String,
    span: Range<usize>,
    shows_value: bool,
}

impl Place<'_> {
    /// Notes a mistake here.
    pub(crate) fn refuse(&self, problem: impl Into<String>, remedy: impl Into<String>) {
        let (line, column) = self.document.position(self.span.start);
        self.document.errors.borrow_mut().push(Error {
            file: self.document.file.to_string(),
            line,
            column,
            key: self.key.clone(),
            value: if self.shows_value { self.document.written(&self.span) } else { String::new() },
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// How many mistakes have been noted so far, anywhere: tells whether a step noted one.
    pub(crate) fn mistakes(&self) -> usize {
        self.document.errors.borrow().len()
    }

    /// The line, from 1.
    pub(crate) fn line(&self) -> usize {
        self.document.position(self.span.start).0
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Located<'a, T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) place: Place<'a>,
}

/// One table of the file, whose keys are all known to its section.
#[derive(Clone)]
pub(crate) struct Table<'a> {
    /// Where its header stands.
    pub(crate) place: Place<'a>,
    section: &'static Section,
    entries: Option<&'a DeTable<'a>>,
}

impl<'a> Table<'a> {
    /// The file's outermost table.
    pub(crate) fn root(document: &'a Document<'a>, entries: &'a DeTable<'a>) -> Self {
        let place = Place { document, key: String::new(), span: 0..0, shows_value: false };
        Self::open(place, &ROOT, entries)
    }

    /// Refuses the keys that the section does not have.
    fn open(place: Place<'a>, section: &'static Section, entries: &'a DeTable<'a>) -> Self {
        let table = Self { place, section, entries: Some(entries) };
        let known: Vec<&str> = section.entries().into_iter().map(|(name, _)| name).collect();
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let place = Place { span: key.span(), ..table.place_absent(name) };
                let problem = match section.path {
                    "" => "is not a table of this file".to_string(),
                    _ => format!("is not a key of {}", section.header()),
                };
                place.refuse(problem, section.suggest(name));
            }
        }
        table
    }

    /// The table `[section]` in this one; an absent one reads as empty.
    pub(crate) fn table(&self, section: &'static Section) -> Table<'a> {
        let absent = || Table { place: self.place_absent(section.name()), section, entries: None };
        let Some((place, value)) = self.entry(section.name()) else { return absent() };
        match value {
            DeValue::Table(entries) => Table::open(place, section, entries),
            other => {
                place.refuse(
                    format!("is {}, not a table", type_of(other)),
                    format!("write {}", section.header()),
                );
                absent()
            }
        }
    }

    /// The tables `[[section]]` in this one, in file order.
    pub(crate) fn tables(&self, section: &'static Section) -> Vec<Table<'a>> {
        let Some((place, value)) = self.entry(section.name()) else { return Vec::new() };
        let DeValue::Array(array) = value else {
            place.refuse(
                format!("is {}, not a list of tables", type_of(value)),
                format!("write {} for each", section.header()),
            );
            return Vec::new();
        };
        let open = |(index, entry): (usize, &'a toml::Spanned<DeValue<'a>>)| {
            let key = format!("{}[{index}]", place.key);
            let DeValue::Table(entries) = entry.get_ref() else {
                let place = Place { key, span: entry.span(), shows_value: true, ..place.clone() };
                place.refuse(
                    format!("is {}, not a table", type_of(entry.get_ref())),
                    format!("write {} for each", section.header()),
                );
                return None;
            };
            let place = Place { key, span: entry.span(), shows_value: false, ..place.clone() };
            Some(Table::open(place, section, entries))
        };
        array.iter().enumerate().filter_map(open).collect()
    }

    /// The tables `[[section]]` in this one, of which one is needed at least.
    pub(crate) fn require_tables(&self, section: &'static Section, remedy: &str) -> Vec<Table<'a>> {
        match self.entry(section.name()) {
            None => self.place_absent(section.name()).refuse("is missing", remedy),
            Some((place, DeValue::Array(entries))) if entries.is_empty() => place.refuse("is empty", remedy),
            Some(_) => {}
        }
        self.tables(section)
    }

    /// Whether the key is written, right or wrong.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.entry(key.name).is_some()
    }

    /// A key's value and place. `None`: absent, or wrong and noted.
    pub(crate) fn get_located<T>(
        &self,
        key: &'static Key,
        read: impl Fn(&Field<'a>) -> Option<T>,
    ) -> Option<Located<'a, T>> {
        let (place, value) = self.entry(key.name)?;
        let field = Field { place, key, value };
        let value = read(&field)?;
        Some(Located { value, place: field.place })
    }

    /// A key's value. `None`: absent, or wrong and noted.
    pub(crate) fn get<T>(&self, key: &'static Key, read: impl Fn(&Field<'a>) -> Option<T>) -> Option<T> {
        self.get_located(key, read).map(|located| located.value)
    }

    /// A key that must be there. `None`: absent or wrong, either is noted.
    pub(crate) fn require<T>(
        &self,
        key: &'static Key,
        read: impl Fn(&Field<'a>) -> Option<T>,
    ) -> Option<Located<'a, T>> {
        if !self.has(key) {
            let remedy = match self.section.form {
                Form::Inline => format!("add {} = {} to it", key.name, key.example),
                _ => format!("add a line like {} = {}", key.name, key.example),
            };
            self.place_absent(key.name).refuse("is missing", remedy);
        }
        self.get_located(key, read)
    }

    /// Where an absent key would be looked for: the table's header.
    pub(crate) fn place_absent(&self, name: &str) -> Place<'a> {
        Place { key: self.key_of(name), shows_value: false, ..self.place.clone() }
    }

    fn entry(&self, name: &str) -> Option<(Place<'a>, &'a DeValue<'a>)> {
        let value = self.entries?.get(name)?;
        Some((self.place_of(name, value.span(), value.get_ref()), value.get_ref()))
    }

    fn place_of(&self, name: &str, span: Range<usize>, value: &DeValue<'_>) -> Place<'a> {
        Place { key: self.key_of(name), span, shows_value: !holds_tables(value), ..self.place.clone() }
    }

    fn key_of(&self, name: &str) -> String {
        let name: String = name.chars().take(SHOWN_CHARS).flat_map(escape_control).collect();
        if self.place.key.is_empty() { name } else { format!("{}.{name}", self.place.key) }
    }
}

/// One written value: what the readers in [`crate::value`] judge.
pub(crate) struct Field<'a> {
    /// Where it stands.
    pub(crate) place: Place<'a>,
    /// Its key, or that of the list it is in.
    pub(crate) key: &'static Key,
    /// The value.
    pub(crate) value: &'a DeValue<'a>,
}

impl<'a> Field<'a> {
    /// Notes that the value's type is wrong; `wanted` has its article.
    pub(crate) fn refuse_type(&self, wanted: &str) {
        self.place.refuse(
            format!("is {}, not {wanted}", type_of(self.value)),
            format!("write e.g. {} = {}", self.key.name, self.key.example),
        );
    }

    /// The value as an inline table, `None` and noted if it is none.
    pub(crate) fn table(&self, section: &'static Section) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.value else {
            self.refuse_type("a table");
            return None;
        };
        let place = Place { shows_value: false, ..self.place.clone() };
        Some(Table::open(place, section, entries))
    }

    /// The entries, if the value is a list.
    pub(crate) fn entries(&self) -> Option<Vec<Field<'a>>> {
        let DeValue::Array(entries) = self.value else { return None };
        let field = |entry: &'a toml::Spanned<DeValue<'a>>| Field {
            place: Place { span: entry.span(), shows_value: true, ..self.place.clone() },
            key: self.key,
            value: entry.get_ref(),
        };
        Some(entries.iter().map(field).collect())
    }
}

fn holds_tables(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(entries) => entries.iter().any(|entry| entry.get_ref().is_table()),
        _ => false,
    }
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Terminals must not obey what a file contains.
fn escape_control(c: char) -> impl Iterator<Item = char> {
    let (as_is, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    as_is.into_iter().chain(escaped.into_iter().flatten())
}

/// The TOML parser's message for the one mistake that leaves the other tables readable.
const DUPLICATE_KEY: &str = "duplicate key";

/// Characters of a value that a message shows.
const SHOWN_CHARS: usize = 60;
