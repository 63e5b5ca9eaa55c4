//! `[[alg.rule]]`: which messages may pass; the first matching rule decides.
//!
//! One grammar for all ALGs. Texts have `*` for any bytes and `?` for one, and are compared without regard to case. A
//! rule that an earlier one leaves nothing is refused, as is one that asks for what its protocol does not have.

use ipnet::Ipv4Net;

use crate::address;
use crate::alg::mask;
use crate::interface::{self, Draft as Interface};
use crate::model::{AlgAction, AlgName, AlgRule, FilterDirection};
use crate::names;
use crate::print::{Printer, list, quoted};
use crate::read::{Field, Place, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "alg.rule",
    form: Form::List,
    about: "Which messages may pass an ALG: the first match decides; without one, all may.",
    keys: &[
        NAME,
        ALG,
        COMMAND,
        ARGUMENT,
        FILE_TYPE,
        USER,
        INTERNAL,
        PEER,
        DIRECTION,
        TENANT,
        UNREADABLE,
        ACTION,
        RATE_PER_SECOND,
        LOG,
        ALARM,
    ],
};

const NAME: Key = Key { name: "name", example: "\"no-uploads\"", reason: "What output calls it." };
const ALG: Key =
    Key { name: "alg", example: "\"ftp\"", reason: "Whose messages; without the line: those of every ALG." };
pub(super) const COMMAND: Key = Key {
    name: "command",
    example: "[\"STOR\", \"APPE\"]",
    reason: "Commands or methods; * stands for any letters, ? for one, case does not matter.",
};
const ARGUMENT: Key = Key {
    name: "argument",
    example: "[\"/private/*\"]",
    reason: "Paths, URIs or file names, with * and ?; compared once /../ and the like are resolved.",
};
pub(super) const FILE_TYPE: Key = Key {
    name: "file_type",
    example: "[\"exe\", \"scr\"]",
    reason: "What follows the last dot of a file's name, with * and ?.",
};
pub(super) const USER: Key = Key {
    name: "user",
    example: "[\"guest*\"]",
    reason: "Users that have logged in (FTP) or registered (SIP), with * and ?; before that, none matches.",
};
const INTERNAL: Key =
    Key { name: "internal", example: "[\"10.0.0.0/24\"]", reason: "Prefixes of the internal end." };
const PEER: Key =
    Key { name: "peer", example: "[\"198.51.100.0/24\"]", reason: "Prefixes of the other end." };
const DIRECTION: Key = Key {
    name: "direction",
    example: "\"outbound\"",
    reason: "outbound: the internal end sends it; inbound: the other one.",
};
const TENANT: Key = Key {
    name: "tenant",
    example: "7",
    reason: "Tenant of the internal end; 0: those of interfaces without one.",
};
pub(super) const UNREADABLE: Key = Key {
    name: "unreadable",
    example: "true",
    reason: "Only messages too long or malformed to be read; without a rule they pass as they are, and open nothing.",
};
const ACTION: Key = Key {
    name: "action",
    example: "\"deny\"",
    reason: "allow; deny: answer with the protocol's own error; drop: in silence; mask: hide what an end tells of itself.",
};
pub(super) const RATE_PER_SECOND: Key = Key {
    name: "rate_per_second",
    example: "10",
    reason: "So many a second pass all the same, 1 to 1000000; the action is for those beyond.",
};
const LOG: Key = Key { name: "log", example: "true", reason: "Whether a match goes into the log." };
const ALARM: Key = Key { name: "alarm", example: "true", reason: "The same, as a warning." };

pub(super) const ALGS: Choices<AlgName> = &[
    ("ftp", AlgName::Ftp),
    ("tftp", AlgName::Tftp),
    ("sip", AlgName::Sip),
    ("rtsp", AlgName::Rtsp),
    ("irc", AlgName::Irc),
    ("pptp", AlgName::Pptp),
];
const ACTIONS: Choices<AlgAction> = &[
    ("allow", AlgAction::Allow),
    ("deny", AlgAction::Deny),
    ("drop", AlgAction::Drop),
    ("mask", AlgAction::Mask),
];
const DIRECTIONS: Choices<FilterDirection> =
    &[("inbound", FilterDirection::Inbound), ("outbound", FilterDirection::Outbound)];

/// Each pattern takes 2 KiB, and each message is compared with all rules in turn.
const MAX_RULES: usize = 256;

/// Bytes of a pattern without its `*`: one bit each.
const PATTERN_BYTES: usize = 63;

/// Reads the list.
pub(crate) fn read(alg: &Table<'_>, interfaces: &[Interface<'_>]) -> Vec<AlgRule> {
    let mut names = names::Names::default();
    let mut rules: Vec<AlgRule> = Vec::new();
    let mut seen: Vec<(AlgRule, Place<'_>)> = Vec::new();
    for table in alg.tables(&SECTION) {
        if rules.len() == MAX_RULES {
            let problem = format!("is one more than the {MAX_RULES} rules supported");
            table.place.refuse(problem, "put several commands, arguments or prefixes into one rule");
            break;
        }
        let mistakes_before = table.place.mistakes();
        let name = table.require(&NAME, value::name);
        names.claim(&name);
        let rule = read_one(&table, name.map(|name| name.value).unwrap_or_default(), interfaces);
        if table.place.mistakes() == mistakes_before {
            if let Some((earlier, place)) = seen.iter().find(|(earlier, _)| covers(earlier, &rule)) {
                let problem =
                    format!("can never match: rule {:?} (line {}) matches first", earlier.name, place.line());
                table.place.refuse(problem, "move the narrower rule up, or remove it");
            }
            seen.push((rule.clone(), table.place.clone()));
        }
        rules.push(rule);
    }
    rules
}

/// Prints the list.
pub(crate) fn print(rules: &[AlgRule], out: &mut Printer) {
    for rule in rules {
        out.table(&SECTION).key(&NAME, quoted(&rule.name));
        if let Some(alg) = rule.alg {
            out.key(&ALG, quoted(value::word_of(ALGS, alg)));
        }
        for (key, texts) in [
            (&COMMAND, &rule.commands),
            (&ARGUMENT, &rule.arguments),
            (&FILE_TYPE, &rule.file_types),
            (&USER, &rule.users),
        ] {
            if !texts.is_empty() {
                out.key(key, list(texts.iter().map(quoted)));
            }
        }
        for (key, prefixes) in [(&INTERNAL, &rule.internal), (&PEER, &rule.peer)] {
            if !prefixes.is_empty() {
                out.key(key, list(prefixes.iter().map(quoted)));
            }
        }
        if let Some(direction) = rule.direction {
            out.key(&DIRECTION, quoted(value::word_of(DIRECTIONS, direction)));
        }
        if let Some(tenant) = rule.tenant {
            out.key(&TENANT, tenant);
        }
        if rule.unreadable {
            out.key(&UNREADABLE, rule.unreadable);
        }
        out.key(&ACTION, quoted(value::word_of(ACTIONS, rule.action)));
        if let Some(rate) = rule.rate_per_second {
            out.key(&RATE_PER_SECOND, rate);
        }
        if rule.log {
            out.key(&LOG, rule.log);
        }
        if rule.alarm {
            out.key(&ALARM, rule.alarm);
        }
    }
}

fn read_one(table: &Table<'_>, name: String, interfaces: &[Interface<'_>]) -> AlgRule {
    let alg = table.get(&ALG, value::choice(ALGS));
    let users = table.get_located(&USER, value::non_empty(value::distinct(pattern)));
    let knows_users = matches!(alg, None | Some(AlgName::Ftp | AlgName::Sip));
    if let Some(users) = users.as_ref().filter(|_| !knows_users) {
        let name = alg.map_or("", |alg| value::word_of(ALGS, alg));
        users.place.refuse(format!("can never match: {name} knows no users"), "remove the line");
    }
    let tenant = table.get_located(&TENANT, value::integer(0..=interface::MAX_TENANT));
    if let Some(tenant) = &tenant {
        interface::refuse_unknown_tenant(tenant, interfaces);
    }
    let action = table.require(&ACTION, value::choice(ACTIONS));
    if let Some(action) = action.as_ref().filter(|action| action.value == AlgAction::Mask) {
        mask::refuse_useless(table, alg, &action.place);
    }
    let action = action.map(|action| action.value);
    let rate = table.get_located(&RATE_PER_SECOND, value::integer(1..=1_000_000));
    if let Some(rate) = rate.as_ref().filter(|_| action == Some(AlgAction::Allow)) {
        rate.place.refuse("allows what is allowed already", "write action = \"deny\" or action = \"drop\"");
    }
    AlgRule {
        name,
        alg,
        commands: texts(table, &COMMAND),
        arguments: texts(table, &ARGUMENT),
        file_types: texts(table, &FILE_TYPE),
        users: users.into_iter().flat_map(|list| list.value).map(|user| user.value).collect(),
        internal: prefixes(table, &INTERNAL),
        peer: prefixes(table, &PEER),
        direction: table.get(&DIRECTION, value::choice(DIRECTIONS)),
        tenant: tenant.map(|tenant| tenant.value),
        unreadable: table.get(&UNREADABLE, value::boolean).unwrap_or(false),
        action: action.unwrap_or(AlgAction::Deny),
        rate_per_second: rate.map(|rate| rate.value),
        log: table.get(&LOG, value::boolean).unwrap_or(false),
        alarm: table.get(&ALARM, value::boolean).unwrap_or(false),
    }
}

pub(super) fn texts(table: &Table<'_>, key: &'static Key) -> Vec<String> {
    let list = table.get(key, value::non_empty(value::distinct(pattern)));
    list.into_iter().flatten().map(|text| text.value).collect()
}

/// Prefixes, at least one.
pub(super) fn prefixes(table: &Table<'_>, key: &'static Key) -> Vec<Ipv4Net> {
    let list = table.get(key, value::non_empty(value::distinct(address::prefix)));
    list.into_iter().flatten().map(|prefix| prefix.value).collect()
}

fn pattern(field: &Field<'_>) -> Option<String> {
    let written = value::text(field)?;
    let bytes = written.bytes().filter(|byte| *byte != b'*').count();
    if written.is_empty() || written.contains(char::is_control) {
        field.place.refuse("is not a pattern", "write text without control characters, e.g. \"*.exe\"");
    } else if bytes > PATTERN_BYTES {
        let problem = format!("has {bytes} bytes, a pattern has at most {PATTERN_BYTES} and any number of *");
        field.place.refuse(problem, "shorten it with *");
    } else {
        return Some(written.to_string());
    }
    None
}

/// Whether nothing is left for `later`.
fn covers(earlier: &AlgRule, later: &AlgRule) -> bool {
    fn one<T: PartialEq>(earlier: Option<T>, later: Option<T>) -> bool {
        earlier.is_none() || earlier == later
    }
    let nets = |earlier: &[Ipv4Net], later: &[Ipv4Net]| {
        let is_in = |net: &Ipv4Net| earlier.iter().any(|other| other.contains(net));
        earlier.is_empty() || (!later.is_empty() && later.iter().all(is_in))
    };
    let texts = |earlier: &[String], later: &[String]| {
        let is_in = |text: &String| earlier.iter().any(|other| takes_in(other.as_bytes(), text.as_bytes()));
        earlier.is_empty() || (!later.is_empty() && later.iter().all(is_in))
    };
    // A mask judges no message; what is allowed is not masked. What a rate lets through may still be unreadable.
    let is_asked_first = match (earlier.action, later.action) {
        (AlgAction::Mask, later) => later == AlgAction::Mask,
        (earlier, AlgAction::Mask) => earlier == AlgAction::Allow,
        _ => true,
    } && (!earlier.unreadable || later.unreadable)
        && (earlier.rate_per_second.is_none() || !later.unreadable || earlier.unreadable);
    is_asked_first
        && one(earlier.alg, later.alg)
        && one(earlier.direction, later.direction)
        && one(earlier.tenant, later.tenant)
        && nets(&earlier.internal, &later.internal)
        && nets(&earlier.peer, &later.peer)
        && texts(&earlier.commands, &later.commands)
        && texts(&earlier.arguments, &later.arguments)
        && texts(&earlier.file_types, &later.file_types)
        && texts(&earlier.users, &later.users)
}

/// Whether what matches `inner` matches `outer`: only a `*` takes a `*`. Row by row, one place of `inner` after another.
pub(super) fn takes_in(outer: &[u8], inner: &[u8]) -> bool {
    // reached[i]: the first i bytes of outer have taken what was read of inner.
    let skip_stars = |reached: &mut Vec<bool>| {
        for (at, byte) in outer.iter().enumerate() {
            if *byte == b'*' && reached.get(at) == Some(&true) {
                reached.splice(at + 1..=at + 1, [true]);
            }
        }
    };
    let mut reached = vec![false; outer.len() + 1];
    reached.splice(..1, [true]);
    skip_stars(&mut reached);
    for byte in inner {
        let mut next = vec![false; outer.len() + 1];
        for (at, (place, was)) in outer.iter().zip(&reached).enumerate().filter(|(_, (_, was))| **was) {
            let takes = match (place, byte) {
                (b'*', _) => at,
                (_, b'*') => continue,
                (b'?', _) => at + 1,
                (place, byte) if place.eq_ignore_ascii_case(byte) && *was => at + 1,
                _ => continue,
            };
            next.splice(takes..=takes, [true]);
        }
        skip_stars(&mut next);
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_star_takes_in_a_star() {
        let rows = [
            ("*", "a*", true),
            ("a*", "A?b", true),
            ("a?", "ab", true),
            ("a?", "a*", false),
            ("ab", "a?", false),
            ("*.exe", "x*.EXE", true),
            ("*.exe", "*.exe.txt", false),
            ("**", "", true),
            ("", "*", false),
        ];
        for (outer, inner, want) in rows {
            assert_eq!(takes_in(outer.as_bytes(), inner.as_bytes()), want, "{outer} {inner}");
        }
    }
}
