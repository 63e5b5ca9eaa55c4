//! Rules with `action = "mask"`: what there is to hide, and what such a rule cannot have.

use crate::alg::rule::{self, ALGS, COMMAND, FILE_TYPE, RATE_PER_SECOND, UNREADABLE, USER};
use crate::model::AlgName;
use crate::read::{Place, Table};
use crate::value;

/// Refuses a rule that hides nothing. `action`: where it says that it is a mask.
pub(super) fn refuse_useless(table: &Table<'_>, alg: Option<AlgName>, action: &Place<'_>) {
    let known = match alg {
        None => [FTP, SIP].concat(),
        Some(AlgName::Ftp) => FTP.to_vec(),
        Some(AlgName::Sip | AlgName::Rtsp) => SIP.to_vec(),
        Some(AlgName::Tftp | AlgName::Irc | AlgName::Pptp) => {
            let name = alg.map_or("", |alg| value::word_of(ALGS, alg));
            let problem = format!("has nothing to hide: {name} does not tell what an end runs");
            return action.refuse(problem, "write action = \"deny\" or action = \"drop\"");
        }
    };
    if let Some(commands) = table.get_located(&COMMAND, |field| Some(field.place.clone())) {
        for command in rule::texts(table, &COMMAND) {
            if !known.iter().any(|name| rule::takes_in(command.as_bytes(), name.as_bytes())) {
                let problem = format!("has {command:?}, which tells nothing of an end");
                commands.place.refuse(problem, format!("write some of {}", known.join(", ")));
            }
        }
    }
    let has_users = matches!(alg, None | Some(AlgName::Ftp));
    for (key, problem, is_useless) in [
        (&FILE_TYPE, "is for files, and a mask is for what an end tells of itself", true),
        (&USER, "can never match: headers are masked whoever sends them", !has_users),
        (&RATE_PER_SECOND, "cannot be of a mask, which hides each time", true),
        (&UNREADABLE, "cannot be of a mask, which hides what is read", true),
    ] {
        if let Some(at) = table.get_located(key, |field| Some(field.place.clone())).filter(|_| is_useless) {
            at.place.refuse(problem, "remove the line");
        }
    }
}

/// Commands of FTP that ask for it, and the greeting.
const FTP: &[&str] = &["greeting", "FEAT", "SYST", "HELP", "STAT"];
/// Headers of SIP, and of RTSP.
const SIP: &[&str] = &["Server", "User-Agent"];
