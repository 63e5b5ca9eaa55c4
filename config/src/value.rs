//! Readers of single values: each judges one [`Field`], notes what is wrong with it, and returns it
//! in the model's type.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::duration;
use crate::read::{Field, Located};
use crate::schema::join_or;

/// The words of a choice and what each one means; the first is the one to show as an example.
pub(crate) type Choices<T> = &'static [(&'static str, T)];

/// An integer in a range.
pub(crate) fn integer<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Field<'_>) -> Option<T> {
    move |field| {
        let DeValue::Integer(written) = field.value else {
            field.refuse_type("an integer");
            return None;
        };
        let is_negative = written.as_str().starts_with('-');
        let value = i128::from_str_radix(written.as_str(), written.radix()).ok();
        let value = value.unwrap_or(if is_negative { i128::MIN } else { i128::MAX });
        in_range(field, value, i128::from(*range.start()), i128::from(*range.end()), |bound| {
            bound.to_string()
        })?;
        u64::try_from(value).ok().and_then(|value| T::try_from(value).ok())
    }
}

/// A power of two in a range whose ends are powers of two.
pub(crate) fn power_of_two<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Field<'_>) -> Option<T> {
    move |field| {
        let value: u64 = integer(range.clone())(field)?;
        if !value.is_power_of_two() {
            let above = value.next_power_of_two();
            field.place.refuse("is not a power of two", format!("choose {} or {above}", above / 2));
            return None;
        }
        T::try_from(value).ok()
    }
}

/// `true` or `false`.
pub(crate) fn boolean(field: &Field<'_>) -> Option<bool> {
    let value = field.value.as_bool();
    if value.is_none() {
        field.refuse_type("a boolean");
    }
    value
}

/// One of several words.
pub(crate) fn choice<T: Copy>(choices: Choices<T>) -> impl Fn(&Field<'_>) -> Option<T> {
    move |field| {
        let written = text(field)?;
        let chosen = choices.iter().find(|(word, _)| *word == written).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            field.place.refuse("is not one of the choices", format!("write {}", join_or(&words)));
        }
        chosen
    }
}

/// The word of a choice.
pub(crate) fn word_of<T: Copy + PartialEq>(choices: Choices<T>, value: T) -> &'static str {
    choices.iter().find(|(_, candidate)| *candidate == value).map_or("", |(word, _)| word)
}

/// A string.
pub(crate) fn text<'a>(field: &Field<'a>) -> Option<&'a str> {
    let value = field.value.as_str();
    if value.is_none() {
        field.refuse_type("a string");
    }
    value
}

/// A name of algate's own: letters, digits, `_`, `-` and `.`, at most 32.
pub(crate) fn name(field: &Field<'_>) -> Option<String> {
    let written = text(field)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (1..=32).contains(&written.len()) && written.chars().all(is_name) {
        return Some(written.to_string());
    }
    field.place.refuse("is not a name", "use 1 to 32 letters, digits, _, - and .");
    None
}

/// The name of a kernel interface.
pub(crate) fn kernel_interface(field: &Field<'_>) -> Option<String> {
    let written = text(field)?;
    let is_allowed = |c: char| c.is_ascii_graphic() && !"/:,=".contains(c);
    if (1..=15).contains(&written.len()) && written.chars().all(is_allowed) && ![".", ".."].contains(&written)
    {
        return Some(written.to_string());
    }
    let remedy = "use 1 to 15 characters without spaces, slash, colon, comma and equals sign";
    field.place.refuse("is not a kernel interface's name", remedy);
    None
}

/// A path. EAL separates its device arguments by commas, so a path cannot have one.
pub(crate) fn path(field: &Field<'_>) -> Option<PathBuf> {
    let written = text(field)?;
    if !written.is_empty() && !written.contains(|c: char| c == ',' || c.is_control()) {
        return Some(PathBuf::from(written));
    }
    field.place.refuse("is not a usable path", "give one without commas and control characters");
    None
}

/// The absolute path of a Unix socket, short enough for the kernel's `sun_path`.
pub(crate) fn socket_path(field: &Field<'_>) -> Option<PathBuf> {
    let path = path(field)?;
    let bytes = path.as_os_str().len();
    if !path.is_absolute() {
        field.place.refuse("is not an absolute path", "begin it with /");
    } else if bytes > SOCKET_PATH_BYTES {
        let problem = format!("is {bytes} bytes long, a socket's path has at most {SOCKET_PATH_BYTES}");
        field.place.refuse(problem, "choose a shorter path");
    } else {
        return Some(path);
    }
    None
}

/// A duration in a range.
pub(crate) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Field<'_>) -> Option<Duration> {
    move |field| {
        let value = duration_unbounded(field)?;
        in_range(field, value, *range.start(), *range.end(), duration::print)
    }
}

fn duration_unbounded(field: &Field<'_>) -> Option<Duration> {
    let DeValue::String(written) = field.value else {
        field.refuse_type("a duration in quotes");
        return None;
    };
    let value = duration::parse(written);
    if value.is_none() {
        let remedy =
            "write numbers with the units d, h, m, s or ms, longest first, e.g. \"2h4m\" or \"300ms\"";
        field.place.refuse("is not a duration", remedy);
    }
    value
}

/// An inclusive range of L4 ports: `1024-65535`.
pub(crate) fn l4_port_range(field: &Field<'_>, example: &str) -> Option<(u16, u16)> {
    let written = text(field)?;
    let ports = written.split_once('-').map(|(low, high)| (low.trim().parse(), high.trim().parse()));
    let Some((Ok(low), Ok(high))) = ports else {
        field.place.refuse("is not a range of L4 ports", format!("write first-last, e.g. \"{example}\""));
        return None;
    };
    if low > high {
        field.place.refuse("ends before it begins", format!("write \"{high}-{low}\""));
        return None;
    }
    Some((low, high))
}

/// A list; entries that are wrong are noted and left out.
pub(crate) fn list<'a, T>(
    read: impl Fn(&Field<'a>) -> Option<T>,
) -> impl Fn(&Field<'a>) -> Option<Vec<Located<'a, T>>> {
    move |field| {
        let Some(entries) = field.entries() else {
            field.refuse_type("a list");
            return None;
        };
        let locate = |entry: Field<'a>| Some(Located { value: read(&entry)?, place: entry.place });
        Some(entries.into_iter().filter_map(locate).collect())
    }
}

/// A list in which nothing stands twice.
pub(crate) fn distinct<'a, T: PartialEq>(
    read: impl Fn(&Field<'a>) -> Option<T>,
) -> impl Fn(&Field<'a>) -> Option<Vec<Located<'a, T>>> {
    let list = list(read);
    move |field| {
        let entries = list(field)?;
        for (index, entry) in entries.iter().enumerate() {
            if entries.iter().take(index).any(|earlier| earlier.value == entry.value) {
                entry.place.refuse("stands in the list twice", "remove one of the two");
            }
        }
        Some(entries)
    }
}

/// A list with at least one entry.
pub(crate) fn non_empty<'a, T>(list: impl Fn(&Field<'a>) -> Option<T>) -> impl Fn(&Field<'a>) -> Option<T> {
    move |field| {
        if field.value.as_array().is_some_and(|entries| entries.is_empty()) {
            field.place.refuse("is empty", format!("write e.g. {} = {}", field.key.name, field.key.example));
            return None;
        }
        list(field)
    }
}

fn in_range<T: PartialOrd, D: Display>(
    field: &Field<'_>,
    value: T,
    min: T,
    max: T,
    print: impl Fn(T) -> D,
) -> Option<T> {
    if value >= min && value <= max {
        return Some(value);
    }
    let is_below = value < min;
    let (min, max) = (print(min), print(max));
    let problem =
        if is_below { format!("is below the minimum {min}") } else { format!("is above the maximum {max}") };
    field.place.refuse(problem, format!("choose {min} to {max}"));
    None
}

/// `sockaddr_un::sun_path` is 108 bytes with its terminating zero.
const SOCKET_PATH_BYTES: usize = 107;
