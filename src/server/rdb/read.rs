//! A dump into items, fed as the bytes arrive.

use bytes::{Buf, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use super::{CHECKSUM_SINCE, Item, MAGIC, NEWEST_VERSION, RdbError, RdbValue, opcode};

/// LZF turns three bytes into at most this many.
const LZF_LONGEST_RUN: u64 = 264;

/// Reads a dump piece by piece. It allocates by what has arrived, never by what a length claims.
#[derive(Debug)]
pub struct Reader {
    max_string: usize,
    state: State,
    /// Bytes taken so far.
    offset: u64,
    /// With fewer bytes in the buffer another attempt is in vain.
    wanted: usize,
    digest: Digest,
    /// Of the key that comes next.
    expire_at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// Opcodes and keys of this version.
    Body(u32),
    /// Behind the end mark of this version.
    Checksum(u32),
    Done,
}

/// What one step found.
enum Found {
    Item(Item),
    /// An expiry time, for the next key.
    Expire(u64),
    /// Something of no interest here.
    Skipped,
    /// Where the dump goes on.
    State(State),
}

/// Why a step did not succeed.
enum Stop {
    /// The buffer must hold this many bytes.
    Need(usize),
    Corrupt(String),
    Error(RdbError),
}

impl Reader {
    /// A reader for one dump, which refuses strings longer than `max_string` bytes
    /// (`proto-max-bulk-len` of the server that wrote it, 512 MiB by default).
    pub fn new(max_string: usize) -> Reader {
        Reader {
            max_string,
            state: State::Header,
            offset: 0,
            wanted: 0,
            digest: Digest::new(CrcAlgorithm::Crc64Redis),
            expire_at_ms: None,
        }
    }

    /// Takes the next item out of `buf`; `None` asks for more bytes, or after [`Item::End`] says
    /// that there is no more. After an error the reader is of no use any more.
    pub fn feed(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, RdbError> {
        while self.state != State::Done && buf.len() >= self.wanted {
            let mut cursor = Cursor { bytes: buf, position: 0, max_string: self.max_string };
            let step = match self.state {
                State::Header => cursor.header(),
                State::Body(version) => cursor.body(version),
                State::Checksum(version) => cursor.checksum(version, self.digest.finalize()),
                State::Done => break,
            };
            let length = cursor.position;
            match step {
                Ok(found) => {
                    self.consume(buf, length);
                    if let Some(item) = self.found(found) {
                        return Ok(Some(item));
                    }
                }
                Err(Stop::Need(total)) => self.wanted = total,
                Err(Stop::Corrupt(what)) => {
                    return Err(RdbError::Corrupt { offset: self.offset, what });
                }
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Bytes of the dump that were taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Says whether the input may end here: an error unless [`Item::End`] was read.
    pub fn end_of_input(&self) -> Result<(), RdbError> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(RdbError::Truncated(self.offset)),
        }
    }

    fn consume(&mut self, buf: &mut BytesMut, length: usize) {
        self.digest.update(&buf[..length]);
        buf.advance(length);
        self.offset += length as u64;
        self.wanted = 0;
    }

    fn found(&mut self, found: Found) -> Option<Item> {
        match found {
            Found::Item(mut item) => {
                match &mut item {
                    Item::Key { expire_at_ms, .. } => *expire_at_ms = self.expire_at_ms.take(),
                    Item::End { .. } => self.state = State::Done,
                    _ => {}
                }
                return Some(item);
            }
            Found::Expire(at_ms) => self.expire_at_ms = Some(at_ms),
            Found::Skipped => {}
            Found::State(state) => self.state = state,
        }
        None
    }
}

/// Reads from the start of the buffer; nothing is taken out before a whole item was read.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    max_string: usize,
}

/// A length, or the mark of a specially encoded string.
enum Length {
    Plain(u64),
    Special(u8),
}

impl<'a> Cursor<'a> {
    fn header(&mut self) -> Result<Found, Stop> {
        let header = self.take(MAGIC.len() + 4)?;
        let version = header
            .strip_prefix(MAGIC)
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .map(|digits| digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
            .ok_or_else(|| Stop::Error(RdbError::BadMagic(header.to_vec())))?;
        if !(1..=NEWEST_VERSION).contains(&version) {
            return Err(Stop::Error(RdbError::UnsupportedVersion(version)));
        }
        Ok(Found::State(State::Body(version)))
    }

    fn body(&mut self, version: u32) -> Result<Found, Stop> {
        let found = match self.byte()? {
            opcode::AUX => Item::Aux { key: self.string()?, value: self.string()? },
            opcode::RESIZE_DB => Item::ResizeDb { keys: self.length()?, expires: self.length()? },
            opcode::SELECT_DB => {
                let number = self.length()?;
                let number = u32::try_from(number)
                    .map_err(|_| Stop::Corrupt(format!("database {number}")))?;
                Item::SelectDb(number)
            }
            opcode::FUNCTION => Item::Function(self.string()?),
            opcode::FUNCTION_PRE_GA => {
                return Err(corrupt("functions in the format of a preview of Redis 7.0"));
            }
            opcode::EXPIRE_MS => {
                let at_ms = i64::from_le_bytes(self.array()?);
                return Ok(Found::Expire(u64::try_from(at_ms).unwrap_or(0)));
            }
            opcode::EXPIRE_S => {
                let at_s = i32::from_le_bytes(self.array()?);
                return Ok(Found::Expire(u64::try_from(at_s).unwrap_or(0) * 1000));
            }
            opcode::FREQUENCY => {
                self.byte()?;
                return Ok(Found::Skipped);
            }
            opcode::IDLE => {
                self.length()?;
                return Ok(Found::Skipped);
            }
            opcode::SLOT_INFO => {
                for _ in 0..3 {
                    self.length()?;
                }
                return Ok(Found::Skipped);
            }
            opcode::MODULE_AUX => {
                self.module_aux()?;
                return Ok(Found::Skipped);
            }
            opcode::END => return Ok(Found::State(State::Checksum(version))),
            type_byte => self.key(type_byte)?,
        };
        Ok(Found::Item(found))
    }

    fn key(&mut self, type_byte: u8) -> Result<Item, Stop> {
        let type_name = type_name(type_byte)
            .ok_or_else(|| Stop::Corrupt(format!("unknown type or opcode {type_byte}")))?;
        let key = self.string()?;
        if type_byte != opcode::STRING {
            return Err(Stop::Error(RdbError::UnsupportedType { key, type_name }));
        }
        Ok(Item::Key { key, value: RdbValue::String(self.string()?), expire_at_ms: None })
    }

    fn checksum(&mut self, version: u32, found: u64) -> Result<Found, Stop> {
        let mut checksum_verified = false;
        if version >= CHECKSUM_SINCE {
            let expected = u64::from_le_bytes(self.array()?);
            checksum_verified = expected != 0;
            if checksum_verified && expected != found {
                return Err(Stop::Error(RdbError::Checksum { expected, found }));
            }
        }
        Ok(Found::Item(Item::End { checksum_verified }))
    }

    /// Data of a module that this node does not have: passed over by its own opcodes.
    fn module_aux(&mut self) -> Result<(), Stop> {
        self.length()?;
        loop {
            match self.length()? {
                0 => return Ok(()),
                1 | 2 => drop(self.length()?),
                3 => drop(self.take(4)?),
                4 => drop(self.take(8)?),
                5 => drop(self.string()?),
                other => return Err(Stop::Corrupt(format!("unknown module opcode {other}"))),
            }
        }
    }

    fn string(&mut self) -> Result<Bytes, Stop> {
        let integer = match self.length_or_mark()? {
            Length::Plain(length) => {
                let length = self.checked(length)?;
                return Ok(Bytes::copy_from_slice(self.take(length)?));
            }
            Length::Special(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Special(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Special(2) => i32::from_le_bytes(self.array()?),
            Length::Special(3) => return self.compressed(),
            Length::Special(other) => {
                return Err(Stop::Corrupt(format!("unknown string encoding {other}")));
            }
        };
        Ok(Bytes::copy_from_slice(itoa::Buffer::new().format(integer).as_bytes()))
    }

    fn compressed(&mut self) -> Result<Bytes, Stop> {
        let (packed_length, claimed) = (self.length()?, self.length()?);
        let packed_length = self.checked(packed_length)?;
        let length = self.checked(claimed)?;
        let packed = self.take(packed_length)?;
        // The room for the result is reserved by the claim, so the claim must be possible.
        if claimed > packed.len() as u64 * LZF_LONGEST_RUN {
            return Err(Stop::Corrupt(format!("{packed_length} bytes cannot unpack to {claimed}")));
        }
        match lzf::decompress(packed, length) {
            Ok(text) if text.len() == length => Ok(Bytes::from(text)),
            _ => Err(corrupt("a compressed string does not unpack")),
        }
    }

    fn checked(&self, length: u64) -> Result<usize, Stop> {
        usize::try_from(length).ok().filter(|length| *length <= self.max_string).ok_or_else(|| {
            Stop::Corrupt(format!("a string of {length} bytes, above {}", self.max_string))
        })
    }

    fn length(&mut self) -> Result<u64, Stop> {
        match self.length_or_mark()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(corrupt("an encoded string where a length should be")),
        }
    }

    fn length_or_mark(&mut self) -> Result<Length, Stop> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first)),
            1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            2 => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(Stop::Corrupt(format!("unknown length encoding {first:#x}"))),
            },
            _ => Length::Special(first & 0x3f),
        })
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.position + length;
        let taken = self.bytes.get(self.position..end).ok_or(Stop::Need(end))?;
        self.position = end;
        Ok(taken)
    }
}

fn corrupt(what: &str) -> Stop {
    Stop::Corrupt(what.to_owned())
}

/// The name of a type as the TYPE command tells it; `None` if there is no such type.
fn type_name(type_byte: u8) -> Option<&'static str> {
    Some(match type_byte {
        opcode::STRING => "string",
        1 | 10 | 14 | 18 => "list",
        2 | 11 | 20 => "set",
        3 | 5 | 12 | 17 => "zset",
        4 | 9 | 13 | 16 | 22..=25 => "hash",
        6 | 7 => "module value",
        15 | 19 | 21 => "stream",
        _ => return None,
    })
}
