//! Commands that policy refuses: taken out, answered in their turn, with the code of their kind.

use super::*;
use crate::contract::{Ruling, Subject};
use crate::testing::FakePolicy;

/// No programs, no TLS, no SITE; guests write nothing; NOOP is dropped.
fn site(subject: &Subject<'_>) -> Ruling {
    let is = |verb: &[u8]| subject.command.eq_ignore_ascii_case(verb);
    match () {
        () if is(b"NOOP") => Ruling::Drop,
        () if is(b"RETR") && subject.argument.ends_with(b".exe") => Ruling::Deny,
        () if is(b"AUTH") || is(b"SITE") || is(b"USER") && subject.argument == b"root" => Ruling::Deny,
        () if is(b"STOR") && subject.user == b"guest" => Ruling::Deny,
        () => Ruling::Allow,
    }
}

fn ruled(turns: &[Turn<'_>]) -> Driver<Ftp> {
    let mut driver = session(internal_client());
    driver.policy = FakePolicy(site);
    driver.feed(S, b"220 ready\r\n");
    for (direction, bytes) in turns {
        driver.feed(*direction, bytes);
    }
    driver
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the server hears, and what the client reads behind the greeting.
fn heard(turns: &[Turn<'_>]) -> (String, String) {
    let outcome = ruled(turns).outcome();
    (text(&outcome.original), text(&outcome.reply[b"220 ready\r\n".len()..]))
}

#[test]
fn a_refused_command_is_answered_with_the_code_of_its_kind() {
    let rows: [(&[u8], &str); 5] = [
        (b"RETR a.exe\r\n", "550 Refused by policy.\r\n"),
        (b"auth TLS\r\n", "534 Refused by policy.\r\n"),
        (b"SITE CHMOD 777 a\r\n", "502 Refused by policy.\r\n"),
        (b"USER root\r\n", "530 Refused by policy.\r\n"),
        (b"NOOP\r\n", ""),
    ];
    for (line, answer) in rows {
        let driver = ruled(&[(C, line)]);
        let outcome = driver.outcome();
        assert_eq!((text(&outcome.original).as_str(), text(&outcome.reply[11..]).as_str()), ("", answer));
        assert_eq!(counted(&driver), [(Event::Removed, 1), (Event::Denied, 1)]);
    }
}

#[test]
fn the_answer_waits_for_those_of_earlier_commands() {
    let dialogue: [Turn<'_>; 3] =
        [(C, b"TYPE I\r\nRETR a.exe\r\nRETR b.exe\r\nSIZE c\r\n"), (S, b"200 type\r\n"), (S, b"213 9\r\n")];
    let (server, client) = heard(&dialogue[..1]);
    assert_eq!((server.as_str(), client.as_str()), ("TYPE I\r\nSIZE c\r\n", ""));
    let refused = "550 Refused by policy.\r\n".repeat(2);
    assert_eq!(heard(&dialogue[..2]).1, format!("200 type\r\n{refused}"));
    assert_eq!(heard(&dialogue).1, format!("200 type\r\n{refused}213 9\r\n"));
}

#[test]
fn the_answer_stands_in_no_reply_of_more_lines() {
    let dialogue: [Turn<'_>; 3] =
        [(C, b"FEAT\r\nRETR a.exe\r\n"), (S, b"211-a\r\n b\r\n"), (S, b"211 end\r\n")];
    assert_eq!(heard(&dialogue[..2]).1, "211-a\r\n b\r\n");
    assert_eq!(heard(&dialogue).1, "211-a\r\n b\r\n211 end\r\n550 Refused by policy.\r\n");
    // A preliminary reply is not the answer.
    let transfer: [Turn<'_>; 3] =
        [(C, b"RETR a\r\nRETR b.exe\r\n"), (S, b"150 go\r\n"), (S, b"226 done\r\n")];
    assert_eq!(heard(&transfer[..2]).1, "150 go\r\n");
    assert_eq!(heard(&transfer).1, "150 go\r\n226 done\r\n550 Refused by policy.\r\n");
}

#[test]
fn a_user_is_who_the_server_has_let_in() {
    let login: [Turn<'_>; 4] =
        [(C, b"USER guest\r\n"), (S, b"331 password\r\n"), (C, b"PASS x\r\n"), (S, b"230 in\r\n")];
    let refused = |turns: &[Turn<'_>]| heard(&[turns, &[(C, b"STOR a\r\n")]].concat()).0.contains("STOR");
    assert!(!refused(&login), "guest is in");
    assert!(refused(&login[..2]), "nobody is");
    let rejected: [Turn<'_>; 4] = [login[0], login[1], login[2], (S, b"530 no\r\n")];
    assert!(refused(&rejected));
    let again: [Turn<'_>; 2] = [(C, b"USER staff\r\n"), (S, b"331 password\r\n")];
    assert!(refused(&[&login[..], &again].concat()), "guest has left");
    let at_once: [Turn<'_>; 2] = [(C, b"USER guest\r\n"), (S, b"230 in\r\n")];
    assert!(!refused(&at_once));
}

#[test]
fn what_is_sent_behind_a_login_is_judged_when_that_is_answered() {
    let dialogue: [Turn<'_>; 2] = [(C, b"USER guest\r\nSTOR a\r\n"), (S, b"230 in\r\n")];
    assert_eq!(heard(&dialogue[..1]).0, "USER guest\r\n");
    let (server, client) = heard(&dialogue);
    assert_eq!(server, "USER guest\r\n");
    assert_eq!(client, "230 in\r\n550 Refused by policy.\r\n");
}

#[test]
fn a_name_proved_for_one_user_is_not_the_next_ones() {
    // The second USER is held until the first is answered, so its name cannot take the first one's 230.
    let pipelined = b"USER guest\r\nPASS x\r\nUSER staff\r\nSTOR a\r\n";
    let (server, _) = heard(&[(C, pipelined), (S, b"331 a\r\n"), (S, b"230 in\r\n")]);
    assert_eq!(server, "USER guest\r\nPASS x\r\nUSER staff\r\n");
}

#[test]
fn a_command_that_is_not_all_there_is_taken_out_with_its_rest() {
    let mut driver =
        Driver::new(Ftp::new(FtpSettings { line_bytes: 32, ..FtpSettings::default() }), internal_client());
    driver.policy =
        FakePolicy(|subject| if subject.command == b"RETR" { Ruling::Deny } else { Ruling::Allow });
    driver.feed(S, b"220 ready\r\n");
    driver.feed(C, b"RETR 6789012345678901234567890123456");
    driver.feed(C, b"789.exe\r\nNOOP\r\n");
    let outcome = driver.outcome();
    assert_eq!(text(&outcome.original), "NOOP\r\n");
    assert_eq!(text(&outcome.reply), "220 ready\r\n550 Refused by policy.\r\n");
}

#[test]
fn a_refused_auth_leaves_the_session_readable() {
    let driver = ruled(&[(C, b"AUTH TLS\r\n"), (C, b"PORT 10,0,0,2,15,161\r\n"), (S, b"200 ok\r\n")]);
    assert_eq!(driver.count_of(Event::Rewritten), 1);
    assert_eq!(text(&driver.outcome().reply[11..]), "534 Refused by policy.\r\n200 ok\r\n");
}

#[test]
fn more_answers_than_there_is_room_for_come_later() {
    let lines = "RETR a.exe\r\n".repeat(60);
    let mut driver = ruled(&[(C, b"TYPE I\r\n"), (C, lines.as_bytes()), (S, b"200 ok\r\n")]);
    driver.feed(C, b"TYPE I\r\n");
    driver.feed(S, b"200 ok\r\n");
    let reply = text(&driver.outcome().reply);
    assert_eq!(reply.matches("550").count(), 60);
}
