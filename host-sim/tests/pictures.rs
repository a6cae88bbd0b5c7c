//! Episodes as pictures: in files, and in a window.
#![cfg(feature = "draw")]

mod common;
mod workplace;

use image::RgbImage;
use predicates::prelude::*;
use predicates::str::contains;
use workplace::Workplace;

const PENDULUM: &str = "rollout p.dtb --env pendulum --target-return -150 --episodes 2 --seed 5";

fn workplace() -> Workplace {
    let w = Workplace::new();
    w.policy("p.dtb", "pendulum", 3, 1);
    w
}

/// One of the six moments in a PNG.
fn moment(sheet: &RgbImage, i: u32) -> RgbImage {
    assert_eq!(sheet.dimensions(), (3 * 400, 2 * 300));
    let (x, y) = (i % 3 * 400, i / 3 * 300);
    image::imageops::crop_imm(sheet, x, y, 400, 300).to_image()
}

fn open(w: &Workplace, name: &str) -> RgbImage {
    image::open(w.path(name)).unwrap().to_rgb8()
}

/// Checks that a GIF shows an episode of so many seconds in real time, and ends with a picture that stays.
fn check_animation(w: &Workplace, name: &str, pictures: u32, seconds: f64) {
    let file = std::fs::File::open(w.path(name)).unwrap();
    let mut reader = gif::DecodeOptions::new().read_info(file).unwrap();
    let (mut frames, mut time) = (0, 0);
    while let Some(frame) = reader.read_next_frame().unwrap() {
        assert_eq!((frame.width, frame.height), (400, 300));
        frames += 1;
        time += u32::from(frame.delay);
    }
    assert_eq!(frames, pictures);
    let played = f64::from(time - 200) / 100.0;
    assert!((played - seconds).abs() < 0.03, "{seconds} s in {played} s");
}

/// Rod and axle are where the angle says: upright, hanging, and on the left at +90°.
#[test]
fn the_pendulum_is_drawn_at_its_angle_with_its_torque() {
    let blueprint = host_sim::Blueprint::new("pendulum", None).unwrap();
    let mut stage = host_sim::stage::Stage::new(&blueprint, (400, 300)).unwrap();
    let mut of = |seed, action: &[f32]| {
        stage.reset(seed, -150.0);
        action.chunks(1).for_each(|action| stage.step(action));
        RgbImage::from_raw(400, 300, stage.picture().unwrap()).unwrap()
    };
    let is_rod = |p: &image::Rgb<u8>| p.0[0] > 180 && p.0[1] < 100;
    let is_torque = |p: &image::Rgb<u8>| p.0[2] > 150 && p.0[0] < 80;
    let centre = |picture: &RgbImage, matches: &dyn Fn(&image::Rgb<u8>) -> bool| {
        let found = picture.enumerate_pixels().filter(|(.., p)| matches(p));
        let (x, y, n) = found.fold((0.0, 0.0, 0.0), |(x, y, n), (px, py, _)| {
            (x + f64::from(px), y + f64::from(py), n + 1.0)
        });
        (x / n - 200.0, 150.0 - y / n, n)
    };
    for seed in 0..8 {
        let mut env = host_sim::make("pendulum").unwrap();
        env.reset(seed);
        let mut observation = [0.0; 3];
        env.observation_f64(&mut observation);
        let picture = of(seed, &[]);
        let (x, y, _) = centre(&picture, &is_rod);
        // The middle of the rod is half a length (62.5 pixels) from the axle, at θ from upright to the left; a little more
        // of what the axle leaves to be seen.
        let expected = (-64.6 * observation[1], 64.6 * observation[0]);
        assert!(
            (x - expected.0).abs() < 3.0 && (y - expected.1).abs() < 3.0,
            "seed {seed}: {x}, {y}"
        );
        assert_eq!(centre(&picture, &is_torque).2, 0.0, "no torque yet");
    }
    // Beginning below the axle: counter-clockwise is to the right. A stronger torque is a longer arrow.
    let (x, _, weak) = centre(&of(0, &[0.5]), &is_torque);
    assert!(x > 0.0 && weak > 0.0);
    let (x, ..) = centre(&of(0, &[-0.5]), &is_torque);
    assert!(x < 0.0);
    assert!(centre(&of(0, &[2.0]), &is_torque).2 > 2.0 * weak);
}

#[test]
fn pendulum_episodes_are_drawn_with_target_and_return() {
    let w = workplace();
    for format in ["gif", "png"] {
        w.run(&format!(
            "{PENDULUM} --render film.{format} --json {format}.json"
        ))
        .success();
    }
    w.run(&format!("{PENDULUM} --json without.json")).success();
    assert_eq!(w.evaluation("gif.json"), w.evaluation("without.json"));
    // A picture per step of 50 ms, and the beginning.
    check_animation(&w, "film.gif", 201, 10.0);

    let sheet = open(&w, "film.png");
    let caption = |i, y| image::imageops::crop_imm(&moment(&sheet, i), 8, y, 126, 18).to_image();
    let (target, earned, step, seed) = (10, 28, 46, 64);
    for line in [target, seed] {
        assert_eq!(caption(0, line), caption(5, line));
        assert!(caption(0, line).pixels().any(|p| p.0[0] < 100), "written");
    }
    for line in [earned, step] {
        assert_ne!(caption(0, line), caption(5, line));
    }
}

#[test]
fn pictures_are_not_overwritten_and_named_by_their_format() {
    let w = workplace();
    w.write("film.gif", "precious");
    w.run(&format!("{PENDULUM} --render film.gif"))
        .code(1)
        .stderr(contains("film.gif already exists"));
    assert_eq!(w.read("film.gif"), "precious");
    w.run(&format!("{PENDULUM} --render film.mp4"))
        .code(2)
        .stderr(contains("pictures are .gif or .png"));
}

#[test]
fn a_viewer_without_a_display_says_what_to_do_instead() {
    let w = workplace();
    let view = "view p.dtb --env pendulum --target-return -150 --seed 5";
    let mut command = w.command(view);
    let command = command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.assert().code(1).stdout("").stderr(
        contains("cannot open a window: ").and(contains("`host-sim rollout … --render OUT.gif`")),
    );
    // What else is wrong is said first.
    for (from, to, code, message) in [
        ("p.dtb", "none.dtb", 1, "cannot read policy none.dtb"),
        ("pendulum", "pendlum", 2, "did you mean `pendulum`?"),
        ("-150", "nan", 1, "--target-return NaN is not finite"),
        ("--seed 5", "--episodes 0", 2, "--episodes"),
    ] {
        w.run(&view.replace(from, to))
            .code(code)
            .stderr(contains(message));
    }
}

/// Needs EGL, which Mesa gives without a GPU.
#[cfg(feature = "mujoco")]
#[test]
fn mujoco_episodes_are_drawn_with_target_and_return() {
    let w = Workplace::new();
    w.policy("p.dtb", "hopper", 11, 3);
    let rollout = "rollout p.dtb --env hopper --target-return 3600 --episodes 2 --seed 5";
    for format in ["gif", "png"] {
        w.run(&format!(
            "{rollout} --render film.{format} --json {format}.json"
        ))
        .success();
    }
    w.run(&format!("{rollout} --json without.json")).success();
    assert_eq!(w.evaluation("gif.json"), w.evaluation("without.json"));

    let sheet = open(&w, "film.png");
    // The caption changes with the return, and the robot moves in what is not under the caption.
    let caption = |i| image::imageops::crop_imm(&moment(&sheet, i), 6, 6, 130, 60).to_image();
    let scene = |i| image::imageops::crop_imm(&moment(&sheet, i), 150, 70, 250, 230).to_image();
    assert_ne!(caption(0), caption(5));
    assert_ne!(scene(0), scene(5));

    // 8 ms per step.
    let steps = w.evaluation("gif.json").episodes[0].length;
    check_animation(
        &w,
        "film.gif",
        steps.div_ceil(5) + 1,
        f64::from(steps) * 0.008,
    );
}

/// A camera of the model stays where it is until the user moves it, and then still shows the robot.
#[cfg(feature = "mujoco")]
#[test]
fn a_camera_can_be_moved() {
    use host_sim::stage::{Gesture, Stage};
    let blueprint = host_sim::Blueprint::new("halfcheetah", None).unwrap();
    // Larger than the 640 × 480 that MuJoCo draws by default.
    let mut stage = Stage::new(&blueprint, (800, 500)).unwrap();
    let mut picture = || {
        let picture = stage.picture().unwrap();
        assert_eq!(picture.len(), 3 * 800 * 500);
        picture
    };
    let before = picture();
    assert_eq!(before, picture());
    let mut pictures = vec![before];
    for gesture in [Gesture::Turn, Gesture::Shift, Gesture::Zoom] {
        stage.move_camera(gesture, 0.1, 0.1);
        pictures.push(stage.picture().unwrap());
    }
    for (i, picture) in pictures.iter().enumerate() {
        assert!(
            pictures[i + 1..].iter().all(|other| other != picture),
            "{i}"
        );
    }
}
