//! The reader against captures made here.
