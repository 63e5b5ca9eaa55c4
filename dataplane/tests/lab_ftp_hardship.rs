//! The programs of FTP and TFTP where things are hard: control streams in segments of one byte, a lossy cable, an ALG on a
//! core of its own. Each run takes the hardship of its day with one server and one client, `ALGATE_LAB=full` each of them
//! with every server and client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;

use lab::ftp_clients::{Client, use_server, use_server_over_a_bad_cable};
use lab::hardship::{Hardship, today};
use lab::{FORWARDED, Lab, PATIENCE, SERVER, Side, assert_same, is_full, wait_until, write_random};

const FTP_SERVERS: [&str; 3] = ["vsftpd", "pure-ftpd", "proftpd"];

/// A control session that has ended keeps its place for four minutes.
const ALG_FLOWS: &str = "alg_flows=512";

#[test]
fn ftp_passes_although_the_alg_has_a_core_of_its_own() {
    ftp_passes(Hardship::OwnCore);
}

#[test]
fn ftp_passes_although_it_comes_in_segments_of_one_byte() {
    ftp_passes(Hardship::Cut);
}

#[test]
fn ftp_passes_although_frames_are_lost_repeated_and_reordered() {
    ftp_passes(Hardship::Lossy);
}

#[test]
fn tftp_passes_all_the_same() {
    for hardship in [Hardship::OwnCore, Hardship::Lossy].into_iter().filter(|hardship| hardship.shown()) {
        for server in ["tftpd", "atftpd"] {
            let Some(mut lab) = Lab::up() else { return };
            lab.serve(Side::Ex, server);
            let cables = hardship.inflict(&lab, 69, "all");
            let config = lab.config(hardship.settings()) + "\n[alg.tftp]\nenabled = true\n";
            lab.start_from(&config);
            println!("{hardship:?} {server}");
            fetch_and_store_by_tftp(&lab);
            drop(cables);
            lab.stop();
        }
    }
}

/// From inside, and from outside behind a forward.
fn ftp_passes(hardship: Hardship) {
    if !hardship.shown() {
        return;
    }
    for side in [Side::In, Side::Ex] {
        for (server, clients) in everyone(side) {
            let Some(mut lab) = Lab::up() else { return };
            lab.serve(if side == Side::In { Side::Ex } else { Side::In }, server);
            // proftpd 1.3.8 never answers a line whose CR and LF it reads one by one, be it over loopback with nothing in between;
            // vsftpd and pure-ftpd do.
            let cut = if server == "proftpd" { "all-but-crlf" } else { "all" };
            let mut cables = hardship.inflict(&lab, 21, cut);
            let forward = format!(
                "\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:21\"\ninternal = \"10.0.0.2:21\"\n"
            );
            let config = lab.config(&[hardship.settings(), &[ALG_FLOWS]].concat()) + &forward;
            lab.start_from(&config);
            for client in clients {
                for &mode in client.modes() {
                    println!("{hardship:?} {server} {client:?} {mode:?} from {side:?}");
                    let work =
                        if hardship == Hardship::Lossy { use_server_over_a_bad_cable } else { use_server };
                    work(&lab, side, client, mode, &[20_000]);
                }
            }
            if hardship == Hardship::OwnCore {
                assert!(lab.counter("handed_over") > 0, "the ALG core had nothing to do");
            }
            cables.assert_were_hard();
            drop(cables);
            lab.stop();
        }
    }
}

/// In the full run every server, with every client inside and one outside; else today's server with today's client.
fn everyone(side: Side) -> Vec<(&'static str, Vec<Client>)> {
    if is_full() {
        let clients = |at| if side == Side::In { Client::ALL.to_vec() } else { vec![Client::ALL[at]] };
        return FTP_SERVERS.into_iter().enumerate().map(|(at, server)| (server, clients(at))).collect();
    }
    // Another pair each three days, when every hardship has had its day: in 36 days all have met.
    let turn = today() / 3;
    vec![(FTP_SERVERS[turn % 3], vec![Client::ALL[turn % 4]])]
}

/// A few blocks: each that is lost costs five seconds. Without options, since atftp gives up at a repeated OACK.
fn fetch_and_store_by_tftp(lab: &Lab) {
    let home = lab.home(Side::Ex);
    let (local, file, stored) = (lab.state.join("local"), home.join("file"), home.join("stored"));
    let name = local.to_str().unwrap();
    let fetch = ["--get", "--remote-file", "file", "--local-file", name, SERVER];
    let store = ["--put", "--remote-file", "stored", "--local-file", name, SERVER];
    let commands: [(bool, &str, &[&str]); 4] = [
        (true, "tftp", &["-m", "binary", SERVER, "-c", "get", "file", name]),
        (false, "tftp", &["-m", "binary", SERVER, "-c", "put", name, "stored"]),
        (true, "atftp", &fetch),
        (false, "atftp", &store),
    ];
    for (fetches, program, arguments) in commands {
        for old in [&local, &file, &stored] {
            let _ = fs::remove_file(old);
        }
        write_random(if fetches { &file } else { &local }, 3_000);
        // atftpd is gone once it has sent its last acknowledgement: a client that misses that believes to have failed.
        let output = lab.run(Side::In, program, arguments);
        assert!(!fetches || output.status.success(), "{program} {arguments:?}: {output:?}");
        let other = if fetches { &file } else { &stored };
        let is_whole = || fs::metadata(other).is_ok_and(|file| file.len() == 3_000);
        wait_until(PATIENCE, is_whole);
        assert_same(other, &local);
    }
}
