//! Takes event records out of the workers' rings: keeps the latest for `algate show events`, and adds all of them to
//! the file `events.log`.
//!
//! Done by the main thread between its other duties. A file that cannot be written costs records, which are
//! counted, never a packet. A file that was renamed (logrotate) is made anew within a second.
//!
//! Workers know the time since the start only. What that is by the calendar is looked up once a second, so a
//! record's time is true to milliseconds, and a step of the system clock moves later records, not earlier ones.

pub mod line;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use algate_config::Config;
use algate_engine::event::Record;
use algate_engine::event::ring::Events;
use algate_engine::time::Instant;

use crate::event_log::line::{Configuration, EventRow, Milestone, MilestoneRow, time_text};
use crate::setup_error::SetupError;

/// Where records end up.
#[derive(Debug)]
pub struct EventLog {
    configuration: Configuration,
    file: Option<LogFile>,
    recent: VecDeque<(i64, Record)>,
    anchor: Anchor,
    batch: Vec<Record>,
    due: Instant,
}

/// One moment by both clocks.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    at: Instant,
    /// Milliseconds since 1970, UTC.
    wall_ms: i64,
}

/// The file, with what waits to be written.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    lines: u64,
    written: u64,
    failed: u64,
    /// When the last warning was given.
    warned: Option<Instant>,
}

impl EventLog {
    /// Opens the file, if there is to be one.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn open(config: &Config) -> Result<Self, SetupError> {
        let open = |path: &PathBuf| {
            LogFile::open(path).map_err(|error| {
                let path = path.display();
                SetupError::new(format!(
                    "events.log {path} cannot be written ({error}): name a file in a directory that is there"
                ))
            })
        };
        Ok(Self {
            configuration: Configuration::of(&config.nat),
            file: config.events.log.as_ref().map(open).transpose()?,
            recent: VecDeque::with_capacity(RECENT),
            anchor: Anchor::new(Instant::default()),
            batch: Vec::new(),
            due: Instant::default(),
        })
    }

    /// Says that the tables are empty, and which configuration is in force from now on.
    pub fn begin(&mut self, now: Instant) {
        self.anchor = Anchor::new(now);
        self.due = now.plus(PERIOD);
        self.milestone(Milestone::Started, now);
    }

    /// Takes what waits in the rings.
    pub fn take(&mut self, events: &Events, now: Instant) {
        self.batch.clear();
        events.drain(&mut self.batch);
        for record in &self.batch {
            let wall_ms = self.anchor.wall_ms_of(record.at);
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((wall_ms, *record));
            if let Some(file) = &mut self.file {
                file.add(&EventRow::new(wall_ms, record), now);
            }
        }
        if now < self.due {
            return;
        }
        self.due = now.plus(PERIOD);
        self.anchor = Anchor::new(now);
        if let Some(file) = &mut self.file {
            file.flush(now);
            if file.reopen(now) {
                self.milestone(Milestone::Continued, now);
            }
        }
    }

    /// Says that all that was there has ended, and writes what is left.
    pub fn end(&mut self, events: &Events, now: Instant) {
        self.take(events, now);
        self.milestone(Milestone::Stopped, now);
    }

    /// The latest records, the oldest of them first.
    #[must_use]
    pub fn rows(&self, limit: usize) -> Vec<EventRow> {
        let skipped = self.recent.len().saturating_sub(limit);
        self.recent.iter().skip(skipped).map(|(wall_ms, record)| EventRow::new(*wall_ms, record)).collect()
    }

    /// Records written to the file, and those that could not be.
    #[must_use]
    pub fn written_and_failed(&self) -> (u64, u64) {
        self.file.as_ref().map_or((0, 0), |file| (file.written, file.failed))
    }

    fn milestone(&mut self, event: Milestone, now: Instant) {
        let Some(file) = &mut self.file else { return };
        let configuration = (event != Milestone::Stopped).then(|| self.configuration.clone());
        let row = MilestoneRow { time: time_text(self.anchor.wall_ms_of(now)), event, configuration };
        file.add(&row, now);
        file.flush(now);
    }
}

impl Anchor {
    fn new(at: Instant) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { at, wall_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
    }

    /// A moment near the anchor's by the calendar.
    fn wall_ms_of(&self, at: Instant) -> i64 {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.wall_ms + ms(at.since(self.at)) - ms(self.at.since(at))
    }
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = open_private(path)?;
        let (path, buffer) = (path.to_owned(), Vec::with_capacity(FLUSH_BYTES));
        Ok(Self { path, file, buffer, lines: 0, written: 0, failed: 0, warned: None })
    }

    fn add(&mut self, row: &impl serde::Serialize, now: Instant) {
        if serde_json::to_writer(&mut self.buffer, row).is_ok() {
            self.buffer.push(b'\n');
            self.lines += 1;
        }
        if self.buffer.len() >= FLUSH_BYTES {
            self.flush(now);
        }
    }

    fn flush(&mut self, now: Instant) {
        if self.buffer.is_empty() {
            return;
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.written += self.lines,
            Err(error) => self.fail(&error, now),
        }
        self.buffer.clear();
        if self.lines > 0 && self.failed > 0 {
            // A line may have been cut off: the next one begins on its own.
            self.buffer.push(b'\n');
        }
        self.lines = 0;
    }

    fn fail(&mut self, error: &io::Error, now: Instant) {
        self.failed += self.lines;
        if self.warned.is_none_or(|warned| now.since(warned) >= WARNING_PERIOD) {
            self.warned = Some(now);
            let path = self.path.display();
            log::warn!("event log not written path={path} records_lost={} error=\"{error}\"", self.failed);
        }
    }

    /// Makes the file anew when it is no longer at its path. `true`: it was.
    fn reopen(&mut self, now: Instant) -> bool {
        let is_there = match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            _ => false,
        };
        if is_there {
            return false;
        }
        match open_private(&self.path) {
            Ok(file) => {
                self.file = file;
                true
            }
            Err(error) => {
                self.fail(&error, now);
                false
            }
        }
    }
}

/// Who had which address is nobody else's business.
fn open_private(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// Records that `algate show events` can show.
const RECENT: usize = 4_096;
const PERIOD: Duration = Duration::from_secs(1);
const WARNING_PERIOD: Duration = Duration::from_secs(60);
const FLUSH_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_20_a_record_s_time_is_that_of_its_burst_by_the_calendar() {
        let at = |seconds_ms: u64| Instant::from_nanos(seconds_ms * 1_000_000);
        let anchor = Anchor { at: at(5_000), wall_ms: 1_700_000_000_000 };
        for (ms, wall_ms) in [(5_000, 0), (4_250, -750), (6_001, 1_001), (0, -5_000)] {
            assert_eq!(anchor.wall_ms_of(at(ms)), 1_700_000_000_000 + wall_ms);
        }
        let before = SystemTime::now();
        let anchor = Anchor::new(at(1_000));
        let since_1970 = before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!((anchor.wall_ms - i64::try_from(since_1970.as_millis()).unwrap()).abs() < 1_000);
        assert_eq!(time_text(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn a_file_that_is_renamed_is_made_anew_and_one_that_cannot_be_costs_records_only() {
        let directory = std::env::temp_dir().join(format!("algate-events-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("events.jsonl");
        let now = Instant::default();
        let mut log = LogFile::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        log.add(&1, now);
        log.flush(now);
        assert!(!log.reopen(now));
        fs::rename(&path, directory.join("events.1")).unwrap();
        assert!(log.reopen(now));
        log.add(&2, now);
        log.flush(now);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        assert_eq!(fs::read_to_string(directory.join("events.1")).unwrap(), "1\n");
        log.file = File::options().write(true).open("/dev/full").unwrap();
        log.add(&3, now);
        log.flush(now);
        assert_eq!((log.written, log.failed), (2, 1));
        assert!(log.reopen(now));
        log.add(&4, now);
        log.flush(now);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n\n4\n");
        fs::remove_dir_all(&directory).unwrap();
    }
}
