//! host-sim command line.

fn main() {}
