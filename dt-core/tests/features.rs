//! What a build was made without, it refuses by name.

use dt_core::{Blob, BlobError};

/// A file that requires one thing, and after that nothing of what a manifest has.
fn requiring(name: &str) -> [u128; 4] {
    let manifest_len = 1 + name.len();
    let length = 24 + manifest_len;
    let word = |value: usize| (value as u32).to_le_bytes();
    let header = [
        *b"DTPO",
        *b"LICY",
        word(2),
        word(0),
        word(length),
        word(manifest_len),
    ];
    let mut file = header.concat();
    file.push(name.len() as u8);
    file.extend(name.bytes());
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    digest.update(&file[..12]);
    digest.update(&file[16..]);
    file[12..16].copy_from_slice(&digest.finalize().to_le_bytes());
    let mut aligned = [0; 4];
    bytemuck::cast_slice_mut(&mut aligned)[..length].copy_from_slice(&file);
    aligned
}

fn refused(name: &str) -> BlobError {
    Blob::parse(bytemuck::cast_slice(&requiring(name))).unwrap_err()
}

#[test]
fn what_a_feature_brings_is_refused_by_name_without_it() {
    // Everybody knows this one, and finds that nothing follows.
    assert_eq!(refused("glu"), BlobError::Manifest);
    for (name, known) in [
        ("mlp", cfg!(feature = "mlp")),
        ("convolutions", cfg!(feature = "images")),
        ("embedding-tanh", cfg!(feature = "variants")),
        ("state-first", cfg!(feature = "variants")),
        ("convolution-mixer", cfg!(feature = "variants")),
        ("no-embedding-norm", cfg!(feature = "variants")),
        ("window-positions", cfg!(feature = "variants")),
    ] {
        let error = refused(name);
        if known {
            assert_eq!(error, BlobError::Manifest);
        } else {
            assert!(matches!(error, BlobError::Requires(_)), "{error}");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
