//! dt-train
