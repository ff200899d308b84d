//! Packs entries into chunks, in the one way there is.

use minicbor::Encoder;

use super::ChunkHead;
use super::chunk::{Act, Kind};
use crate::limits::{BUNDLE_ZSTD_LEVEL, CHUNK_BYTES_MAX};

/// Bytes that the head of a section takes at most.
const HEAD_BYTES_MAX: usize = 32;

/// Bytes that one entry takes at most.
const ENTRY_BYTES_MAX: usize = 2 + super::chunk::KEY_BYTES_MAX;

/// A chunk as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What the manifest says of it.
    pub head: ChunkHead,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// Takes sections, gives chunks.
#[derive(Debug, Default)]
pub struct Packer {
    chunks: Vec<Chunk>,
    /// What the chunk being filled inflates to, but for the section being filled.
    plain: Vec<u8>,
    entries: Vec<u8>,
    count: u64,
    last: Vec<u8>,
}

impl Packer {
    /// Adds the entries of one kind of one list, by their keys, which must ascend. Those that do not
    /// are left out, as the same twice.
    pub fn section<'a>(
        &mut self,
        list: u32,
        kind: Kind,
        act: Act,
        keys: impl Iterator<Item = &'a [u8]>,
    ) {
        for key in keys {
            let room = CHUNK_BYTES_MAX - HEAD_BYTES_MAX - ENTRY_BYTES_MAX;
            if self.plain.len() + self.entries.len() > room {
                self.close_section(list, kind, act);
                self.close_chunk();
            }
            self.entry(kind, key);
        }
        self.close_section(list, kind, act);
    }

    /// The chunks.
    pub fn finish(mut self) -> Vec<Chunk> {
        self.close_chunk();
        self.chunks
    }

    fn entry(&mut self, kind: Kind, key: &[u8]) {
        if self.count > 0 && key <= self.last.as_slice() {
            return;
        }
        let pairs = key.iter().zip(&self.last);
        let shared = pairs.take_while(|(one, other)| one == other).count();
        let rest = &key[shared..];
        let (Ok(shared), Ok(rest_bytes)) = (u8::try_from(shared), u8::try_from(rest.len())) else {
            // No key is so long.
            return;
        };
        self.entries.push(shared);
        if kind.width().is_none() {
            self.entries.push(rest_bytes);
        }
        self.entries.extend(rest);
        self.count += 1;
        self.last.clear();
        self.last.extend(key);
    }

    fn close_section(&mut self, list: u32, kind: Kind, act: Act) {
        if self.count > 0 {
            let mut e = Encoder::new(&mut self.plain);
            let written: Result<(), minicbor::encode::Error<_>> = (|| {
                e.array(5)?
                    .u32(list)?
                    .u8(kind as u8)?
                    .u8(act as u8)?
                    .u64(self.count)?
                    .bytes(&self.entries)?;
                Ok(())
            })();
            written.expect("writing CBOR to memory cannot fail");
        }
        self.entries.clear();
        self.last.clear();
        self.count = 0;
    }

    fn close_chunk(&mut self) {
        if self.plain.is_empty() {
            return;
        }
        let frame = zstd::bulk::compress(&self.plain, BUNDLE_ZSTD_LEVEL)
            .expect("compressing memory to memory fails only without memory");
        // A chunk has CHUNK_BYTES_MAX at most.
        let head = ChunkHead::of(&frame, self.plain.len() as u32);
        self.chunks.push(Chunk { head, frame });
        self.plain.clear();
    }
}
