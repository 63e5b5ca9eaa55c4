//! What an ALG asks of the operator's rules.

use super::Direction;

/// What the operator allows an ALG's users to do.
pub trait Policy {
    /// Judges one message. Counting, logging and alarms are the policy's own.
    fn judge(&mut self, subject: &Subject<'_>) -> Ruling;

    /// The same for a message whose argument is not all there: what might be refused is.
    fn judge_cut(&mut self, subject: &Subject<'_>) -> Ruling {
        self.judge(subject)
    }

    /// Judges a message once more that was allowed, or is none that is judged, and then turns out not to be readable.
    fn judge_unreadable(&mut self, subject: &Subject<'_>) -> Ruling {
        let _ = subject;
        Ruling::Allow
    }

    /// Whether [`Policy::masks`] may ever say yes: where not, nobody looks for such texts.
    fn may_mask(&self) -> bool {
        false
    }

    /// Whether a text that an end says about itself is hidden from the other one. The subject's command is the
    /// command that is answered, or the header it stands in; the argument is the text.
    fn masks(&mut self, subject: &Subject<'_>) -> bool {
        let _ = subject;
        false
    }
}

/// A message as policy rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Who sends it.
    pub direction: Direction,
    /// The command or method, as it came: `RETR`, `INVITE`, `SETUP`, `DCC SEND`.
    pub command: &'a [u8],
    /// What it is about: a path, a request URI, a file name. May be empty.
    pub argument: &'a [u8],
    /// The user, as far as the dialogue has proved one. May be empty.
    pub user: &'a [u8],
}

/// What a [`Policy`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// Read on.
    Allow,
    /// Refuse it with the protocol's own error reply.
    Deny,
    /// Take it out without a word.
    Drop,
}

/// No rules: everything is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn judge(&mut self, _subject: &Subject<'_>) -> Ruling {
        Ruling::Allow
    }
}
