//! Doubles of what an instance and a collector ask of AWS, on loopback: the metadata service, STS, and
//! the signature of identity documents. Each behaves as the real one where that matters for trust:
//! what is not asked for properly is refused, and signatures are computed again, not believed.

pub mod identity;
pub mod imds;
pub mod sts;
