//! What a server tells about itself, hidden by policy; and lines that cannot be read, refused by it.

use super::*;
use crate::contract::{Ruling, Subject, Verdict};
use crate::testing::FakePolicy;

const FEATURES: &[u8] =
    b"211-Extensions supported by Foo 1.2:\r\n AUTH TLS\r\n EPSV\r\n MDTM\r\n211 End of Foo\r\n";

/// What the client reads of `turns` where `masks` says what is hidden.
fn heard(masks: fn(&Subject<'_>) -> bool, turns: &[Turn<'_>]) -> (String, Vec<(Event, u64)>) {
    let mut driver = session(internal_client());
    driver.masks = masks;
    for (direction, bytes) in turns {
        driver.feed(*direction, bytes);
    }
    (String::from_utf8(driver.outcome().reply).unwrap(), counted(&driver))
}

fn ready<'a>(turns: &[Turn<'a>]) -> Vec<Turn<'a>> {
    [&[(S, &b"220 a\r\n"[..])], turns].concat()
}

/// Everything but the greeting, which has rows of its own.
fn all(subject: &Subject<'_>) -> bool {
    assert_eq!(subject.direction, S);
    subject.command != b"greeting"
}

#[test]
fn hidden_features_are_taken_out_and_the_others_stay() {
    let no_tls = |subject: &Subject<'_>| subject.command == b"FEAT" && subject.argument.starts_with(b"AUTH");
    let (reply, events) = heard(no_tls, &ready(&[(C, b"feat\r\n"), (S, FEATURES)]));
    assert_eq!(
        reply,
        "220 a\r\n211-Extensions supported by Foo 1.2:\r\n EPSV\r\n MDTM\r\n211 End of Foo\r\n"
    );
    assert_eq!(events, [(Event::Masked, 1)]);
    let (reply, events) = heard(all, &ready(&[(C, b"FEAT\r\n"), (S, FEATURES)]));
    assert_eq!(reply, "220 a\r\n211-Features\r\n211 End\r\n");
    assert_eq!(events, [(Event::Masked, 5)]);
}

#[test]
fn each_answer_about_the_server_keeps_its_code_and_loses_its_text() {
    let rows: [(&str, &[u8], &[u8], &str); 11] = [
        ("system", b"SYST\r\n", b"215 UNIX Type: L8 (Foo)\r\n", "215 UNKNOWN\r\n"),
        ("its line end stays", b"SYST\n", b"215 UNIX\n", "215 UNKNOWN\n"),
        (
            "help",
            b"HELP\r\n",
            b"214-Foo 1.2\r\n214-RETR\r\n STOR\r\n214 OK\r\n",
            "214-Not shown\r\n214 Not shown\r\n",
        ),
        ("status", b"STAT\r\n", b"211-Foo\r\n TYPE\r\n211 End\r\n", "211-Not shown\r\n211 Not shown\r\n"),
        ("a list of files", b"STAT /\r\n", b"213-Foo\r\n a\r\n213 End\r\n", "213-Foo\r\n a\r\n213 End\r\n"),
        ("refused by the server", b"SYST\r\n", b"502 Foo has none\r\n", "502 Foo has none\r\n"),
        ("nothing to hide", b"SYST\r\n", b"215\r\n", "215\r\n"),
        ("of another command", b"PWD\r\n", b"257 /Foo\r\n", "257 /Foo\r\n"),
        ("a preliminary reply", b"STAT\r\n", b"150 Foo\r\n211 Foo\r\n", "150 Foo\r\n211 Not shown\r\n"),
        ("in their turn", b"PWD\r\nSYST\r\n", b"257 /\r\n215 Foo\r\n", "257 /\r\n215 UNKNOWN\r\n"),
        ("a reply nobody asked for", b"", b"215 Foo\r\n", "215 Foo\r\n"),
    ];
    for (name, asked, answer, want) in rows {
        let (reply, _) = heard(all, &ready(&[(C, asked), (S, answer)]));
        assert_eq!(reply, format!("220 a\r\n{want}"), "{name}");
    }
}

#[test]
fn a_hidden_greeting_still_opens_the_dialogue() {
    let greeting = |subject: &Subject<'_>| subject.command == b"greeting";
    let banner: &[u8] = b"120 soon\r\n220-Foo 1.2\r\n220-on Bar\r\n 220 x\r\n220 ready\r\n";
    let port: &[u8] = b"PORT 10,0,0,2,15,161\r\n";
    let (reply, events) = heard(greeting, &[(S, banner), (C, port), (S, b"200 ok\r\n")]);
    assert_eq!(reply, "120 soon\r\n220-Ready\r\n220 Ready\r\n200 ok\r\n");
    assert_eq!(events, [(Event::Rewritten, 1), (Event::Masked, 4)]);
}

#[test]
fn a_hidden_line_over_the_limit_is_hidden_to_its_end_however_it_comes() {
    let long = [b"215 ", &[b'x'; 600][..], b"\r\n"].concat();
    for cut in [1, 300, 512, 513, 605] {
        let turns = [
            (C, &b"SYST\r\n"[..]),
            (S, &long[..cut]),
            (S, &long[cut..]),
            (C, b"NOOP\r\n"),
            (S, b"200 a\r\n"),
        ];
        let (reply, _) = heard(all, &ready(&turns));
        assert_eq!(reply, "220 a\r\n215 UNKNOWN\r\n200 a\r\n", "cut at {cut}");
    }
    let between = [b"211-a\r\n ", &[b'x'; 600][..], b"\r\n211 b\r\n"].concat();
    let (reply, _) = heard(all, &ready(&[(C, b"FEAT\r\n"), (S, &between)]));
    assert_eq!(reply, "220 a\r\n211-Features\r\n211 End\r\n");
}

#[test]
fn a_masked_dialogue_is_the_same_in_every_segmentation() {
    let replies = [b"220-Foo\r\n220 a\r\n", FEATURES, b"215 UNIX\r\n214-a\r\n b\r\n214 c\r\n"].concat();
    let asked: &[u8] = b"FEAT\r\nSYST\r\nHELP\r\n";
    let greeting = b"220-Foo\r\n220 a\r\n".len();
    let run = |piece: usize| {
        let mut turns: Vec<Turn<'_>> = replies[..greeting].chunks(piece).map(|bytes| (S, bytes)).collect();
        turns.push((C, asked));
        turns.extend(replies[greeting..].chunks(piece).map(|bytes| (S, bytes)));
        heard(|_| true, &turns)
    };
    let whole = run(usize::MAX);
    assert_eq!(
        whole.0,
        "220-Ready\r\n220 Ready\r\n211-Features\r\n211 End\r\n215 UNKNOWN\r\n214-Not shown\r\n214 Not shown\r\n"
    );
    for piece in 1..20 {
        assert_eq!(run(piece), whole, "{piece} bytes at a time");
    }
}

/// A session whose policy refuses what cannot be read.
fn strict(ruling: fn(&Subject<'_>) -> Ruling) -> Driver<Ftp> {
    let mut driver = greeted(internal_client());
    driver.unreadable = ruling;
    driver
}

#[test]
fn a_malformed_command_is_answered_with_501_where_policy_refuses_it() {
    let rows: [(&[u8], &str); 4] = [
        (b"PORT 10,0,0,2,256,0\r\n", "501 Refused by policy.\r\n"),
        (b"EPRT |1|10.0.0.2\r\n", "501 Refused by policy.\r\n"),
        (b"PORT 10,0,0,2,15,161\r\n", ""),
        (b"EPRT |2|::1|4001|\r\n", ""),
    ];
    for (line, answer) in rows {
        let mut driver = strict(|_| Ruling::Deny);
        driver.feed(C, line);
        let outcome = driver.outcome();
        assert_eq!(String::from_utf8_lossy(&outcome.reply[7 + 4..]), answer, "{}", line.escape_ascii());
        assert_eq!(outcome.original.is_empty(), !answer.is_empty(), "{}", line.escape_ascii());
    }
    let mut silent = strict(|subject| if subject.command == b"PORT" { Ruling::Drop } else { Ruling::Allow });
    silent.feed(C, b"PORT x\r\nEPRT x\r\n");
    assert_eq!(silent.outcome().original, b"EPRT x\r\n");
    assert_eq!(counted(&silent), [(Event::Malformed, 2), (Event::Removed, 1), (Event::Denied, 1)]);
    let mut passing = greeted(internal_client());
    passing.feed(C, b"PORT x\r\n");
    assert_eq!(passing.outcome().original, b"PORT x\r\n", "as it is, without a rule");
}

#[test]
fn a_servers_line_that_cannot_be_read_ends_the_session_where_policy_refuses_it() {
    let long = [b"257 ", &[b'x'; 600][..], b"\r\n"].concat();
    let rows: [(&str, &[u8], &[u8], bool); 5] = [
        ("over the limit", b"PWD\r\n", &long, true),
        ("a 227 that announces nothing", b"PASV\r\n", b"227 Logout.\r\n", true),
        ("a 229 that announces nothing", b"EPSV\r\n", b"229 (|||66000|)\r\n", true),
        ("a 227 nobody asked for", b"QUIT\r\n", b"227 Logout.\r\n", false),
        ("readable", b"PASV\r\n", b"227 (203,0,113,9,15,161)\r\n", false),
    ];
    for (name, asked, answer, ends) in rows {
        let mut driver = strict(|subject| if subject.direction == S { Ruling::Drop } else { Ruling::Allow });
        driver.feed(C, asked);
        driver.feed(S, answer);
        let last = driver.outcome().decided.last().map(|decided| decided.verdict);
        assert_eq!(last == Some(Verdict::Terminate), ends, "{name}: {last:?}");
        assert_eq!(driver.count_of(Event::Denied), u64::from(ends), "{name}");
    }
}

#[test]
fn a_command_over_the_limit_is_refused_with_its_rest_by_a_rule_for_it() {
    let mut driver = greeted(internal_client());
    driver.policy =
        FakePolicy(|subject| if subject.command == b"CWD" { Ruling::Deny } else { Ruling::Allow });
    let long = [b"CWD ", &[b'x'; 600][..], b"\r\nNOOP\r\n"].concat();
    driver.feed(C, &long);
    assert_eq!(driver.outcome().original, b"NOOP\r\n");
    assert_eq!(driver.outcome().reply, b"220 ready\r\n550 Refused by policy.\r\n");
}
