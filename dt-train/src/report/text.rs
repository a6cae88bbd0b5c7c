//! Numbers for people.

/// A number with as many digits as its size deserves.
pub fn num(x: f64) -> String {
    let size = x.abs();
    if !x.is_finite() {
        return "not finite".to_owned();
    }
    if size >= 1000.0 {
        return thousands(x);
    }
    match digits(size) {
        Some(digits) => minus(&format!("{x:.digits$}")),
        None => minus(&format!("{x:.1e}")),
    }
}

/// Decimals of a number below 1000; none: too small to write out.
fn digits(size: f64) -> Option<usize> {
    match size {
        100.0.. => Some(1),
        1.0.. => Some(2),
        0.1.. => Some(3),
        0.001.. => Some(4),
        0.0 => Some(0),
        _ => None,
    }
}

/// A target return as it was typed: whole where it is.
pub fn target(x: f64) -> String {
    if x.fract() == 0.0 {
        return thousands(x);
    }
    minus(&(x as f32).to_string())
}

/// A whole number in groups of three digits.
pub fn count(n: u64) -> String {
    thousands(n as f64)
}

/// A number without decimals, in groups of three digits.
pub fn thousands(n: f64) -> String {
    let sign = if n.round() < 0.0 { "−" } else { "" };
    let digits = format!("{:.0}", n.abs());
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// mean ± std, with as many decimals as the larger of both deserves.
pub fn mean_std(mean: f64, std: f64) -> String {
    let larger = f64::max(mean.abs(), std);
    match digits(larger) {
        Some(digits) if larger < 1000.0 => minus(&format!("{mean:.digits$} ± {std:.digits$}")),
        Some(_) if larger.is_finite() => format!("{} ± {}", thousands(mean), thousands(std)),
        _ => format!("{} ± {}", num(mean), num(std)),
    }
}

/// Whole kibibytes, rounded up.
pub fn kib(bytes: u64) -> String {
    format!("{} KiB", thousands(bytes.div_ceil(1024) as f64))
}

/// Seconds, or minutes and hours.
pub fn duration(seconds: f64) -> String {
    // What rounds to 60.0 s is a minute.
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        ..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// "1 run", "2 runs".
pub fn plural(n: usize, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        count(n as u64),
        if n == 1 { "" } else { "s" }
    )
}

fn minus(number: &str) -> String {
    number.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_they_deserve() {
        let cases = [
            (0.0, "0"),
            (-0.000_012, "−1.2e−5"),
            (0.004_27, "0.0043"),
            (0.4321, "0.432"),
            (-7.005, "−7.00"),
            (166.86, "166.9"),
            (-2776.4, "−2,776"),
            (f64::NAN, "not finite"),
        ];
        for (x, text) in cases {
            assert_eq!(num(x), text);
        }
        assert_eq!(mean_std(-181.93, 77.97), "−181.9 ± 78.0");
        assert_eq!(mean_std(2776.4, 512.3), "2,776 ± 512");
        assert_eq!(target(-150.0), "−150");
        assert_eq!(target(f64::from(0.1_f32)), "0.1");
        assert_eq!(kib(1025), "2 KiB");
        assert_eq!(duration(59.94), "59.9 s");
        assert_eq!(duration(59.96), "1 min 0 s");
        assert_eq!(duration(3725.0), "1 h 2 min");
        assert_eq!(plural(1, "run"), "1 run");
        let grouped = [0.0, 12.0, 1234.0, -1_234_567.0, -0.2].map(thousands);
        assert_eq!(grouped, ["0", "12", "1,234", "−1,234,567", "0"]);
    }
}
