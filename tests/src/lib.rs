#![doc = "Cross-crate tests."]
