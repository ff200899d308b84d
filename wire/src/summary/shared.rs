//! A process that many conversations and questions of a summary share: once in memory, each time in
//! the bytes.

use std::sync::Arc;

use minicbor::decode::{Decode, Decoder, Error};
use minicbor::encode::{self, CborLen, Encode, Encoder, Write};

use super::conversation::Process;

type Shared = Option<Arc<Process>>;

pub(super) fn encode<C, W: Write>(
    process: &Shared,
    e: &mut Encoder<W>,
    context: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    process.as_deref().encode(e, context)
}

pub(super) fn decode<C>(d: &mut Decoder<'_>, context: &mut C) -> Result<Shared, Error> {
    let process = Option::<Process>::decode(d, context)?;
    Ok(process.map(Arc::new))
}

pub(super) fn cbor_len<C>(process: &Shared, context: &mut C) -> usize {
    process.as_deref().cbor_len(context)
}

/// What stands for a field that is missing.
#[expect(clippy::unnecessary_wraps, reason = "as the codec asks")]
pub(super) const fn nil() -> Option<Shared> {
    Some(None)
}

pub(super) const fn is_nil(process: &Shared) -> bool {
    process.is_none()
}
