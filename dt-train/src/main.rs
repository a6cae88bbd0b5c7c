//! dt-train command line.

fn main() {}
