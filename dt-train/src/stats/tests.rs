//! Expected values: SciPy 1.17.1, NumPy 2.4.6 and rliable 1.2.0, computed once from the same numbers.

use super::*;

const X: [f64; 10] = [3.2, -1.5, 7.25, 4.0, 0.5, 12.0, 2.75, -3.0, 5.5, 6.0];
const Y: [f64; 10] = [1.0, 0.25, 3.5, 2.0, -1.0, 8.5, 0.0, 0.75, 2.25, 4.0];

#[track_caller]
fn near(ours: f64, expected: f64, tolerance: f64) {
    assert!(
        (ours - expected).abs() <= tolerance,
        "{ours} instead of {expected}"
    );
}

#[track_caller]
fn is(ours: Estimate, value: f64, low: f64, high: f64) {
    near(ours.value, value, 1e-9);
    let interval = ours.interval.unwrap();
    near(interval.low, low, 1e-9);
    near(interval.high, high, 1e-9);
}

#[test]
fn spreads_are_scipys() {
    near(mean(&X), 3.670_000_000_000_000_4, 1e-15);
    near(population_deviation(&X), 4.164_444_740_898_839, 1e-14);
    near(sample_deviation(&X).unwrap(), 4.389_710_190_383_365, 1e-14);
    assert_eq!(sample_deviation(&X[..1]), None);
    assert_eq!(sample_deviation(&[]), None);
}

/// `scipy.stats.trim_mean(x, 0.25)`, `numpy.quantile`, `scipy.stats.pearsonr`.
#[test]
fn middles_and_correlations_are_scipys() {
    let expected = [
        (3, 2.983_333_333_333_333),
        (4, 3.6),
        (5, 2.566_666_666_666_667),
        (10, 3.658_333_333_333_333),
    ];
    for (n, expected) in expected {
        near(interquartile_mean(&X[..n]), expected, 1e-14);
    }
    assert!(interquartile_mean(&[]).is_nan());
    let mut ascending = X;
    ascending.sort_by(f64::total_cmp);
    for (fraction, expected) in [
        (0.0, -3.0),
        (0.025, -2.6625),
        (0.5, 3.6),
        (0.9, 7.725),
        (1.0, 12.0),
    ] {
        near(quantile(&ascending, fraction), expected, 1e-12);
    }
    assert!(quantile(&[], 0.5).is_nan());
    let pairs: Vec<_> = X.into_iter().zip(Y).collect();
    near(pearson(&pairs).unwrap(), 0.870_323_411_460_209_1, 1e-14);
    assert_eq!(pearson(&[(0.0, 1.0), (1.0, 1.0)]), None);
    assert_eq!(pearson(&pairs[..1]), None);
}

/// `scipy.stats.t.ppf(0.975, df)`.
#[test]
fn students_quantiles_are_scipys() {
    let expected = [
        (1.0, 12.706_204_736_174_694),
        (2.0, 4.302_652_729_749_462),
        (4.0, 2.776_445_105_197_793_4),
        (99.0, 1.984_216_951_586_417_4),
        (299.0, 1.967_929_669_065_669_8),
    ];
    for (freedom, expected) in expected {
        near(student(freedom), expected, 1e-9);
    }
}

/// `scipy.stats.ttest_rel(x, y)` and `ttest_ind(a, b, equal_var=False)`, their `confidence_interval(0.95)`.
#[test]
fn intervals_of_means_are_scipys() {
    let differences: Vec<f64> = X.iter().zip(Y).map(|(x, y)| x - y).collect();
    is(
        independent(&differences),
        1.545,
        -0.187_389_205_980_992_5,
        3.277_389_205_980_992_6,
    );
    assert_eq!(independent(&X[..1]).interval, None);
    let (a, b) = ([3601.0, 2404.0, 3550.0, 3300.0], [1508.0, 1656.0, 1475.0]);
    is(
        welch(&a, &b),
        1_667.416_666_666_666_7,
        802.057_053_593_185_4,
        2_532.776_279_740_148_3,
    );
    assert_eq!(welch(&a, &b[..1]).interval, None);
    assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]).interval, None);
}

/// The jackknife written in NumPy.
#[test]
fn clusters_are_left_out_one_at_a_time() {
    let clusters = [
        vec![1.0, 4.0, 2.0, 9.0, 3.0],
        vec![2.0, 8.0, 5.0, 7.0],
        vec![0.0, -3.0, 1.0, 2.0, 2.0, 6.0],
        vec![5.0, 4.0, 4.0, 3.0],
    ];
    is(
        clustered(&clusters, Statistic::Mean),
        3.421_052_631_578_947_3,
        0.309_756_115_211_762_05,
        6.532_349_147_946_133,
    );
    is(
        clustered(&clusters, Statistic::InterquartileMean),
        3.272_727_272_727_273,
        0.720_140_132_030_965,
        5.825_314_413_423_58,
    );
    assert_eq!(clustered(&clusters[..1], Statistic::Mean).interval, None);
    // Of clusters of one size: Student's interval of their means.
    let equal = [vec![1.0, 2.0], vec![4.0, 6.0], vec![2.0, 9.0]];
    let means = independent(&[1.5, 5.0, 5.5]);
    let Interval { low, high } = means.interval.unwrap();
    is(clustered(&equal, Statistic::Mean), means.value, low, high);
}

/// `rliable.library.get_interval_estimates` with `aggregate_iqm` and `aggregate_mean`, 50,000 resamples, three seeds:
/// within what they differ by among themselves.
#[test]
fn stratified_bootstrap_is_rliables() {
    let tasks = [
        vec![78.4, 61.2, 70.5, 80.1, 55.0],
        vec![52.3, 50.1, 31.4, 47.7, 49.9],
        vec![60.3, 66.0, 48.2, 58.8, 71.3],
        vec![97.6, 95.0, 98.9, 92.4, 96.6],
    ];
    let iqm = stratified_bootstrap(&tasks, Statistic::InterquartileMean);
    near(iqm.value, 65.39, 1e-12);
    let Interval { low, high } = iqm.interval.unwrap();
    near(low, 60.0, 0.1);
    near(high, 70.38, 0.1);
    let of_mean = stratified_bootstrap(&tasks, Statistic::Mean);
    near(of_mean.value, 68.085, 1e-12);
    let Interval { low, high } = of_mean.interval.unwrap();
    near(low, 64.76, 0.05);
    near(high, 71.17, 0.05);
    assert_eq!(
        iqm,
        stratified_bootstrap(&tasks, Statistic::InterquartileMean)
    );
    // Without strata the tasks' differences would count as noise: an interval that knows tasks must be narrower.
    let Interval {
        low: pooled_low,
        high: pooled_high,
    } = stratified_bootstrap(&[tasks.concat()], Statistic::Mean)
        .interval
        .unwrap();
    assert!(pooled_high - pooled_low > 2.0 * (high - low));
    let single = [tasks[0].clone(), vec![1.0]];
    assert_eq!(
        stratified_bootstrap(&single, Statistic::Mean).interval,
        None
    );
    assert_eq!(stratified_bootstrap(&[], Statistic::Mean).interval, None);
}

/// Seeds that differ by half of what episodes do: the interval over seeds holds the truth as often as it says, the one
/// over pooled episodes does not.
#[test]
fn intervals_over_seeds_cover_and_pooled_ones_do_not() {
    const REPEATS: u32 = 1000;
    for seeds in [3, 5] {
        let mut noise = Noise::new(7, *b"coverage");
        let mut normal = move || f64::from(noise.normal());
        let (mut over_seeds, mut pooled) = (0, 0);
        for _ in 0..REPEATS {
            let clusters: Vec<Vec<f64>> = (0..seeds)
                .map(|_| {
                    let of_seed = normal();
                    (0..40).map(|_| of_seed + 2.0 * normal()).collect()
                })
                .collect();
            let holds = |estimate: Estimate| {
                let Interval { low, high } = estimate.interval.unwrap();
                u32::from(low <= 0.0 && 0.0 <= high)
            };
            over_seeds += holds(clustered(&clusters, Statistic::Mean));
            pooled += holds(independent(&clusters.concat()));
        }
        // 95 % ± 3.5 standard errors.
        assert!(
            (926..=974).contains(&over_seeds),
            "{over_seeds} of {REPEATS} with {seeds} seeds"
        );
        assert!(pooled < 600, "{pooled} of {REPEATS} with {seeds} seeds");
    }
}

#[test]
fn a_negative_unit_turns_an_interval_around() {
    let estimate = Estimate {
        value: 2.0,
        interval: Some(Interval {
            low: 1.0,
            high: 5.0,
        }),
    };
    let Interval { low, high } = estimate.scaled(-2.0).interval.unwrap();
    assert_eq!(
        (estimate.scaled(-2.0).value, low, high),
        (-4.0, -10.0, -2.0)
    );
}
