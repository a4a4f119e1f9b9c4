//! The program `glow`, tested from the command line.

use image::{GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Settings of a run that trains in a moment.
const TINY: &str = r#"
batch = 8
model = { levels = 2, steps = 2, hidden = 6 }
train = { steps = 12, ema = { decay = 0.9 }, evaluate_every = 4, checkpoint_every = 3 }
"#;

/// A folder with settings and two classes of 12 images of 8 x 8: disks and bars.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("tiny.toml"), TINY).unwrap();
    for class in ["bars", "disks"] {
        fs::create_dir_all(here.join("images").join(class)).unwrap();
        for i in 0..12u32 {
            let colour = |x: u32, y: u32| {
                let within = if class == "bars" { x / 2 == i % 4 } else { (x + i) % 8 + y < 8 };
                Rgb([if within { 200 + i as u8 } else { 10 * (x as u8) }, 40 * (y as u8 % 4), i as u8])
            };
            let image = RgbImage::from_fn(8, 8, colour);
            image.save(here.join("images").join(class).join(format!("{i}.png"))).unwrap();
        }
    }
    folder
}

fn glow(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glow"));
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &str) -> Output {
    glow(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program's output; it must succeed.
fn succeeds(folder: &Path, args: &str) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(folder: &Path, args: &str) -> Value {
    let printed = succeeds(folder, args);
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{args}: {e} in {printed}"))
}

/// Asserts that the program fails with status 2 and a one-line error that contains all `words`.
fn fails(folder: &Path, args: &str, words: &[&str]) {
    let output = run(folder, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args}: {words:?} in {said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{args}: {said}");
}

#[test]
fn a_model_from_training_to_pictures() {
    let folder = folder();
    let here = folder.path();
    let results = json(here, "train --data images --config tiny.toml --out run --seed 3 --json -q");
    let bits = results["test"]["bits_per_dimension"].as_f64().unwrap();
    let nats = results["test"]["log_likelihood"].as_f64().unwrap();
    assert!((bits - (8.0 - nats / (192.0 * 2f64.ln()))).abs() < 1e-9);
    assert_eq!((&results["shape"], &results["test"]["images"]), (&serde_json::json!([3, 8, 8]), &2.into()));
    for name in ["config.toml", "metrics.jsonl", "model.safetensors", "results.json", "loss.png", "samples.png"] {
        assert!(fs::metadata(here.join("run").join(name)).unwrap().len() > 0, "{name}");
    }
    // The test images of the run, given only its folder, with other noise.
    let again = json(here, "eval run --json")["result"]["bits_per_dimension"].as_f64().unwrap();
    assert!((again - bits).abs() < 0.2, "{again} {bits}");
    assert!(succeeds(here, "eval run --data images").contains("24 images"));
    succeeds(here, "eval run --data images --scores scores.csv");
    let scores = fs::read_to_string(here.join("scores.csv")).unwrap();
    let lines: Vec<Vec<&str>> = scores.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.len() == 25 && lines[1][0].contains("bars") && lines[24][0].contains("disks"), "{scores}");
    assert!(lines[1..].iter().all(|line| line[1].parse::<f64>().unwrap() > 0.0 && line.len() == 3));
    assert!(succeeds(here, "info run").contains("Split prior"));

    let read = |name: &str| fs::read(here.join(name)).unwrap();
    for (seed, out) in [(1, "a.png"), (1, "b.png"), (2, "c.png")] {
        succeeds(here, &format!("sample run --count 4 --seed {seed} --out {out}"));
    }
    assert!(read("a.png") == read("b.png") && read("a.png") != read("c.png"));
    succeeds(here, "sample run --count 3 --out singles");
    assert_eq!(fs::read_dir(here.join("singles")).unwrap().count(), 3);
    assert_eq!(image::open(here.join("singles/000001.png")).unwrap().to_rgb8().dimensions(), (8, 8));

    let report = json(here, "reconstruct run images/bars images/disks/3.png --out pairs.png --json");
    assert!(report["largest_error"].as_f64().unwrap() < 1e-3, "{report}");
    assert_eq!(report["images"].as_array().unwrap().len(), 13);
    succeeds(here, "interpolate run images/bars/0.png images/disks/0.png --frames 5 --out strip.png");
    assert_eq!(image::image_dimensions(here.join("strip.png")).unwrap(), (5 * 66 + 2, 68));
    succeeds(here, "interpolate run --frames 3 --rows 4 --out walk.gif");
    assert!(read("walk.gif").starts_with(b"GIF89a"));

    fs::write(here.join("disks.txt"), "images/disks/0.png\nimages/disks/1.png\n").unwrap();
    succeeds(here, "edit run --with images/bars --without disks.txt --save direction.safetensors");
    let edit = "edit run images/disks/5.png --direction direction.safetensors --strengths=0,1 --out edited.png --json";
    assert!(json(here, edit)["length"].as_f64().unwrap() > 0.0);
    assert_eq!(image::image_dimensions(here.join("edited.png")).unwrap(), (2 * 66 + 2, 68));
    fails(here, "edit run images/disks/5.png", &["--with", "--direction"]);
    fails(here, "edit run images/disks/5.png --direction run/model.safetensors", &["glow-direction"]);

    fails(here, "export run --out run/model.safetensors", &["would be lost"]);
    fails(here, "reconstruct run images/disks/5.png --out images/disks/5.png", &["would be lost"]);
    fails(here, "sample run --count 4 --out drawn.jpg", &[".png"]);
    // Exported to PyTorch's layout and imported, it is the same model.
    succeeds(here, "export run --out torch.safetensors");
    assert!(succeeds(here, "import torch.safetensors --size 8,8 --out again.safetensors").contains("2 levels"));
    let bits = |model: &str| json(here, &format!("eval {model} --data images --json"))["result"].clone();
    let difference = bits("run")["bits_per_dimension"].as_f64().unwrap()
        - bits("again.safetensors")["bits_per_dimension"].as_f64().unwrap();
    assert!(difference.abs() < 1e-5, "{difference}");
}

#[test]
fn classes_condition_a_model() {
    let folder = folder();
    let here = folder.path();
    let results = json(here, "train --data images --config tiny.toml --conditional --out run --json -q");
    assert!(results["test"]["bits_per_dimension"].as_f64().unwrap().is_finite());
    assert_eq!(results["test"]["given"], "the class");
    fs::write(here.join("featured.toml"), TINY.replace("hidden = 6", "hidden = 6, class_features = 2")).unwrap();
    for (args, out, has) in [("--conditional", "featured", true), ("", "plain", false)] {
        succeeds(here, &format!("train --data images --config featured.toml {args} --out {out} -q"));
        assert_eq!(succeeds(here, &format!("info {out}")).contains("Class features"), has, "{out}");
    }
    succeeds(here, "sample featured --class 1 --count 4 --out disks.png");
    succeeds(here, "sample run --out all.png");
    succeeds(here, "sample run --class 1 --count 4 --out disks.png");
    succeeds(here, "sample run --class disks --count 4 --out named.png");
    assert_eq!(fs::read(here.join("disks.png")).unwrap(), fs::read(here.join("named.png")).unwrap());
    fails(here, "sample run --class rings --out none.png", &["no class rings", "bars, disks"]);
    assert!(succeeds(here, "info run").contains("class_names = [\"bars\", \"disks\"]"));
    fails(here, "sample run --class 2 --out none.png", &["no class 2"]);
    fails(here, "sample run --columns 3 --out none.png", &["--columns"]);
    fails(here, "sample run --class 0 --count 18446744073709551615", &["--count"]);
    // Classes are matched by name.
    for (class, known) in [("disks", true), ("rings", false)] {
        let folder = here.join(format!("only-{class}")).join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(here.join("images/disks/5.png"), folder.join("5.png")).unwrap();
        match known {
            true => drop(succeeds(here, &format!("eval run --data only-{class}"))),
            false => fails(here, &format!("eval run --data only-{class}"), &["`rings`", "`bars`, `disks`"]),
        }
    }
    fails(here, "interpolate run", &["2 classes", "--class"]);
    fails(here, "export run", &["classes"]);
}

#[test]
fn small_images_become_larger_ones() {
    let folder = folder();
    let here = folder.path();
    let train = "train --data images --config tiny.toml --super-resolution 2 -q";
    let results = json(here, &format!("{train} --out run --json"));
    assert!(results["test"]["bits_per_dimension"].as_f64().unwrap().is_finite());
    assert!(fs::metadata(here.join("run/samples.png")).unwrap().len() > 0);
    assert!(succeeds(here, "info run").contains("scale = 2"));
    let high = "super-resolve run images/bars/0.png images/disks --from high --count 2 --out rows.png --json";
    let report = json(here, high);
    // Rows of the small image, bicubic, two answers and the original.
    assert_eq!(image::image_dimensions(here.join("rows.png")).unwrap(), (5 * 66 + 2, 13 * 66 + 2));
    for name in ["samples", "mean", "bicubic", "consistency", "consistency_of_bicubic"] {
        assert!(report["psnr"][name]["mean"].as_f64().unwrap() > 0.0, "{name} in {report}");
    }
    // Without noise all answers, and so their mean, are the same.
    let calm = json(here, &format!("{high} --temperature 0"));
    let difference = calm["psnr"]["samples"]["mean"].as_f64().unwrap() - calm["psnr"]["mean"]["mean"].as_f64().unwrap();
    assert!(difference.abs() < 1e-9, "{difference}");

    RgbImage::from_fn(4, 4, |x, y| Rgb([60 * x as u8, 60 * y as u8, 99])).save(here.join("small.png")).unwrap();
    assert!(succeeds(here, "super-resolve run small.png --count 3 --out answers").contains("3 answers to each"));
    assert_eq!(fs::read_dir(here.join("answers")).unwrap().count(), 3);
    assert_eq!(image::image_dimensions(here.join("answers/0000-small-2.png")).unwrap(), (8, 8));
    fails(here, "super-resolve run images/bars/0.png", &["0.png", "4 x 4", "--from high"]);
    fails(here, "super-resolve run small.png --count 0", &["--count"]);
    fails(here, "sample run --out none.png", &["super-resolve"]);
    fails(here, "export run", &["lower resolution"]);
    fails(here, "train --data images --config tiny.toml --super-resolution 3 --out three -q", &["scale", "2, 4, 8"]);
    fails(here, "super-resolve missing small.png", &["missing"]);
    succeeds(here, "train --data images --config tiny.toml --out plain -q");
    fails(here, "super-resolve plain small.png", &["--super-resolution"]);
}

#[test]
fn other_couplings_logits_and_learnt_noise_train() {
    let folder = folder();
    let here = folder.path();
    let flags = "--coupling mixture --logit 0.05 --variational-dequantization";
    let results = json(here, &format!("train --data images --config tiny.toml {flags} --out run --json -q"));
    assert_eq!((&results["test"]["draws"], &results["test"]["variational"]), (&1.into(), &true.into()));
    let bits = |args: &str| json(here, args)["result"]["bits_per_dimension"].as_f64().unwrap();
    let (one, many) = (bits("eval run --data images --json"), bits("eval run --data images --draws 20 --json"));
    assert!(many < one, "{many} {one}");
    assert!(succeeds(here, "eval run --draws 2").contains("upper bound by 2 draws of learnt noise"));
    let info = succeeds(here, "info run");
    assert!(["Dequantizer", "mixture of 8 logistics", "logit = 0.05", "Logit"].iter().all(|word| info.contains(word)));
    succeeds(here, "sample run --count 4 --out samples.png");
    fails(here, "export run", &["logits"]);
    fails(here, "train --data images --config tiny.toml --logit 0.7 --out bad -q", &["logit", "0.05"]);
    fails(here, "train --data images --config tiny.toml --coupling cubic --out bad -q", &["mixture"]);
}

#[test]
fn images_that_cannot_be_used_are_named() {
    let folder = folder();
    let here = folder.path();
    let train = "train --config tiny.toml --out run -q --data";
    let bars = here.join("images/bars");
    let whole = fs::read(bars.join("3.png")).unwrap();
    fs::write(bars.join("3.png"), &whole[..whole.len() / 2]).unwrap();
    fails(here, &format!("{train} images"), &["3.png", "as an image", "--skip-bad"]);
    assert!(!here.join("run").exists());
    let output = run(here, "train --config tiny.toml --out skipped --data images --skip-bad");
    assert!(output.status.success() && text(&output.stderr).contains("skipped"), "{}", text(&output.stderr));
    fs::write(bars.join("3.png"), b"no image at all").unwrap();
    fails(here, &format!("{train} images"), &["3.png"]);

    // A JPEG with the extension of a PNG, 16 bits, and transparency.
    RgbImage::new(8, 8).save_with_format(bars.join("3.png"), ImageFormat::Jpeg).unwrap();
    ImageBuffer::<Rgb<u16>, _>::from_pixel(8, 8, Rgb([65535u16, 0, 300])).save(bars.join("4.png")).unwrap();
    ImageBuffer::<Rgba<u8>, _>::from_pixel(8, 8, Rgba([255u8, 0, 0, 0])).save(bars.join("5.png")).unwrap();
    ImageBuffer::<Luma<u16>, _>::from_pixel(8, 8, Luma([65535u16])).save(bars.join("6.png")).unwrap();
    succeeds(here, "train --config tiny.toml --out mixed -q --data images");

    GrayImage::new(6, 8).save(bars.join("7.png")).unwrap();
    fails(here, &format!("{train} images"), &["7.png", "--size"]);
    succeeds(here, "train --config tiny.toml --out sized -q --data images --size 8,8");
    fails(
        here,
        "train --config tiny.toml --out run -q --data images --size 6,8",
        &["`levels`", "multiples of 4", "8,8"],
    );

    fs::create_dir(here.join("empty")).unwrap();
    fails(here, &format!("{train} empty"), &["has no images"]);
    fails(here, &format!("{train} missing"), &["does not exist"]);
    fails(here, &format!("{train} tiny.toml"), &["tiny.toml", ".npy"]);
    fails(here, "train --preset faces", &["--data"]);
    fails(here, "train --preset nothing", &["choose one of"]);
    fails(here, &format!("{train} images --shift 0.6"), &["a shift from 0 to 0.5"]);
    fails(here, &format!("{train} images --size 100000"), &["8192"]);
    fails(here, &format!("{train} images --depth 0"), &["'0' for '--depth <K>'", "1..=1024"]);
    fails(here, &format!("{train} images --size 8,8,8"), &["32,32"]);
    fs::write(here.join("cut-idx3-ubyte"), [0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 8, 1, 2]).unwrap();
    fails(here, &format!("{train} cut-idx3-ubyte"), &["cut-idx3-ubyte", "fetch"]);
    fs::write(here.join("no.npy"), b"\x93NUMPY").unwrap();
    fails(here, &format!("{train} no.npy"), &["no.npy", "np.save"]);
    fails(here, "import tiny.toml --size 8", &["state dict"]);
    fails(here, "sample mixed --temperature -1", &["temperature"]);
    fails(here, "reconstruct mixed missing.png", &["missing.png"]);
}

#[test]
fn what_is_noted_of_images_can_be_an_error_and_a_run_knows_its_images() {
    let folder = folder();
    let here = folder.path();
    let one = here.join("images/bars/1.png");
    GrayImage::from_pixel(8, 8, Luma([99])).save(&one).unwrap();
    let train = "train --data images --config tiny.toml";
    fails(here, &format!("{train} --out run --strict -q"), &["1 of 24 images is grey", "--colour", "--strict"]);
    let output = run(here, &format!("{train} --out run"));
    assert!(text(&output.stderr).contains("note   1 of 24 images is grey"), "{}", text(&output.stderr));
    succeeds(here, &format!("{train} --out coloured --colour --strict -q"));
    succeeds(here, "train --out run --resume --steps 13 -q");
    GrayImage::from_pixel(8, 8, Luma([98])).save(&one).unwrap();
    fails(here, "train --out run --resume --steps 14 -q", &["not those of when the run began"]);
    fails(here, "eval run", &["not those of when the run began", "--data"]);
    succeeds(here, "eval run --data images");
}

/// Settings of a run that is long enough to be interrupted.
fn long(here: &Path) {
    let long = TINY.replace("steps = 12", "steps = 300").replace("checkpoint_every = 3", "checkpoint_every = 20");
    let long = long.replace("evaluate_every = 4", "evaluate_every = 100");
    let warp = "warp = { shift = 0.1, rotation = 15, zoom = 0.1, shear = 0.02 }";
    fs::write(here.join("long.toml"), format!("flip = true\n{warp}\n{long}")).unwrap();
}

/// Starts training, and waits until it has saved.
fn saving(here: &Path, out: &str, args: &str) -> Child {
    let path = here.join(out).join("training.safetensors");
    let before = fs::read(&path).ok();
    let mut child = glow(here, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while fs::read(&path).ok() == before {
        assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "it does not train");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn a_run_that_is_killed_again_and_again_resumes_to_the_same_model() {
    let folder = folder();
    let here = folder.path();
    long(here);
    succeeds(here, "train --data images --config long.toml --out whole -q");
    let train = "train --data images --config long.toml --out killed";
    for kill in 0..4 {
        let mut child = saving(here, "killed", if kill == 0 { train } else { "train --out killed --resume" });
        // Also in the middle of a step, and while saving.
        std::thread::sleep(Duration::from_millis(7 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = run(here, "train --out killed --resume");
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("resuming after step"), "{said}");
    let read = |out: &str| fs::read(here.join(out).join("model.safetensors")).unwrap();
    assert!(read("whole") == read("killed"));
    fails(here, train, &["--resume", "--overwrite"]);
}
