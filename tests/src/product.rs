//! The two binaries.
