//! The portable kernels: plain loops that any target compiles, and the meaning of all others.

/// The dot products of one packed row pair with the activations of `T` tokens.
///
/// `pair` holds 2·cols weights in packed order, cols a multiple of 4; `x` the interleaved
/// activations (cols/4, T, 4). Returns `[row 2p, row 2p + 1]` per token.
#[inline]
pub fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let mut sums = [[0i32; 2]; T];
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    for (&[a0, a2, a1, a3, b0, b2, b1, b3], x) in pair.as_chunks::<8>().0.iter().zip(groups) {
        for ([sum_a, sum_b], x) in sums.iter_mut().zip(x) {
            *sum_a += dot4([a0, a1, a2, a3], x);
            *sum_b += dot4([b0, b1, b2, b3], x);
        }
    }
    sums
}

/// Σ q\[i\]·k\[i\]: a query head against one cached key, whose bytes are in packed order (0, 2, 1, 3).
#[inline]
pub fn dot(q: &[i16], k: &[i8]) -> i32 {
    let groups = q.as_chunks::<4>().0.iter().zip(k.as_chunks::<4>().0);
    groups
        .map(|(q, &[k0, k2, k1, k3])| dot4([k0, k1, k2, k3], q))
        .sum()
}

/// sums\[i\] += Σ weights\[j\]·values\[j·stride + i\]: the cached values of one head, weighted.
#[inline]
pub fn weighted_sum(weights: &[i16], values: &[i8], stride: usize, sums: &mut [i32]) {
    let mut values = values;
    for &weight in weights {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += i32::from(weight) * i32::from(value);
        }
        values = values.get(stride..).unwrap_or_default();
    }
}

#[inline]
fn dot4(w: [i8; 4], x: &[i16; 4]) -> i32 {
    let products = w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x));
    products.sum()
}
