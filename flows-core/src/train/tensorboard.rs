//! Event files for TensorBoard.

use super::{Observer, StepEvent};
use crate::files::in_folder;
use crate::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A protocol buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// The key of a field: its number and wire type, which is 0 for a varint, 1 and 5 for 8 and 4 bytes, and 2 for a
    /// length and bytes.
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    /// Seven bits per byte, least significant first; the high bit marks that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer field; 0 is not written.
    fn integer(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.key(field, 0);
            self.varint(value);
        }
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A string or message field.
    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

// Field numbers from tensorflow/core/util/event.proto and framework/summary.proto.

/// An event of a step, to be completed by its payload: field 3 the file version, 5 a summary, 7 a session log.
fn event(step: u64) -> Message {
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Message::default().double(1, wall_time).integer(2, step)
}

/// A summary of scalars, each with its tag.
fn summary(scalars: &[(&str, f64)]) -> Message {
    scalars.iter().fold(Message::default(), |summary, (tag, value)| {
        summary.bytes(1, &Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32).0)
    })
}

/// `SessionLog.START`, on which TensorBoard discards this and later steps of earlier files.
const START: u64 = 1;

/// An event file of scalars for TensorBoard.
///
/// As an [`Observer`] it writes `loss/train`, `loss/validation`, `learning_rate` and
/// `gradient_norm` every so many steps.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
    every: u64,
}

impl TensorBoard {
    /// A new event file in `folder`, which is created if needed, with scalars every `every` steps.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path, every: u64) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Microseconds keep the names distinct and in order when a run is resumed at once.
        let name = format!("events.out.tfevents.{:010}.{:06}.flows", now.as_secs(), now.subsec_micros());
        let path = in_folder(folder, &name)?;
        let file = File::create_new(&path).map_err(|error| Error::unwritten(&path, error))?;
        let mut board = Self { path, file, every: every.max(1) };
        board.write(event(0).bytes(3, b"brain.Event:2"))?;
        Ok(board)
    }

    /// [`Self::create`] for a run that is resumed after `step`: TensorBoard discards later steps of the earlier
    /// files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn resume(folder: &Path, every: u64, step: u64) -> Result<Self> {
        let mut board = Self::create(folder, every)?;
        board.write(event(step + 1).bytes(7, &Message::default().integer(1, START).0))?;
        Ok(board)
    }

    /// Writes the tagged scalars of one step.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        self.write(event(step).bytes(5, &summary(scalars).0))
    }

    fn write(&mut self, event: Message) -> Result<()> {
        self.file.write_all(&record(&event.0)).map_err(|error| Error::unwritten(&self.path, error))
    }
}

impl Observer for TensorBoard {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        let mut scalars = Vec::new();
        if event.step.is_multiple_of(self.every) {
            scalars = vec![("loss/train", event.loss), ("learning_rate", event.lr), ("gradient_norm", event.grad_norm)];
        }
        scalars.extend(event.validation.map(|validation| ("loss/validation", validation)));
        if !scalars.is_empty() {
            self.scalars(event.step, &scalars)?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A TFRecord: the length, its checksum, the data, its checksum; all little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(data.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc(data).to_le_bytes());
    bytes
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    // The same messages for an independent decoder; members of a `oneof` are options here.

    #[derive(Clone, PartialEq, prost::Message)]
    struct Event {
        #[prost(double, tag = "1")]
        wall_time: f64,
        #[prost(int64, tag = "2")]
        step: i64,
        #[prost(string, optional, tag = "3")]
        file_version: Option<String>,
        #[prost(message, optional, tag = "5")]
        summary: Option<Summary>,
        #[prost(message, optional, tag = "7")]
        session_log: Option<SessionLog>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Summary {
        #[prost(message, repeated, tag = "1")]
        value: Vec<Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Value {
        #[prost(string, tag = "1")]
        tag: String,
        #[prost(float, optional, tag = "2")]
        simple_value: Option<f32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct SessionLog {
        #[prost(int32, tag = "1")]
        status: i32,
    }

    fn parse(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (length_crc, rest) = rest.split_at(4);
            let (data, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (data_crc, rest) = rest.split_at(4);
            assert_eq!(length_crc, masked_crc(length).to_le_bytes());
            assert_eq!(data_crc, masked_crc(data).to_le_bytes());
            events.push(Event::decode(data).unwrap());
            bytes = rest;
        }
        events
    }

    #[test]
    fn events_parse_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::resume(&folder.path().join("board"), 1, 6).unwrap();
        board.scalars(7, &[("loss/train", 0.5), ("learning_rate", 1e-3)]).unwrap();
        let events = parse(&std::fs::read(&board.path).unwrap());
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].session_log.as_ref().unwrap().status), (7, START as i32));
        let summary = events[2].summary.as_ref().unwrap();
        assert_eq!((events[2].step, summary.value.len()), (7, 2));
        assert_eq!((summary.value[1].tag.as_str(), summary.value[1].simple_value), ("learning_rate", Some(1e-3)));
        assert!(events[2].wall_time > 1.7e9);
    }

    #[test]
    fn bytes_follow_the_format() {
        // Field 2 as a varint, then field 5 with one value: a tag and a 32-bit float.
        let event = Message::default().integer(2, 3).bytes(5, &summary(&[("a", 1.0)]).0);
        let want = [0x10, 3, 0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f];
        assert_eq!(event.0, want);
        assert_eq!(Message::default().integer(1, 300).0, [8, 0xac, 2]);
        // RFC 3720, B.4: the CRC-32C of 32 zero bytes.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(&[0; 32]), 0x0fd7_fffa);
    }
}
