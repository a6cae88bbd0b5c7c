//! The portable kernels: plain loops that any target compiles, and the meaning of all others.

/// The dot products of one packed row pair with the activations of `T` tokens.
///
/// `pair` holds 2·cols weights in packed order; each token has cols activations, cols a multiple
/// of 4. Returns `[row 2p, row 2p + 1]` per token.
#[inline]
pub fn dot_pair<const T: usize>(pair: &[i8], x: [&[i16]; T]) -> [[i32; 2]; T] {
    let words = pair.as_chunks::<8>().0;
    x.map(|x| {
        let mut sums = [0i32; 2];
        for (&[a0, a2, a1, a3, b0, b2, b1, b3], x) in words.iter().zip(x.as_chunks::<4>().0) {
            let [sum_a, sum_b] = &mut sums;
            *sum_a += dot4([a0, a1, a2, a3], x);
            *sum_b += dot4([b0, b1, b2, b3], x);
        }
        sums
    })
}

#[inline]
fn dot4(w: [i8; 4], x: &[i16; 4]) -> i32 {
    dot(x, &w)
}

/// Σ q\[i\]·k\[i\]: a query head against one cached key.
#[inline]
pub fn dot(q: &[i16], k: &[i8]) -> i32 {
    q.iter()
        .zip(k)
        .map(|(&q, &k)| i32::from(q) * i32::from(k))
        .sum()
}

/// sums\[i\] += weight · v\[i\]: one cached value into the attention output.
#[inline]
pub fn accumulate(sums: &mut [i32], weight: i16, v: &[i8]) {
    for (sum, &v) in sums.iter_mut().zip(v) {
        *sum += i32::from(weight) * i32::from(v);
    }
}
