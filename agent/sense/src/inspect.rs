//! The path of `picket-agent inspect`: frames in, records and totals out.
