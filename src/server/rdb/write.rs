//! A snapshot into bytes, key by key, so that it can be sent while it is made.

use bytes::{BufMut, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use super::{MAGIC, WRITTEN_VERSION, opcode};

/// What the head of a dump tells about it.
#[derive(Debug, Clone, Copy)]
pub struct Preamble<'a> {
    /// `redis-ver`: the version of Redis that this node stands for.
    pub redis_version: &'a str,
    /// `ctime`: when the snapshot was taken, in seconds of Unix time.
    pub created_s: u64,
    /// `used-mem`: bytes in use.
    pub used_memory: u64,
    /// Where the snapshot stands in the replication stream, if it is made for a replica.
    pub position: Option<Position<'a>>,
}

/// A place in the replication stream.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// `repl-stream-db`: the database that the stream has selected.
    pub stream_db: u32,
    /// `repl-id`
    pub id: &'a str,
    /// `repl-offset`: the last byte that the snapshot contains.
    pub offset: u64,
}

/// Writes one dump. Each call appends to a buffer of the caller, who sends what is there when it
/// likes.
#[derive(Debug)]
pub struct Writer {
    digest: Digest,
}

impl Writer {
    /// Begins a dump.
    pub fn new(preamble: &Preamble<'_>, out: &mut BytesMut) -> Writer {
        let mut writer = Writer { digest: Digest::new(CrcAlgorithm::Crc64Redis) };
        writer.append(out, |out| {
            out.put_slice(MAGIC);
            out.put_slice(format!("{WRITTEN_VERSION:04}").as_bytes());
            aux("redis-ver", preamble.redis_version, out);
            aux("redis-bits", "64", out);
            aux("ctime", &preamble.created_s.to_string(), out);
            aux("used-mem", &preamble.used_memory.to_string(), out);
            if let Some(position) = &preamble.position {
                aux("repl-stream-db", &position.stream_db.to_string(), out);
                aux("repl-id", position.id, out);
                aux("repl-offset", &position.offset.to_string(), out);
            }
            aux("aof-base", "0", out);
        });
        writer
    }

    /// The keys that follow belong to database `db`, which holds `keys` keys, `expires` of them
    /// with an expiry time. Empty databases are left out by the caller.
    pub fn select_db(&mut self, db: u32, keys: u64, expires: u64, out: &mut BytesMut) {
        self.append(out, |out| {
            out.put_u8(opcode::SELECT_DB);
            length(u64::from(db), out);
            out.put_u8(opcode::RESIZE_DB);
            length(keys, out);
            length(expires, out);
        });
    }

    /// A key that holds a string; `expire_at_ms` is in ms of Unix time.
    pub fn write_string(
        &mut self,
        key: &[u8],
        value: &[u8],
        expire_at_ms: Option<u64>,
        out: &mut BytesMut,
    ) {
        self.append(out, |out| {
            if let Some(at_ms) = expire_at_ms {
                out.put_u8(opcode::EXPIRE_MS);
                out.put_u64_le(at_ms);
            }
            out.put_u8(opcode::STRING);
            string(key, out);
            string(value, out);
        });
    }

    /// Ends the dump with its mark and checksum.
    pub fn finish(mut self, out: &mut BytesMut) {
        self.append(out, |out| out.put_u8(opcode::END));
        out.put_u64_le(self.digest.finalize());
    }

    /// Lets `write` append to `out` and counts the new bytes in the checksum.
    fn append(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        let start = out.len();
        write(out);
        self.digest.update(&out[start..]);
    }
}

fn aux(key: &str, value: &str, out: &mut BytesMut) {
    out.put_u8(opcode::AUX);
    string(key.as_bytes(), out);
    string(value.as_bytes(), out);
}

/// Plain bytes: neither packed integers nor compression, which a replica does not need.
fn string(bytes: &[u8], out: &mut BytesMut) {
    length(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn length(number: u64, out: &mut BytesMut) {
    match number {
        0..0x40 => out.put_u8(number as u8),
        0x40..0x4000 => out.put_u16(0x4000 | number as u16),
        0x4000..=0xffff_ffff => {
            out.put_u8(0x80);
            out.put_u32(number as u32);
        }
        _ => {
            out.put_u8(0x81);
            out.put_u64(number);
        }
    }
}
