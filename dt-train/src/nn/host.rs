//! Linear layers in plain Rust, for networks so small that libtorch's cost per call is larger than the arithmetic.

/// y = W·x + b for each row of `x` (B, inputs), with W [outputs, inputs] and b [outputs]; `y` is (B, outputs). Each row
/// of W is loaded once for the whole batch, and a row of `y` does not depend on the others.
pub(crate) fn linear(weight: &[f32], bias: &[f32], x: &[f32], y: &mut [f32]) {
    let (inputs, outputs) = (weight.len() / bias.len(), bias.len());
    for (i, (row, bias)) in weight.chunks_exact(inputs).zip(bias).enumerate() {
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            y[i] = dot(row, x) + bias;
        }
    }
}

pub(crate) fn relu(x: &mut f32) {
    if *x < 0.0 {
        *x = 0.0;
    }
}

/// Eight independent sums, which the compiler keeps in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
