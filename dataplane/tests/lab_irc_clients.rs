//! Real IRC clients (weechat, irssi) at real servers (ngircd, inspircd): files and chats by DCC, through the NAT.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use lab::capture::Capture;
use lab::hardship::{Cables, Hardship};
use lab::irc::{Client, Kind, assert_hidden};
use lab::{Lab, Side, is_full, write_random};

/// A lab with a server outside, DCC served, and one client on each side: alice inside, bob outside.
fn with_clients(server: &str, kind: Kind, hardship: Hardship) -> Option<(Lab, Cables, [Client; 2])> {
    let mut lab = Lab::up()?;
    lab.serve(Side::Ex, server);
    let cables = hardship.inflict(&lab, 6_667, "all");
    let rule = "pool = \"pool\"\n";
    let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
    let config = lab.config(hardship.settings()).replace(rule, &narrow);
    lab.start_from(&(config + "\n[alg.irc]\nenabled = true\n"));
    // Bob comes from another address than the server's: nobody can know it before.
    for pool in ["203.0.113.8/29", "203.0.113.16/29"] {
        lab.expect(Side::Ex, "ip", &["route", "add", pool, "dev", "eth0", "src", BOB]);
    }
    let alice = Client::start(&lab, Side::In, kind, ("alice", ALICE));
    let bob = Client::start(&lab, Side::Ex, kind, ("bob", BOB));
    Some((lab, cables, [alice, bob]))
}

/// Files both ways, and a chat.
fn send_and_chat(server: &str, hardship: Hardship) {
    let Some((mut lab, mut cables, [mut alice, mut bob])) = with_clients(server, Kind::Weechat, hardship)
    else {
        return;
    };
    let capture = Capture::start(&lab, Side::Ex);
    let files = ["one", "other"].map(|name| lab.state.join(name));
    files.iter().for_each(|file| write_random(file, hardship.bytes()));
    alice.send(&bob, &files[0]);
    bob.expect_file(&alice, &files[0]);
    bob.send(&alice, &files[1]);
    alice.expect_file(&bob, &files[1]);
    alice.chat(&mut bob);
    assert_hidden(&capture.frames(), ALICE);
    cables.assert_were_hard();
    assert_eq!(lab.counter("alg.irc.rewritten"), 2);
    lab.stop();
}

/// Files both ways, each offered by one who does not listen.
fn send_passively(server: &str, hardship: Hardship) {
    let Some((mut lab, mut cables, [mut alice, mut bob])) = with_clients(server, Kind::Irssi, hardship)
    else {
        return;
    };
    let capture = Capture::start(&lab, Side::Ex);
    let files = ["one", "other"].map(|name| lab.state.join(name));
    files.iter().for_each(|file| write_random(file, hardship.bytes()));
    alice.send_passively(&bob, &files[0]);
    bob.expect_file(&alice, &files[0]);
    bob.send_passively(&alice, &files[1]);
    alice.expect_file(&bob, &files[1]);
    assert_hidden(&capture.frames(), ALICE);
    cables.assert_were_hard();
    lab.stop();
}

#[test]
fn weechat_sends_files_both_ways_and_chats() {
    for server in ["ngircd", "inspircd"] {
        send_and_chat(server, Hardship::None);
    }
}

#[test]
fn irssi_sends_files_passively_both_ways() {
    for server in if is_full() { &["ngircd", "inspircd"][..] } else { &["inspircd"] } {
        send_passively(server, Hardship::None);
    }
}

#[test]
fn clients_bear_hardships() {
    for hardship in [Hardship::OwnCore, Hardship::Cut, Hardship::Lossy] {
        if hardship.shown() {
            send_and_chat("ngircd", hardship);
        }
        if is_full() {
            send_passively("inspircd", hardship);
        }
    }
}

const ALICE: &str = "10.0.0.2";
const BOB: &str = "198.51.100.2";
