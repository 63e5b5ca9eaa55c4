//! The stream layer with both ends hostile: any segments, any timing. See `stream_hostile`.
#![no_main]

#[path = "../../dataplane/engine/tests/stream_hostile/mod.rs"]
mod stream_hostile;

use libfuzzer_sys::fuzz_target;
use stream_hostile::{Event, run};

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let mut events = Vec::new();
    while events.len() < 200
        && let Some(event) = bytes.event()
    {
        events.push(event);
    }
    run(&events);
});

/// Takes events out of bytes: a byte says what it is, the others are its numbers.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn event(&mut self) -> Option<Event> {
        let kind = self.byte()?;
        Some(match kind & 0x0f {
            0 => Event::Wait { seconds: u64::from(self.byte()?) },
            1 => Event::Detach,
            2 => Event::Mtu { is_original: kind & 0x80 == 0, mtu: self.short()? },
            _ => Event::Segment {
                is_original: kind & 0x80 == 0,
                seq: self.offset(kind & 0x10 != 0)?,
                ack: self.offset(kind & 0x20 != 0)?,
                flags: self.byte()?,
                window: self.short()?,
                urgent: if kind & 1 == 0 { 0 } else { self.short()? },
                options: self.options(kind & 0x40 != 0)?,
                data: self.data()?,
            },
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// How far a number is from where it should be: a little, or anything.
    fn offset(&mut self, is_far: bool) -> Option<i32> {
        if !is_far {
            return Some(i32::from(self.byte()? as i8));
        }
        Some(i32::from_be_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn options(&mut self, has_some: bool) -> Option<Vec<u8>> {
        if !has_some {
            return Some(Vec::new());
        }
        let words = usize::from(self.byte()? % 11);
        let mut options = self.take(4 * words).to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        Some(options)
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        let bytes = usize::from(self.byte()?);
        Some(self.take(bytes).to_vec())
    }
}
