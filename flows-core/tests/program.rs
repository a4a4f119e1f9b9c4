//! The program `flows`, tested from the command line.

use flows_core::files::save_model;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Settings of a run that trains in a moment.
const TINY: &str = r#"
batch = 16
samples = [200, 40, 60]
train = { steps = 20, evaluate_every = 10, checkpoint_every = 5 }
model = { kind = "real-nvp", layers = 2, network = { kind = "mlp", hidden = [8], activation = "relu" } }
"#;

/// A folder with the settings and a table of two columns and a third to condition on.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: i32| format!("{},{},{}\n", f64::from(i % 7) - 3.0, f64::from(i * i % 11), i % 2);
    let rows: String = (0..80).map(row).collect();
    fs::write(folder.path().join("table.csv"), format!("height,weight,group\n{rows}")).unwrap();
    fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    folder
}

fn flows(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flows"));
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &str) -> Output {
    flows(folder, args).output().unwrap()
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

/// Asserts that the program fails with this status and a one-line error that contains all `words`.
fn fails(folder: &Path, args: &str, status: i32, words: &[&str]) {
    let output = run(folder, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args}: {words:?} in {said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{args}: {said}");
}

#[test]
fn a_table_as_it_is_in_the_file() {
    let folder = folder();
    let here = folder.path();
    // Names of rows as pandas writes them, a constant, words, missing cells, decimal commas.
    let row = |i: i32| {
        let weight = if i == 7 { String::new() } else { format!("{},5", i * i % 11) };
        format!("{i};{},25;{weight};14,62;{}\n", i % 7 - 3, ["f", "m"][i as usize % 2])
    };
    let rows: String = (0..80).map(row).collect();
    fs::write(here.join("people.csv"), format!(";height;weight;rate;sex\n{rows}")).unwrap();
    let said = succeeds(here, "inspect people.csv");
    for part in
        ["80 rows of 5 columns", "row number", "constant", "f, m", "yes or no", "-3.25 to 3.25", "decimal points"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    let schema = json(here, "inspect people.csv --json");
    assert_eq!(schema["schema"]["columns"][2]["missing"], 1);
    let schema = json(here, "inspect people.csv --drop sex --categorical height --json");
    let (height, sex) = (&schema["schema"]["columns"][1], &schema["schema"]["columns"][4]);
    assert_eq!((height["kind"]["category"].as_array().map(Vec::len), &sex["used"]), (Some(7), &false.into()));

    fails(here, "train --data people.csv --config tiny.toml --out run", 2, &["`sex` holds words", "--drop"]);
    let output = run(here, "train --data people.csv --drop sex --config tiny.toml --out run");
    let said = text(&output.stderr);
    for part in ["`rate` is 14.62 in every row", "column 1 numbers the rows", "1 of 80 rows (1.2%)", "2 columns"] {
        assert!(output.status.success() && said.contains(part), "{part} in {said}");
    }
    let nats = json(here, "eval run --json")["result"]["log_likelihood"].as_f64();
    assert!(nats.is_some_and(f64::is_finite));
    succeeds(here, "train --out run --resume --steps 30");
    // The same columns are found by their names in another table, in another order; every row has to be whole there.
    fs::write(here.join("new.csv"), "weight,more,height\n1.5,9,-3.25\n2,8,1.25\n").unwrap();
    assert_eq!(succeeds(here, "score run --data new.csv").lines().count(), 3);
    fails(here, "score run --data people.csv", 2, &["missing cell"]);
    fails(here, "train --data people.csv --drop age --config tiny.toml --out other", 2, &["`age`", "`height`"]);
    let only = json(here, "train --data people.csv --columns height,rate --config tiny.toml --out only --json -q");
    assert_eq!(only["columns"][1], "rate");
}

#[test]
fn what_is_odd_is_said_and_refused_by_strict() {
    let folder = folder();
    let here = folder.path();
    let row =
        |i: i32| format!("{},{},{}\n", f64::from(i).sin(), if i % 9 == 0 { -999.0 } else { f64::from(i).cos() }, 2 * i);
    let rows: String = (0..200).map(row).collect();
    fs::write(here.join("odd.csv"), format!("x,y,z\n{rows}")).unwrap();
    let said = succeeds(here, "inspect odd.csv --out margins.svg");
    assert!(said.contains("note: `y` is -999 in 23 rows"), "{said}");
    assert!(fs::read_to_string(here.join("margins.svg")).unwrap().contains("farther out"));
    let output = run(here, "inspect odd.csv --strict");
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("--strict"), "{}", text(&output.stderr));
    fails(here, "train --data odd.csv --config tiny.toml --out run --strict", 2, &["`y` is -999", "--strict"]);
    succeeds(here, "inspect odd.csv --json");
    let strict = "train --data odd.csv --columns x,z --config tiny.toml --out run --strict -q";
    succeeds(here, strict);
    fails(here, "inspect rings", 2, &["rings is a density"]);

    // Training and test rows as files of a folder, of which validation rows are held out.
    fs::create_dir(here.join("parts")).unwrap();
    fs::write(here.join("parts/train.csv"), format!("x,y,z\n{rows}")).unwrap();
    fs::write(here.join("parts/test.tsv"), "z\tx\ty\n1\t0.5\t0.25\n3\t0.125\t0.5\n").unwrap();
    fs::write(here.join("parts/README.md"), "").unwrap();
    let results = json(here, "train --data parts --columns x,z --config tiny.toml --out parted --json -q");
    assert_eq!(results["test"]["rows"], 2);
    let said = succeeds(here, "inspect parts");
    assert!(said.contains("2 to test") && said.contains("`README.md` is not read"), "{said}");
    assert!(succeeds(here, "eval parted --data parts").contains("2 rows of parts"));

    // A run goes on with its own numbers alone, in their order.
    let mut lines: Vec<&str> = rows.lines().collect();
    lines.swap(0, 1);
    fs::write(here.join("odd.csv"), format!("x,y,z\n{}\n", lines.join("\n"))).unwrap();
    fails(here, "train --out run --resume --steps 30", 2, &["the numbers of", "odd.csv", "restore them"]);
    fails(here, "eval run", 2, &["the numbers of", "--data"]);
    let config = fs::read_to_string(here.join("run/config.toml")).unwrap();
    assert!(config.contains("count = 200") && config.contains("hash = "), "{config}");
}

/// Words, dates, whole numbers, zeros of rain and missing cells go in, and come out.
#[test]
fn a_table_of_columns_of_several_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let row = |i: i32| {
        let (kind, rain) =
            (["dry", "wet", "windy"][(i % 3) as usize], if i % 3 == 0 { 0.0 } else { f64::from(i).sin().abs() });
        let cell = if i % 10 == 7 { String::new() } else { format!("{rain}") };
        format!(
            "2024-{:02}-{:02},{kind},{cell},{},{}\n",
            i % 12 + 1,
            i % 28 + 1,
            i * i % 17,
            f64::from(i * 7 % 41) / 10.0
        )
    };
    let rows: String = (0..200).map(row).collect();
    fs::write(here.join("days.csv"), format!("day,kind,rain,count,wind\n{rows}")).unwrap();
    fs::write(here.join("tiny.toml"), "train = { steps = 30 }\nmodel.network.hidden = 16\n").unwrap();
    let train = "train --data days.csv --preset mixed --config tiny.toml --missing model --bounded wind=-1:5";
    let results = json(here, &format!("{train} --out run --json -q"));
    assert_eq!((&results["model"], &results["test"]["rows"]), (&"mixed".into(), &20.into()));
    let nats = results["test"]["log_likelihood"].as_f64().unwrap();
    assert!(nats.is_finite() && results["baselines"]["margins"]["mean"].as_f64().unwrap().is_finite(), "{results}");
    assert!(fs::metadata(here.join("run/margins.png")).unwrap().len() > 0);
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(nats));

    let drawn = succeeds(here, "sample run --count 300 --seed 3");
    let mut lines = drawn.lines();
    assert_eq!(lines.next(), Some("day,kind,rain,count,wind"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 300);
    assert!(rows.iter().all(|row| row[0].len() == 10 && ["dry", "wet", "windy"].contains(&row[1])), "{drawn}");
    assert!(rows.iter().all(|row| row[3].parse::<i64>().is_ok() && row[4].parse::<f64>().is_ok_and(|x| x < 5.0)));
    assert!(rows.iter().any(|row| row[2].is_empty()) && rows.iter().any(|row| row[2] == "0"), "{drawn}");
    fails(here, "sample run --count 3 --out drawn.npy", 2, &["`day`", ".csv"]);

    fs::write(here.join("new.csv"), "kind,day,count,wind,rain\nwet,2024-02-03,4,99.5,0.5\ndry,2024-03-04,2,1.5,0\n")
        .unwrap();
    let scores = succeeds(here, "score run --data new.csv");
    // 20 rows for validation and 20 to test: no p-value is below 1/41.
    let least = 1.0 / 41.0;
    let first =
        format!("row,log_likelihood,percentile,p_value,typicality,least_likely\n1,-inf,0,{least},{least},wind\n2,");
    assert!(scores.starts_with(&first), "{scores}");
    fs::write(
        here.join("new.csv"),
        "kind,day,count,wind,rain\nmild,2024-02-03,4,1.5,0.5\ndry,2024-03-04,2,1.5,0\nwet,2024-03-04,2,1.55,0\n",
    )
    .unwrap();
    let scores = succeeds(here, "score run --data new.csv");
    let impossible = |row: usize, column: &str| scores.contains(&format!("\n{row},-inf,0,{least},{least},{column}\n"));
    assert!(impossible(1, "kind") && impossible(3, "wind") && !scores.contains("\n2,-inf"), "{scores}");
    fails(here, "eval run --data new.csv", 2, &["`kind`", "`mild`", "`dry`"]);

    succeeds(here, &format!("{train} --context kind,count --out given -q"));
    let wet = succeeds(here, "sample given --given kind=wet,count=3 --count 40");
    assert!(wet.starts_with("day,rain,wind\n") && wet.lines().count() == 41, "{wet}");
    fails(here, "sample given --given kind=wet", 2, &["count"]);
    fails(here, "sample given --given kind", 2, &["COLUMN=VALUE"]);
    fails(here, "sample given", 2, &["`kind`", "--given"]);
    succeeds(here, "train --out given --resume -q");
    fails(here, "plot density run --out density.png", 2, &["5 columns of several kinds"]);

    // Does it fit?
    for run in ["run", "given"] {
        let said = succeeds(here, &format!("check {run}"));
        for part in ["rain", "KS", "TV", "classifier", "calibration of each column given", "central intervals hold"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(fs::metadata(here.join(run).join("check.png")).unwrap().len() > 0);
    }
    let check = json(here, "check run --data days.csv --json --out pictures --seed 3");
    assert_eq!((&check["result"]["rows"], &check["picture"]), (&200.into(), &"pictures/check.png".into()));
    let classifier = &check["result"]["classifier"];
    assert_eq!((&classifier["fitted"], &classifier["tested"]), (&200.into(), &200.into()));
    // Guessing is right in half of all cases, with an error of 3.5%.
    assert!(classifier["accuracy"].as_f64().is_some_and(|share| share > 0.39), "{check}");
    let remedy = check["remedies"][0].as_str();
    assert_eq!(check["result"]["verdict"]["good"] == true, remedy.is_none());
    assert!(remedy.is_none_or(|remedy| remedy.contains("without --data")), "{check}");
    assert!(check["result"]["margins"][2]["most_different"]["value"].is_string(), "{check}");

    // Missing cells are filled, and the others stay as they are.
    fs::write(
        here.join("gaps.csv"),
        "note,kind,day,count,wind,rain\na,,2024-02-03,4,1.5,0.5\nb,dry,,2,,\nc,wet,2024-03-01,3,0.5,0\n",
    )
    .unwrap();
    let said = succeeds(here, "impute run --data gaps.csv --out filled.csv");
    assert!(said.contains("2 of 3 rows") && said.contains("2 rows: chosen among 400"), "{said}");
    let filled = fs::read_to_string(here.join("filled.csv")).unwrap();
    let rows: Vec<Vec<&str>> = filled.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0].join(","), "note,kind,day,count,wind,rain");
    assert!(
        ["dry", "wet", "windy"].contains(&rows[1][1]) && rows[1][2..].join(",") == "2024-02-03,4,1.5,0.5",
        "{filled}"
    );
    assert!(rows[2][0] == "b" && rows[2][2].len() == 10 && rows[2][4].parse::<f64>().is_ok() && !rows[2][5].is_empty());
    assert_eq!(rows[3].join(","), "c,wet,2024-03-01,3,0.5,0");
    let several = json(here, "impute run --data gaps.csv --out several.csv --draws 3 --json");
    assert_eq!((&several["incomplete"], &several["rows_with_few_effective_candidates"]), (&2.into(), &0.into()));
    let several = fs::read_to_string(here.join("several.csv")).unwrap();
    assert!(
        several.starts_with("draw,note,") && several.lines().count() == 10 && several.contains("\n3,c,wet,"),
        "{several}"
    );
    fails(here, "impute run --data gaps.csv --out gaps.csv", 2, &["would be lost"]);
    let huge = u64::MAX;
    fails(here, &format!("impute run --data gaps.csv --out x.csv --draws {huge}"), 2, &["lower --draws to"]);
    fails(here, &format!("impute run --data gaps.csv --out x.csv --candidates {huge}"), 2, &["lower --candidates to"]);
    fails(here, "impute given --data gaps.csv --out filled.csv", 2, &["gaps.csv", "row 2", "context"]);
}

#[test]
fn a_conditional_model_from_training_to_pictures() {
    let folder = folder();
    let here = folder.path();
    let results = json(here, "train --data table.csv --context group --config tiny.toml --out run --seed 3 --json -q");
    let test = &results["test"];
    assert_eq!((&test["rows"], &results["columns"][1]), (&8.into(), &"weight".into()));
    let nats = test["log_likelihood"].as_f64().unwrap();
    assert!((test["bits_per_dimension"].as_f64().unwrap() + nats / (2.0 * 2f64.ln())).abs() < 1e-9);
    assert!(test["standard_error"].as_f64().unwrap() > 0.0);
    for name in ["config.toml", "metrics.jsonl", "model.safetensors", "results.json", "loss.png", "density.png"] {
        assert!(fs::metadata(here.join("run").join(name)).unwrap().len() > 0, "{name}");
    }

    // The likelihood of the run, given only its folder.
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(nats));
    assert!(succeeds(here, "eval run/model.safetensors --data table.csv").contains("80 rows of table.csv"));

    succeeds(here, "score run --data table.csv --out scores.csv");
    let scores = fs::read_to_string(here.join("scores.csv")).unwrap();
    let mut lines = scores.lines();
    assert_eq!(lines.next(), Some("row,log_likelihood,percentile,p_value,typicality,least_likely"));
    let column = |at: usize| lines.clone().map(move |line| line.split(',').nth(at).unwrap().parse::<f64>().unwrap());
    assert!(column(2).count() == 80 && column(2).all(|p| (0.0..=100.0).contains(&p)));
    // Among 16 rows that it was not trained on.
    assert!(column(2).any(|p| p < 10.0) && column(2).any(|p| p > 90.0));
    assert!(column(3).chain(column(4)).all(|p| (1.0 / 17.0..=1.0).contains(&p)));
    // The scores of the reference are kept, and found again without them.
    fs::rename(here.join("run/reference.safetensors"), here.join("kept")).unwrap();
    assert_eq!(succeeds(here, "score run --data table.csv"), scores);
    fs::rename(here.join("kept"), here.join("run/reference.safetensors")).unwrap();
    assert_eq!(succeeds(here, "score run --data table.csv"), scores);
    // Those of another model are none.
    succeeds(here, "train --data table.csv --context group --config tiny.toml --out other --seed 4 -q");
    let others = succeeds(here, "score other --data table.csv");
    fs::copy(here.join("run/reference.safetensors"), here.join("other/reference.safetensors")).unwrap();
    assert_eq!(succeeds(here, "score other --data table.csv"), others);
    assert!(scores.lines().nth(80).is_some_and(|line| line.starts_with("80,")), "{scores}");
    succeeds(here, "score run --data table.csv --reference table.csv --out scores.npy");
    fails(here, "score run --data table.csv --out ./table.csv", 2, &["would be lost"]);
    fs::write(here.join("odd.csv"), "height,weight,group\n900,3,1\n1,-900,1\n").unwrap();
    let odd = json(here, "score run --data odd.csv --reference table.csv --json");
    assert_eq!((odd["percentile"][0].as_f64(), &odd["reference_rows"]), (Some(0.0), &80.into()));
    assert_eq!(odd["least_likely"], serde_json::json!(["height", "weight"]));

    fs::write(here.join("groups.csv"), "group\n0\n1\n").unwrap();
    let drawn = succeeds(here, "sample run --context groups.csv --count 3 --seed 5");
    assert!(drawn.starts_with("height,weight\n") && drawn.lines().count() == 7, "{drawn}");
    succeeds(here, "sample run --context groups.csv --count 3 --seed 5 --out drawn.csv");
    assert_eq!(fs::read_to_string(here.join("drawn.csv")).unwrap(), drawn);
    assert_ne!(succeeds(here, "sample run --context groups.csv --count 3"), drawn);
    assert_eq!(json(here, "sample run --context groups.csv --json")["samples"].as_array().unwrap().len(), 2);

    let info = json(here, "info run --json");
    assert_eq!((&info["step"], &info["config"]["context"]), (&20.into(), &1.into()));
    let info = succeeds(here, "info run");
    assert!(info.contains("real-nvp") && info.contains("└") && info.contains("step        20"), "{info}");

    // Does it fit, and what are missing cells likely to be?
    let check = json(here, "check run --data table.csv --json");
    assert!(check["result"]["transforms"].as_str().is_some_and(|of| of.contains("rank among 99 draws")), "{check}");
    assert_eq!(check["result"]["calibrations"][1]["column"], "weight");
    fs::write(here.join("gaps.csv"), "weight,group,height\n,1,2\n3,0,\n,1,\n").unwrap();
    let said = succeeds(here, "impute run --data gaps.csv --out filled.csv");
    assert!(
        said.contains("3 of 3 rows") && said.contains("1 row: drawn exactly") && said.contains("2 rows: chosen"),
        "{said}"
    );
    let filled = fs::read_to_string(here.join("filled.csv")).unwrap();
    assert!(filled.contains(",1,2\n") && filled.contains("\n3,0,") && !filled.contains(",\n"), "{filled}");

    succeeds(here, "plot density run --context 1 --out density.svg");
    succeeds(here, "plot density run --context 0 --window=-3,3,-3,12 --out density.png");
    succeeds(here, "plot loss run run --out loss.svg");
    fails(here, "plot density run --out density.svg", 2, &["--context", "1 values"]);
    fails(here, "plot density run --context 1 --window 1,2 --out d.svg", 2, &["four numbers"]);
    fails(here, "plot density run --context 1 --out d.gif", 2, &[".svg or .png"]);
    fails(here, "sample run", 2, &["conditional", "--context"]);
    fails(here, "sample run --context table.csv", 2, &["3 columns"]);
}

#[test]
fn bad_input_is_named_and_nothing_is_overwritten() {
    let folder = folder();
    let here = folder.path();
    succeeds(here, "train --data table.csv --config tiny.toml --out run -q --threads 1");
    let model = fs::read(here.join("run/model.safetensors")).unwrap();

    for (content, words) in [
        ("", &["bad.csv", "is empty"][..]),
        ("a,b\n1,2\n3,nan\n5,6\n", &["2 rows", "at least 3"]),
        ("a,b\n1,2\ninf,4\n5,6\n", &["row 3, `a` is inf"]),
        ("a,b\n1,2\n3\n5,6\n", &["row 3 has 1 cell"]),
        ("a,b\n1,2\n3,x\n", &["row 3, `b`", "`x` is not a number", "--drop"]),
        ("name,2019,2020\n1,2,3\n", &["cannot be split", "at least 3"]),
        ("a,b\n1,2\n3,4\n5,1e300\n", &["bad.csv: column 2 (`b`)", "1e300"]),
        ("time\n1700000001\n1700000002\n1700000003\n1700000004\n", &["`time`", "mean 1.7", "deviation", "offset"]),
        ("1,2\n3,4\n", &["2 rows", "at least 3"]),
    ] {
        fs::write(here.join("bad.csv"), content).unwrap();
        fails(here, "train --data bad.csv --config tiny.toml --out run --overwrite -q", 2, words);
        assert_eq!(fs::read(here.join("run/model.safetensors")).unwrap(), model);
    }
    fails(here, "train --data none.csv --out new", 2, &["none.csv", "no such file"]);
    fails(here, "train --data moons --out new", 2, &["two-moons", "hf://"]);
    fails(here, "train --data table.csv --context age --out new", 2, &["no column `age`", "`height`"]);
    fails(here, "train --preset power --out new", 2, &["--data"]);
    fails(here, "train --preset huge --out new", 2, &["toy"]);
    fails(here, "train --model transformer --out new", 2, &["real-nvp"]);
    fails(here, "train --steps 0 --out new", 2, &["--steps"]);
    for flag in ["--lr -1", "--lr 0", "--lr nan", "--seed -1", "--batch -1"] {
        fails(here, &format!("train {flag} --out new"), 2, &[&format!("'{}'", flag.split(' ').nth(1).unwrap())]);
    }
    fails(here, "train --data table.csv --model circular-spline --out new", 2, &["`weight`", "[-pi, pi)"]);
    fails(here, "train --device tpu --out new", 2, &["cuda:1"]);
    fails(here, "train --threads 0 --out new", 2, &["--threads"]);
    #[cfg(not(feature = "cuda"))]
    fails(here, "train --device cuda:0 --out new", 2, &["--features cuda", "--device cpu"]);
    fs::write(here.join("bad.toml"), "batch = 16\ntrian = { steps = 1 }").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["`trian`"]);
    fs::write(here.join("bad.toml"), "batch = -1").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["batch"]);
    fs::write(here.join("bad.toml"), "batch 16").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["bad.toml", "line 1"]);
    // Errors in the settings, including sizes, are reported before the data is read.
    let far = "4611686018427387904";
    for (settings, words) in [
        ("proportions = { trian = 1 }".to_string(), &["`trian`"][..]),
        ("train = { ema = { decay = 2 } }".to_string(), &["decay of the EMA"]),
        ("model = { kind = 'planar', layers = 0 }".to_string(), &["`layers`"]),
        ("model = { kind = 'planar', layers = 1000000000 }".to_string(), &["`layers`"]),
        (format!("model = {{ kind = 'residual', block = {{ hidden = [{far}] }} }}"), &["of shape"]),
        (
            format!(
                "model = {{ kind = 'real-nvp', network = {{ kind = 'mlp', hidden = [{far}], activation = 'relu' }} }}"
            ),
            &["layer of width"],
        ),
        (
            format!(
                "model = {{ kind = 'maf', network = {{ kind = 'residual', hidden = 8, blocks = {far}, activation = 'relu' }} }}"
            ),
            &["blocks"],
        ),
        (
            format!(
                "model = {{ kind = 'nsf', network = {{ kind = 'residual', hidden = 8, blocks = {far}, activation = 'relu' }} }}"
            ),
            &["blocks"],
        ),
        (format!("model = {{ kind = 'naf', units = {far} }}"), &["units"]),
        (format!("model = {{ kind = 'bnaf', factor = {far} }}"), &["of shape"]),
        (format!("model = {{ kind = 'bnaf', hidden = {far} }}"), &["hidden layers"]),
        (
            format!("model = {{ kind = 'sylvester', basis = {{ kind = 'householder', reflections = {far} }} }}"),
            &["does not fit"],
        ),
    ] {
        fs::write(here.join("bad.toml"), settings).unwrap();
        fails(here, "train --data none.csv --config bad.toml --out new", 2, words);
    }
    fs::write(here.join("bad.toml"), "samples = [1000000000000, 1, 1]").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["too large"]);
    assert!(!here.join("new").exists());

    // The columns of the data, with or without a context, are not the model's.
    fs::write(here.join("two.csv"), "1,2\n3,4\n").unwrap();
    fails(here, "eval run --data two.csv", 2, &["two.csv", "2 columns, not 3"]);
    fails(here, "score run --data table.csv --context group", 2, &["2 columns", "without a context"]);
    fails(here, "sample run --context two.csv", 2, &["has no context"]);
    fails(here, "sample run --count 18446744073709551615", 2, &["too many", "--seed"]);
    fails(here, "sample run --count 0", 2, &["--count"]);
    // Failures of the disk are not the user's fault.
    fails(here, "sample run --out nowhere/drawn.csv", 1, &["create the folder"]);
    fails(here, "sample run --out drawn.txt", 2, &[".npy nor .csv"]);
    fails(here, "plot density run --out d.png", 2, &["3 columns"]);
    fails(here, "plot loss . --out d.png", 2, &["metrics.jsonl"]);

    // Files that are not models.
    let damage = |name: &str, bytes: &[u8]| fs::write(here.join(name), bytes).unwrap();
    let with = |old: &str, new: &str| {
        let at = model.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
        [&model[..at], new.as_bytes(), &model[at + old.len()..]].concat()
    };
    damage("short.safetensors", &model[..model.len() / 2]);
    damage("other.safetensors", &with(r#""kind":"flow""#, r#""kind":"glow""#));
    damage("newer.safetensors", &with(r#""version":"1""#, r#""version":"9""#));
    damage("text.safetensors", b"not a model at all");
    for command in ["eval", "score", "sample", "info"] {
        fails(here, &format!("{command} short.safetensors"), 2, &["short.safetensors", "cut short"]);
        fails(here, &format!("{command} newer.safetensors"), 2, &["newer.safetensors", "version 9", "update"]);
        fails(here, &format!("{command} none"), 2, &["none", "does not exist"]);
    }
    fails(here, "eval other.safetensors", 2, &["kind `glow`", "`flow`"]);
    fails(here, "eval text.safetensors", 2, &["not a safetensors file"]);
    for (features, layers, words) in
        [(1_000_000_000_000u64, 1u64, "features"), (999_999, 1, "missing"), (3, u64::MAX, "layers")]
    {
        let config = format!(r#"{{"features":{features},"model":{{"kind":"planar","layers":{layers}}}}}"#);
        save_model(&here.join("large.safetensors"), "flow", &config, &[]).unwrap();
        fails(here, "info large.safetensors", 2, &["large.safetensors"]);
        if features != 3 {
            fails(here, "info large.safetensors", 2, &[words]);
        }
    }
    fails(here, "eval run/training.safetensors", 2, &["model.safetensors"]);
    damage("lone.safetensors", &model);
    fails(here, "eval lone.safetensors", 2, &["config.toml", "--data"]);
    fails(here, "score lone.safetensors --data table.csv", 2, &["--reference"]);
}

#[test]
fn a_run_is_not_replaced_unasked() {
    let folder = folder();
    let here = folder.path();
    let model = || fs::read(here.join("run/model.safetensors")).unwrap();
    succeeds(here, "train --config tiny.toml --out run -q --tensorboard");
    let first = model();
    fails(here, "train --config tiny.toml --out run", 2, &["already holds a run", "--resume", "--overwrite"]);
    fails(here, "train --out run --resume --overwrite", 2, &["cannot be used with"]);
    fails(here, "train --out other --resume", 2, &["no run to resume"]);
    fails(here, "train --out tiny.toml", 2, &["is a file"]);
    for flag in ["--model maf", "--data rings", "--context 0", "--no-standardize"] {
        fails(here, &format!("train --out run --resume {flag}"), 2, &["cannot be used with"]);
    }
    // A run that diverges before it was ever saved keeps the run that it was to replace.
    let config = fs::read(here.join("run/config.toml")).unwrap();
    fails(here, "train --config tiny.toml --lr 1e38 --out run --overwrite -q", 1, &["diverged"]);
    assert_eq!((model(), fs::read(here.join("run/config.toml")).unwrap()), (first.clone(), config));
    let density = fs::read(here.join("run/density.png")).unwrap();
    fs::create_dir(here.join("pictures")).unwrap();
    fs::write(here.join("pictures/density.png"), &density).unwrap();
    fails(here, "train --config tiny.toml --out pictures", 2, &["--overwrite"]);
    let events = || {
        let names = fs::read_dir(here.join("run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("events.out.tfevents")).count()
    };
    assert_eq!(events(), 1);

    // A finished run can be extended; the same seed gives the same model again.
    let longer = json(here, "train --out run --resume --steps 30 --json -q");
    assert_eq!((&longer["steps"], events()), (&30.into(), 2));
    assert_ne!(model(), first);
    // Nothing is left to do, and the results are kept.
    let again = json(here, "train --out run --resume --json -q");
    assert_eq!((&again["seconds"], &again["test"]), (&longer["seconds"], &longer["test"]));
    succeeds(here, "train --config tiny.toml --out run --overwrite -q");
    assert_eq!((model(), events()), (first.clone(), 0));
    let metrics = fs::read_to_string(here.join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 20);

    // The settings written by the run reproduce it.
    succeeds(here, "train --config run/config.toml --out again -q");
    assert_eq!(fs::read(here.join("again/model.safetensors")).unwrap(), first);
    // Another seed gives another model; so does another architecture of the same name.
    succeeds(here, "train --config tiny.toml --seed 1 --model real-nvp --batch 8 --lr 0.01 --out third -q");
    assert_ne!(fs::read(here.join("third/model.safetensors")).unwrap(), first);
}

#[test]
fn columns_are_matched_by_name() {
    let folder = folder();
    let here = folder.path();
    let table = fs::read_to_string(here.join("table.csv")).unwrap();
    let turned: Vec<String> = table.lines().map(|l| l.split(',').rev().collect::<Vec<_>>().join(",")).collect();
    fs::write(here.join("turned.csv"), turned.join("\n")).unwrap();
    fs::write(here.join("other.csv"), table.replace("weight", "width")).unwrap();
    fs::write(here.join("row.csv"), "weight,height,group\n1,2,0\n").unwrap();
    fs::write(here.join("plain.csv"), table.split_once('\n').unwrap().1).unwrap();
    let nats = |model: &str, data: &str| json(here, &format!("eval {model} --data {data} --json"))["result"].clone();
    succeeds(here, "train --data table.csv --config tiny.toml --out run -q");
    succeeds(here, "train --data table.csv --context group,height --config tiny.toml --out given -q");
    for run in ["run", "given"] {
        // The model file contains the names.
        fs::copy(here.join(run).join("model.safetensors"), here.join("lone.safetensors")).unwrap();
        assert_eq!(nats("lone.safetensors", "turned.csv"), nats(run, "table.csv"));
        let renamed = if run == "run" { "`width`" } else { "`weight`" };
        fails(here, &format!("eval {run} --data other.csv"), 2, &[renamed]);
        let one = succeeds(here, &format!("eval {run} --data row.csv"));
        assert!(one.contains("1 row of") && !one.contains("NaN") && !one.contains('±'), "{one}");
    }
    assert_eq!(nats("run", "plain.csv"), nats("run", "table.csv"));
    let info = json(here, "info given --json");
    assert_eq!(info["config"]["context_columns"][0], "group");
    fs::write(here.join("contexts.csv"), "height,group\n3,1\n").unwrap();
    fs::write(here.join("ordered.csv"), "group,height\n1,3\n").unwrap();
    let drawn = |contexts: &str| succeeds(here, &format!("sample given --count 4 --context {contexts}"));
    assert_eq!(drawn("contexts.csv"), drawn("ordered.csv"));

    // Quoted names are the same on standard output and in a file.
    fs::write(here.join("quoted.csv"), table.replace("height", "\"height, cm\"")).unwrap();
    succeeds(here, "train --data quoted.csv --config tiny.toml --out quoted -q");
    let printed = succeeds(here, "sample quoted --count 2");
    succeeds(here, "sample quoted --count 2 --out drawn.csv");
    assert!(printed.starts_with("\"height, cm\",weight,group\n"), "{printed}");
    assert_eq!(printed, fs::read_to_string(here.join("drawn.csv")).unwrap());

    // The folder of a run can be used from anywhere, as long as its data is unchanged.
    let elsewhere = tempfile::tempdir().unwrap();
    let run = here.join("run").display().to_string();
    assert!(succeeds(elsewhere.path(), &format!("eval {run}")).contains("(test)"));
    succeeds(elsewhere.path(), &format!("train --out {run} --resume --steps 21 -q"));
    fs::write(here.join("table.csv"), table + "1,2,0\n").unwrap();
    fails(here, "eval run", 2, &["80 rows", "81", "--data"]);
    fails(here, "train --out run --resume", 2, &["80 rows", "81"]);
    fs::write(here.join("run/config.toml"), "batch = ").unwrap();
    fails(here, "eval run", 2, &["config.toml"]);
}

#[test]
fn a_density_of_one_coordinate_given_the_other() {
    let folder = folder();
    let results = json(folder.path(), "train --context 0 --config tiny.toml --out run --json -q");
    assert!(results["test"]["log_likelihood"].is_f64() && results.get("exact").is_none(), "{results}");
}

#[test]
fn a_residual_flow_takes_a_context() {
    let folder = folder();
    let here = folder.path();
    let settings =
        "batch = 16\ntrain = { steps = 20 }\nmodel = { kind = \"residual\", layers = 2, block = { hidden = [8] } }";
    fs::write(here.join("residual.toml"), settings).unwrap();
    let args = "train --data table.csv --context group --config residual.toml --model residual --out run --json -q";
    let nats = json(here, args)["test"]["log_likelihood"].as_f64().unwrap();
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(nats));
    // The context matters: a row has another density in another group.
    fs::write(here.join("rows.csv"), "height,weight,group\n1,2,0\n1,2,1\n").unwrap();
    let scores = json(here, "score run --data rows.csv --json");
    let density = |row: usize| scores["log_likelihood"][row].as_f64().unwrap();
    assert!(density(0).is_finite() && (density(0) - density(1)).abs() > 1e-3, "{scores}");
    fs::write(here.join("groups.csv"), "group\n0\n1\n").unwrap();
    let drawn = succeeds(here, "sample run --context groups.csv --count 3");
    assert!(drawn.starts_with("height,weight\n") && drawn.lines().count() == 7, "{drawn}");
    fails(here, "sample run", 2, &["conditional", "--context"]);
}

/// New runs have context units unless `--config` says otherwise; runs older than the setting have none.
#[test]
fn a_config_decides_about_context_units() {
    let folder = folder();
    let here = folder.path();
    let settings = "batch = 16\ntrain = { steps = 2 }\nmodel = { kind = \"maf\", layers = 1, network = { kind = \"mlp\", \
                    hidden = [8], activation = \"tanh\" } }";
    let in_model = |out: &str| json(here, &format!("info {out} --json"))["config"]["context_units"] == true;
    for (given, units) in [("", true), ("context_units = true\n", true), ("context_units = false\n", false)] {
        fs::write(here.join("maf.toml"), format!("{given}{settings}")).unwrap();
        succeeds(here, "train --data table.csv --context group --config maf.toml --model maf --out run --overwrite -q");
        let config = fs::read_to_string(here.join("run/config.toml")).unwrap();
        assert!(config.contains(&format!("context_units = {units}\n")) && in_model("run") == units, "{config}");
        succeeds(here, "train --out run --resume --steps 3 -q");
        assert_eq!(in_model("run"), units);
    }
    let config = here.join("run/config.toml");
    let old = fs::read_to_string(&config).unwrap().replace("context_units = false\n", "");
    fs::write(&config, old).unwrap();
    succeeds(here, "train --out run --resume --steps 4 -q");
    assert!(!in_model("run") && !fs::read_to_string(&config).unwrap().contains("context_units"));
}

#[test]
fn data_and_models_come_from_the_hub() {
    let folder = folder();
    let here = folder.path();
    succeeds(here, "train --data table.csv --config tiny.toml --out run -q");
    let files = ["table.csv", "run/model.safetensors"].map(|name| fs::read(here.join(name)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // A minimal Hub that serves two files; the thread ends with the test.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|l| l.ok());
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            if head[0].contains("/api/") {
                let list = r#"{"siblings": [{"rfilename": "data/table.csv"}, {"rfilename": "README.md"}], "sha": "1"}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", list.len());
                stream.write_all(format!("{head}{list}").as_bytes()).unwrap();
                continue;
            }
            let file = &files[usize::from(!head[0].contains("table.csv"))];
            let first = head.iter().any(|line| line.to_lowercase() == "range: bytes=0-0");
            let (body, range) = match first {
                true => (&file[..1], format!("Content-Range: bytes 0-0/{}\r\n", file.len())),
                false => (&file[..], String::new()),
            };
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nConnection: close\r\n\
                 x-repo-commit: {}\r\netag: \"{}\"\r\n{range}\r\n",
                body.len(),
                "0".repeat(40),
                file.len()
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok();
        }
    });
    let hub = |endpoint: &str, args: &str| {
        let home = here.join("hub");
        flows(here, args).env("HF_ENDPOINT", endpoint).env("HF_HOME", home).env_remove("HF_TOKEN").output().unwrap()
    };
    for (endpoint, args, status) in [
        ("http://127.0.0.1:1", "train --data hf://datasets/me/tables/table.csv --out far -q", 1),
        (&endpoint, "train --data hf://datasets/me/tables/table.csv --config tiny.toml --out far -q", 0),
        (&endpoint, "eval hf://me/flow/model.safetensors --data hf://datasets/me/tables/table.csv", 0),
        (&endpoint, "eval hf://me/flow/model.safetensors --data hf://datasets/me/tables/data", 0),
        ("http://127.0.0.1:1", "eval hf://me/flow/model.safetensors --data hf://datasets/me/tables/data", 0),
        // Now in the cache.
        ("http://127.0.0.1:1", "eval far", 0),
    ] {
        let output = hub(endpoint, args);
        assert_eq!(output.status.code(), Some(status), "{args}: {}", text(&output.stderr));
    }
}

/// Starts a long run, and waits until `file` exists.
fn started(here: &Path, out: &str, file: &str) -> std::process::Child {
    let child = flows(here, &format!("train --config long.toml --out {out}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !here.join(out).join(file).exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {file} in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn long(here: &Path) {
    let long =
        TINY.replace("steps = 20, evaluate_every = 10, checkpoint_every = 5", "steps = 600, evaluate_every = 70");
    let long = long.replace("train = {", "train = { checkpoint_every = 100, ema = { decay = 0.9 },");
    fs::write(here.join("long.toml"), long).unwrap();
}

/// Resumes the run, and returns the step from which it resumed.
fn resumed(here: &Path, out: &str) -> u64 {
    let output = run(here, &format!("train --out {out} --resume"));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.split_once("resuming after step ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn a_killed_run_resumes_to_the_same_model() {
    let folder = folder();
    let here = folder.path();
    long(here);
    succeeds(here, "train --config long.toml --out whole -q");
    let mut child = started(here, "killed", "training.safetensors");
    child.kill().unwrap();
    child.wait().unwrap();
    let step = resumed(here, "killed");
    assert!((100..600).contains(&step), "{step}");
    for name in ["model.safetensors", "config.toml"] {
        let read = |out: &str| fs::read(here.join(out).join(name)).unwrap();
        assert!(read("whole") == read("killed"), "{name}");
    }
    let losses = |out: &str| -> Vec<Value> {
        let metrics = fs::read_to_string(here.join(out).join("metrics.jsonl")).unwrap();
        metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].clone()).collect()
    };
    assert_eq!(losses("whole"), losses("killed"));
    assert_eq!(losses("whole").len(), 600);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_resume() {
    let folder = folder();
    let here = folder.path();
    long(here);
    let child = started(here, "run", "metrics.jsonl");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("saved at step") && said.contains("flows train --out run --resume"), "{said}");
    assert!(resumed(here, "run") < 600);
}

#[test]
fn one_process_at_a_time_trains_in_a_folder() {
    let folder = folder();
    let here = folder.path();
    fs::write(here.join("long.toml"), TINY.replace("steps = 20", "steps = 2000000")).unwrap();
    let mut child = started(here, "run", "training.safetensors");
    for flag in ["--overwrite", "--resume", ""] {
        let settings = if flag == "--resume" { "" } else { "--config tiny.toml" };
        fails(here, &format!("train {settings} --out run {flag} -q"), 2, &["in use", "--out"]);
    }
    assert!(child.try_wait().unwrap().is_none(), "the run has ended");
    // Commands that only read the model are not locked out.
    succeeds(here, "sample run --count 2");
    // A process that dies leaves no lock, and its temporary files are removed.
    child.kill().unwrap();
    child.wait().unwrap();
    let half = here.join("run/.model.safetensors.1.0.tmp");
    fs::write(&half, "half").unwrap();
    succeeds(here, "train --config tiny.toml --out run --overwrite -q");
    assert!(!half.exists() && !here.join("run/.lock").exists());
}

#[test]
fn a_run_that_is_never_saved_leaves_nothing() {
    let folder = folder();
    let here = folder.path();
    fails(here, "train --config tiny.toml --lr 1e38 --out runs/new -q", 1, &["diverged"]);
    assert!(!here.join("runs").exists());
    fs::create_dir_all(here.join("runs/new")).unwrap();
    fs::write(here.join("runs/new/notes.txt"), "mine").unwrap();
    fails(here, "train --config tiny.toml --lr 1e38 --out runs/new -q", 1, &["diverged"]);
    assert_eq!(fs::read_dir(here.join("runs/new")).unwrap().count(), 1);
    succeeds(here, "train --config tiny.toml --out runs/new -q");
}

#[test]
fn a_resumed_run_is_what_it_was() {
    let folder = folder();
    let here = folder.path();
    succeeds(here, "train --config tiny.toml --out run -q");
    let config = here.join("run/config.toml");
    let settings = fs::read_to_string(&config).unwrap();
    let model = fs::read(here.join("run/model.safetensors")).unwrap();
    for (from, to) in [("seed = 0", "seed = 7"), ("\"two-moons\"", "\"rings\""), ("[200, 40, 60]", "[300, 40, 60]")] {
        assert!(settings.contains(from), "{settings}");
        fs::write(&config, settings.replace(from, to)).unwrap();
        fails(here, "train --out run --resume --steps 30 -q", 2, &["config.toml", "restore it", "new run"]);
    }
    fs::write(&config, settings.replace("seed = 0", "seed = 7")).unwrap();
    fs::write(here.join("over.toml"), "batch = 8").unwrap();
    fails(here, "train --out run --resume --config over.toml -q", 2, &["config.toml", "`seed`"]);
    fs::write(&config, &settings).unwrap();
    assert_eq!(fs::read(here.join("run/model.safetensors")).unwrap(), model);

    // Invalid UTF-8 in the metrics is not an error.
    let path = here.join("run/metrics.jsonl");
    let metrics = fs::read(&path).unwrap();
    let half = metrics.len() / 2;
    fs::write(&path, [&metrics[..half], b"\xff", &metrics[half..]].concat()).unwrap();
    let output = run(here, "train --out run --resume --steps 30");
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("1 line that cannot be read"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 29);
    succeeds(here, "train --config tiny.toml --steps 30 --out whole -q");
    // The results say what the losses measure, which labels their axis.
    let results: Value = serde_json::from_slice(&fs::read(here.join("run/results.json")).unwrap()).unwrap();
    assert_eq!(results["losses"][0]["unit"], "negative log-likelihood (nats)");
    succeeds(here, "plot loss run whole --out loss.svg");
    let picture = fs::read_to_string(here.join("loss.svg")).unwrap();
    assert!(picture.contains("negative log-likelihood (nats)"), "{picture}");
}

#[test]
fn help_teaches() {
    let here = tempfile::tempdir().unwrap();
    for command in ["train", "eval", "check", "score", "sample", "impute", "plot", "info"] {
        let help = succeeds(here.path(), &format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!("flows {command}")), "{help}");
    }
    assert!(succeeds(here.path(), "--help").contains("Normalizing flows"));
    assert_eq!(run(here.path(), "").status.code(), Some(2));
    assert_eq!(run(here.path(), "eval").status.code(), Some(2));
}

#[test]
fn activations_need_not_be_stored() {
    let folder = folder();
    let here = folder.path();
    let settings = TINY.replace("steps = 20,", "steps = 20, memory = \"recompute\",");
    fs::write(here.join("recompute.toml"), settings).unwrap();
    let train = |config: &str| {
        let results = json(here, &format!("train --config {config}.toml --out {config} --seed 3 --json -q"));
        results["test"]["log_likelihood"].as_f64().unwrap()
    };
    let (stored, recomputed) = (train("tiny"), train("recompute"));
    assert!((stored - recomputed).abs() < 1e-4, "{stored} and {recomputed}");
    let written = fs::read_to_string(here.join("recompute/config.toml")).unwrap();
    assert!(written.contains("memory = \"recompute\""), "{written}");
}
