//! Rules, row by row and against a matcher that tries everything.

use proptest::prelude::*;

use super::*;

const FACTS: Facts = Facts {
    protocol: ProtocolId::Ftp,
    internal: Ipv4Addr::new(10, 0, 0, 2),
    peer: Ipv4Addr::new(203, 0, 113, 9),
    tenant: 0,
    outbound: Direction::Original,
};

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
}

fn prefix(text: &str) -> Prefix {
    let (network, length) = text.split_once('/').unwrap();
    Prefix { network: network.parse().unwrap(), length: length.parse().unwrap() }
}

/// A rule that refuses everything.
fn rule() -> Rule {
    Rule {
        protocol: None,
        commands: Vec::new(),
        arguments: Vec::new(),
        file_types: Vec::new(),
        users: Vec::new(),
        internal: Vec::new(),
        peer: Vec::new(),
        way: None,
        tenant: None,
        is_unreadable: false,
        action: Action::Rule(Ruling::Deny),
        rate_per_second: None,
    }
}

fn subject<'a>(command: &'a str, argument: &'a [u8], user: &'a str) -> Subject<'a> {
    Subject { direction: Direction::Original, command: command.as_bytes(), argument, user: user.as_bytes() }
}

fn judge(rules: &Rules, facts: &Facts, subject: &Subject<'_>) -> Option<(usize, Ruling)> {
    let judgement = rules.judge(facts, subject, Question::Message, 0, &mut Scratch::new(256))?;
    Some((judgement.rule, judgement.ruling))
}

fn is_refused(rule: Rule, facts: &Facts, subject: &Subject<'_>) -> bool {
    judge(&Rules::new(vec![rule]), facts, subject).is_some()
}

/// Tries every way to match.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
        Some((b'?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
        Some((byte, rest)) => {
            text.first().is_some_and(|first| first.eq_ignore_ascii_case(byte)) && naive(rest, &text[1..])
        }
    }
}

#[test]
fn text_is_compared_as_a_whole_without_regard_to_case() {
    let rows = [
        ("RETR", "retr", true),
        ("RETR", "RETRX", false),
        ("RETR", "RET", false),
        ("X*", "xSHA1", true),
        ("*.exe", ".EXE", true),
        ("*.exe", "a.exe.txt", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("**", "anything", true),
    ];
    for (pattern, text, want) in rows {
        assert_eq!(Pattern::new(pattern).unwrap().matches(text.as_bytes()), want, "{pattern} {text}");
    }
}

#[test]
fn a_pattern_has_63_places_and_no_more() {
    let longest = "a".repeat(Pattern::PLACES);
    assert!(Pattern::new(&format!("*{longest}*")).unwrap().matches(longest.as_bytes()));
    assert_eq!(Pattern::new(&format!("{longest}?")).unwrap_err(), TooLong);
}

#[test]
fn arguments_are_compared_as_the_server_understands_them() {
    let rows: [(&str, &str, &str); 20] = [
        ("ftp", "pub/a", "pub/a"),
        ("ftp", "/pub//./a", "/pub/a"),
        ("ftp", "pub/../etc/passwd", "etc/passwd"),
        ("ftp", "pub/x/../../etc", "etc"),
        ("ftp", "../../etc", "../../etc"),
        ("ftp", "a/../../etc", "../etc"),
        ("ftp", "../a/../b", "../b"),
        ("ftp", "/../../etc", "/etc"),
        ("ftp", "..\\a\\.\\b", "../a/b"),
        ("ftp", "a/..", ""),
        ("ftp", "a/b/", "a/b/"),
        ("ftp", "a/b/..", "a/"),
        ("ftp", "%2e%2e/a", "%2e%2e/a"),
        ("ftp", "", ""),
        ("ftp", "..", ".."),
        ("rtsp", "rtsp://cam/pub/%2e%2e/private", "rtsp://cam/private"),
        ("rtsp", "rtsp://cam/../../private", "rtsp://cam/private"),
        ("rtsp", "rtsp://cam", "rtsp://cam"),
        ("rtsp", "rtsp://cam/a%5c..%5Cb%", "rtsp://cam/b%"),
        ("sip", "sip:bob@10.0.0.2", "sip:bob@10.0.0.2"),
    ];
    for (protocol, written, want) in rows {
        let protocol = ProtocolId::ALL.into_iter().find(|one| one.name() == protocol).unwrap();
        let mut memory = Vec::with_capacity(64);
        let argument = Argument::resolve(protocol, written.as_bytes(), false, &mut memory);
        assert_eq!(String::from_utf8_lossy(argument.text), want, "{written}");
    }
}

#[test]
fn a_file_type_is_behind_the_last_dot_of_the_last_part() {
    let rows = [
        ("ftp", "a.exe", true),
        ("ftp", "a.tar.EXE", true),
        ("ftp", "x/a.exe", true),
        ("ftp", "a.exe. .", true),
        ("ftp", "a.exe::$DATA", true),
        ("ftp", ".exe", true),
        ("ftp", "exe", false),
        ("ftp", "a.exe/b", false),
        ("ftp", "a.exe/../b.txt", false),
        ("ftp", "a.exe?x", false),
        ("rtsp", "rtsp://cam/a.exe?x=.txt", true),
        ("rtsp", "rtsp://cam/a%2eexe", true),
        ("ftp", "", false),
    ];
    for (protocol, argument, want) in rows {
        let protocol = ProtocolId::ALL.into_iter().find(|one| one.name() == protocol).unwrap();
        let rule = Rule { file_types: patterns(&["exe"]), ..rule() };
        let facts = Facts { protocol, ..FACTS };
        assert_eq!(is_refused(rule, &facts, &subject("RETR", argument.as_bytes(), "")), want, "{argument}");
    }
}

#[test]
fn each_key_narrows_a_rule() {
    let matching = subject("RETR", b"a/b.exe", "bob");
    assert!(is_refused(rule(), &FACTS, &matching));
    let rows: [(&str, Rule, bool); 18] = [
        ("protocol", Rule { protocol: Some(ProtocolId::Ftp), ..rule() }, true),
        ("other protocol", Rule { protocol: Some(ProtocolId::Sip), ..rule() }, false),
        ("command", Rule { commands: patterns(&["STOR", "ret*"]), ..rule() }, true),
        ("other command", Rule { commands: patterns(&["STOR"]), ..rule() }, false),
        ("argument", Rule { arguments: patterns(&["x", "a/*"]), ..rule() }, true),
        ("other argument", Rule { arguments: patterns(&["b/*"]), ..rule() }, false),
        ("user", Rule { users: patterns(&["BOB"]), ..rule() }, true),
        ("other user", Rule { users: patterns(&["alice"]), ..rule() }, false),
        ("internal", Rule { internal: vec![prefix("10.0.0.0/24")], ..rule() }, true),
        ("other internal", Rule { internal: vec![prefix("10.0.1.0/24")], ..rule() }, false),
        ("peer", Rule { peer: vec![prefix("198.51.100.0/24"), prefix("0.0.0.0/0")], ..rule() }, true),
        ("other peer", Rule { peer: vec![prefix("203.0.113.8/32")], ..rule() }, false),
        ("outbound", Rule { way: Some(Way::Outbound), ..rule() }, true),
        ("inbound", Rule { way: Some(Way::Inbound), ..rule() }, false),
        ("tenant", Rule { tenant: Some(0), ..rule() }, true),
        ("other tenant", Rule { tenant: Some(7), ..rule() }, false),
        (
            "type and argument",
            Rule { file_types: patterns(&["exe"]), arguments: patterns(&["c*"]), ..rule() },
            false,
        ),
        ("one address", Rule { peer: vec![prefix("203.0.113.9/32")], ..rule() }, true),
    ];
    for (name, rule, want) in rows {
        assert_eq!(is_refused(rule, &FACTS, &matching), want, "{name}");
    }
    let inbound = Subject { direction: Direction::Reply, ..matching };
    assert!(is_refused(Rule { way: Some(Way::Inbound), ..rule() }, &FACTS, &inbound));
    let nobody = Rule { users: patterns(&["*"]), ..rule() };
    assert!(!is_refused(nobody, &FACTS, &subject("RETR", b"", "")), "nobody has proved to be anybody");
}

#[test]
fn the_first_match_decides_and_none_is_none() {
    let rules = Rules::new(vec![
        Rule { arguments: patterns(&["pub/*"]), action: Action::Rule(Ruling::Allow), ..rule() },
        Rule { commands: patterns(&["RETR"]), action: Action::Rule(Ruling::Drop), ..rule() },
        Rule { commands: patterns(&["RETR", "STOR"]), ..rule() },
    ]);
    let judged = |command, argument: &[u8]| judge(&rules, &FACTS, &subject(command, argument, ""));
    assert_eq!(judged("RETR", b"pub/a"), Some((0, Ruling::Allow)));
    assert_eq!(judged("RETR", b"pub/../a"), Some((1, Ruling::Drop)));
    assert_eq!(judged("STOR", b"a"), Some((2, Ruling::Deny)));
    assert_eq!(judged("NOOP", b""), None);
}

#[test]
fn what_is_not_all_there_is_refused_where_it_might_be() {
    let rules = Rules::new(vec![
        Rule { arguments: patterns(&["*"]), action: Action::Rule(Ruling::Allow), ..rule() },
        Rule { commands: patterns(&["RETR"]), file_types: patterns(&["exe"]), ..rule() },
    ]);
    let mut scratch = Scratch::new(16);
    let cut = rules.judge(&FACTS, &subject("RETR", b"abc", ""), Question::Cut, 0, &mut scratch);
    assert_eq!(cut, Some(Judgement { rule: 1, ruling: Ruling::Deny }));
    let long = [b'a'; 4_096];
    let beyond_the_memory =
        rules.judge(&FACTS, &subject("RETR", &long, ""), Question::Message, 0, &mut scratch);
    assert_eq!(beyond_the_memory, cut);
    assert_eq!(rules.judge(&FACTS, &subject("STOR", &long, ""), Question::Cut, 0, &mut scratch), None);
}

#[test]
fn what_cannot_be_read_meets_the_rules_for_it_behind_those_that_allow() {
    let rules = Rules::new(vec![
        Rule { users: patterns(&["admin"]), action: Action::Rule(Ruling::Allow), ..rule() },
        Rule { commands: patterns(&["STOR"]), rate_per_second: Some(1), ..rule() },
        Rule { commands: patterns(&["PORT", "STOR"]), is_unreadable: true, ..rule() },
        Rule { commands: patterns(&["PORT"]), action: Action::Rule(Ruling::Drop), ..rule() },
    ]);
    let ask = |command, user, question| {
        let subject = subject(command, b"x", user);
        let judgement = rules.judge(&FACTS, &subject, question, 0, &mut Scratch::new(16));
        judgement.map(|judgement| (judgement.rule, judgement.ruling))
    };
    let rows = [
        ("readable", "PORT", "", Question::Message, Some((3, Ruling::Drop))),
        ("cut", "PORT", "", Question::Cut, Some((2, Ruling::Deny))),
        ("malformed", "PORT", "", Question::Unreadable, Some((2, Ruling::Deny))),
        ("spared", "PORT", "admin", Question::Unreadable, None),
        ("allowed", "PORT", "admin", Question::Message, Some((0, Ruling::Allow))),
        ("allowed whatever the argument", "PORT", "admin", Question::Cut, Some((0, Ruling::Allow))),
        ("within its rate", "STOR", "", Question::Message, Some((1, Ruling::Allow))),
        ("and still unreadable", "STOR", "", Question::Unreadable, Some((2, Ruling::Deny))),
        ("another command", "RETR", "", Question::Unreadable, None),
    ];
    for (name, command, user, question, want) in rows {
        assert_eq!(ask(command, user, question), want, "{name}");
    }
}

#[test]
fn a_mask_is_for_texts_only_and_an_allowing_rule_spares_from_it() {
    let rules = Rules::new(vec![
        Rule {
            commands: patterns(&["Server"]),
            arguments: patterns(&["public*"]),
            action: Action::Rule(Ruling::Allow),
            ..rule()
        },
        Rule { commands: patterns(&["RETR"]), ..rule() },
        Rule { commands: patterns(&["Server", "RETR"]), action: Action::Mask, ..rule() },
    ]);
    let ask = |command, argument: &[u8], question| {
        let subject = subject(command, argument, "");
        let judgement = rules.judge(&FACTS, &subject, question, 0, &mut Scratch::new(64));
        judgement.map(|judgement| (judgement.rule, judgement.ruling != Ruling::Allow))
    };
    assert_eq!(ask("Server", b"nginx", Question::Text), Some((2, true)));
    assert_eq!(ask("Server", b"public 1", Question::Text), None);
    assert_eq!(ask("RETR", b"a", Question::Text), Some((2, true)), "a rule that refuses is not for texts");
    assert_eq!(ask("RETR", b"a", Question::Message), Some((1, true)), "a mask is not for messages");
    assert_eq!(ask("Server", b"nginx", Question::Message), None);
    assert_eq!(ask("Server", b"nginx", Question::Unreadable), None);
}

#[test]
fn a_rate_lets_a_seconds_worth_through_and_then_one_at_a_time() {
    let rules = Rules::new(vec![Rule { rate_per_second: Some(4), ..rule() }]);
    let mut scratch = Scratch::new(16);
    let mut allowed = |nanos, tries: usize| {
        let judge = |_: &usize| {
            let judgement =
                rules.judge(&FACTS, &subject("INVITE", b"", ""), Question::Message, nanos, &mut scratch);
            judgement.unwrap().ruling == Ruling::Allow
        };
        (0..tries).filter(judge).count()
    };
    assert_eq!(allowed(5 * SECOND, 10), 4);
    assert_eq!(allowed(5 * SECOND + SECOND / 4, 10), 1);
    assert_eq!(allowed(5 * SECOND + SECOND / 2, 10), 1);
    assert_eq!(allowed(100 * SECOND, 10), 4);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patterns_match_as_trying_everything_does(pattern in "[ab?*.]{0,10}", text in "[abAB.]{0,12}") {
        let compiled = Pattern::new(&pattern).unwrap();
        prop_assert_eq!(compiled.matches(text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn a_resolved_path_is_settled_and_never_longer(text in "([ab./\\\\:%2eE]|://|\\.\\./){0,24}", is_uri: bool) {
        let mut once = Vec::new();
        decode(text.as_bytes(), is_uri, &mut once);
        resolve_path(&mut once);
        prop_assert!(once.len() <= text.len());
        let mut twice = once.clone();
        resolve_path(&mut twice);
        prop_assert_eq!(once, twice);
    }
}
