//! TCP options: reading them, and writing those of segments the stage emits.
//!
//! RFC 9293 section 3.1 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 (SACK), RFC 7413 (Fast
//! Open), RFC 8684 (Multipath TCP), RFC 2385 and 5925 (signatures). On a SYN every option passes
//! except those that would carry data past the stage; later segments carry timestamps and SACK only.
//! A malformed option ends the reading of the list, as it does in every host.

use super::seq::SeqNum;

/// The options of one segment.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpOptions<'a> {
    /// All of them, as they came.
    pub raw: &'a [u8],
    /// Maximum segment size, bytes.
    pub mss: Option<u16>,
    /// Window scale, 0 to 14.
    pub window_scale: Option<u8>,
    /// SACK may be used.
    pub sack_permitted: bool,
    /// SACK blocks, as they came.
    pub sack: SackBlocks,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// TCP-MD5 or TCP-AO: no byte of the segment may be changed.
    pub signed: bool,
}

/// The timestamps option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamps {
    /// TSval
    pub value: u32,
    /// TSecr
    pub echo: u32,
}

/// Up to four SACK blocks: left edge, and the number behind the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); 4],
    count: usize,
}

impl SackBlocks {
    /// Adds a block; a fifth is left out.
    pub fn push(&mut self, left: SeqNum, right: SeqNum) {
        if let Some(block) = self.blocks.get_mut(self.count) {
            *block = (left, right);
            self.count += 1;
        }
    }

    /// The blocks in their order.
    pub fn iter(&self) -> impl Iterator<Item = (SeqNum, SeqNum)> {
        self.blocks.iter().take(self.count).copied()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> TcpOptions<'a> {
    /// Reads the option bytes of a header.
    #[must_use]
    pub fn parse(raw: &'a [u8]) -> Self {
        let mut options = Self { raw, ..Self::default() };
        for (kind, body) in List(raw) {
            match (kind, body) {
                (KIND_MSS, &[a, b]) => options.mss = Some(u16::from_be_bytes([a, b])),
                (KIND_WINDOW_SCALE, &[scale]) => options.window_scale = Some(scale.min(14)),
                (KIND_SACK_PERMITTED, &[]) => options.sack_permitted = true,
                (KIND_SACK, blocks) => {
                    options.sack = SackBlocks::default();
                    for block in blocks.as_chunks::<8>().0 {
                        let [a, b, c, d, e, f, g, h] = *block;
                        let edge = |bytes| SeqNum(u32::from_be_bytes(bytes));
                        options.sack.push(edge([a, b, c, d]), edge([e, f, g, h]));
                    }
                }
                (KIND_TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                    options.timestamps = Some(Timestamps {
                        value: u32::from_be_bytes([a, b, c, d]),
                        echo: u32::from_be_bytes([e, f, g, h]),
                    });
                }
                (KIND_MD5 | KIND_AO, _) => options.signed = true,
                _ => {}
            }
        }
        options
    }
}

/// Option bytes of a segment to be emitted, at most 40, padded to a multiple of four.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptionBytes {
    bytes: [u8; 40],
    length: usize,
}

impl OptionBytes {
    /// The options of a SYN: all that came, with the MSS at most `mss_max`, Multipath TCP and Fast Open
    /// overwritten by NOPs. (Fast Open lets data travel in the SYN, Multipath TCP past the stage.)
    pub(super) fn of_syn(raw: &[u8], mss_max: u16) -> Self {
        let mut options = Self::new();
        let mut list = List(raw);
        loop {
            let before = list.0;
            let Some((kind, body)) = list.next() else { break };
            match (kind, body) {
                (KIND_MSS, &[a, b]) => {
                    let [a, b] = u16::from_be_bytes([a, b]).min(mss_max).to_be_bytes();
                    options.push(&[KIND_MSS, 4, a, b]);
                }
                (KIND_MULTIPATH | KIND_FAST_OPEN, _) | (KIND_EXPERIMENT, [0xf9, 0x89, ..]) => {
                    for _ in 0..body.len() + 2 {
                        options.push(&[KIND_NOP]);
                    }
                }
                (KIND_NOP, _) => options.push(&[KIND_NOP]),
                _ => options.push(before.get(..body.len() + 2).unwrap_or_default()),
            }
        }
        options.pad();
        options
    }

    /// The options of a later segment.
    pub(super) fn of_segment(timestamps: Option<Timestamps>, sack: &SackBlocks) -> Self {
        let mut options = Self::new();
        if let Some(Timestamps { value, echo }) = timestamps {
            options.push(&[KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, 10]);
            options.push(&value.to_be_bytes());
            options.push(&echo.to_be_bytes());
        }
        let room = (options.bytes.len() - options.length).saturating_sub(4) / 8;
        let blocks = sack.iter().count().min(room);
        if blocks > 0 {
            // At most 4 blocks: the length fits a byte.
            options.push(&[KIND_NOP, KIND_NOP, KIND_SACK, (2 + 8 * blocks) as u8]);
            for (left, right) in sack.iter().take(blocks) {
                options.push(&left.0.to_be_bytes());
                options.push(&right.0.to_be_bytes());
            }
        }
        options
    }

    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    const fn new() -> Self {
        Self { bytes: [KIND_END; 40], length: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + more.len()) {
            room.copy_from_slice(more);
            self.length += more.len();
        }
    }

    fn pad(&mut self) {
        self.length = self.length.next_multiple_of(4).min(self.bytes.len());
    }
}

/// Walks an option list: kind and body of each option, until its end or the first malformed one.
struct List<'a>(&'a [u8]);

impl<'a> Iterator for List<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.0.split_first()?;
        match kind {
            KIND_END => None,
            KIND_NOP => {
                self.0 = rest;
                Some((KIND_NOP, &[]))
            }
            _ => {
                let length = usize::from(*rest.first()?);
                let body = self.0.get(2..length)?;
                self.0 = self.0.get(length..)?;
                Some((kind, body))
            }
        }
    }
}

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;
const KIND_MD5: u8 = 19;
const KIND_AO: u8 = 29;
const KIND_MULTIPATH: u8 = 30;
const KIND_FAST_OPEN: u8 = 34;
const KIND_EXPERIMENT: u8 = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syn_options_pass_without_multipath_and_fast_open() {
        let raw =
            [2, 4, 0x05, 0xb4, 1, 3, 3, 7, 4, 2, 30, 4, 0x01, 0x81, 34, 2, 254, 4, 0xf9, 0x89, 253, 4, 1, 2];
        let mut expected = raw;
        expected[2..4].copy_from_slice(&1400_u16.to_be_bytes());
        expected[10..20].fill(1);
        assert_eq!(OptionBytes::of_syn(&raw, 1400).as_slice(), expected);
        let parsed = TcpOptions::parse(&raw);
        assert_eq!((parsed.mss, parsed.window_scale, parsed.sack_permitted), (Some(1460), Some(7), true));
    }

    #[test]
    fn malformed_options_end_the_list() {
        for raw in [&[2_u8, 4, 5][..], &[8], &[5, 0], &[5, 1], &[3, 200, 1], &[2, 0, 0, 0]] {
            let parsed = TcpOptions::parse(raw);
            assert_eq!((parsed.mss, parsed.timestamps, parsed.window_scale), (None, None, None), "{raw:?}");
            assert!(OptionBytes::of_syn(raw, 1460).as_slice().is_empty(), "{raw:?}");
        }
    }

    #[test]
    fn segment_options_hold_timestamps_and_as_many_sack_blocks_as_fit() {
        let mut sack = SackBlocks::default();
        for n in 0..5 {
            sack.push(SeqNum(n * 10), SeqNum(n * 10 + 5));
        }
        let timestamps = Some(Timestamps { value: 1, echo: 2 });
        let bytes = OptionBytes::of_segment(timestamps, &sack);
        assert_eq!(bytes.as_slice().len(), 40);
        let parsed = TcpOptions::parse(bytes.as_slice());
        assert_eq!(parsed.timestamps, timestamps);
        assert_eq!(parsed.sack.iter().count(), 3);
        assert_eq!(OptionBytes::of_segment(None, &sack).as_slice().len(), 36);
        assert!(OptionBytes::of_segment(None, &SackBlocks::default()).as_slice().is_empty());
    }

    #[test]
    fn signatures_are_seen() {
        assert!(TcpOptions::parse(&[19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).signed);
        assert!(TcpOptions::parse(&[29, 4, 1, 2]).signed);
        assert!(!TcpOptions::parse(&[2, 4, 5, 180]).signed);
    }
}
