//! What the fuzz targets share: packets made of hostile bytes, streams cut in every way, and what
//! must hold of whatever a decoder tells.
//!
//! A target is one file in `fuzz_targets/`, a few lines long: which bytes, which way in, which
//! property. Targets assert by panicking, as a fuzzer wants it.

pub mod dice;
pub mod headers;
pub mod packet;
pub mod quic;
pub mod stream;
pub mod told;
