//! See `read` and `write`.
