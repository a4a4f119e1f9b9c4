//! What may help a model that differs from its data.

use crate::evaluate::{Check, Margin, Mean};
use crate::flows::TableConfig;
use crate::run::Losses;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What is known of a model's training.
#[derive(Debug)]
pub(super) struct History {
    /// The folder of the run, if it is one, and its steps.
    run: Option<(PathBuf, u64)>,
    /// Whether evaluations still improved at the end.
    improving: bool,
    /// The mean log-likelihood of the rows that it was trained on, if known.
    train: Option<Mean>,
    /// That of the rows of the check.
    test: Mean,
}

impl History {
    /// That of the run in a folder; little is known of one that has not ended.
    pub(super) fn of(folder: &Path, train: Option<Mean>, test: Mean) -> Self {
        #[derive(Deserialize)]
        struct Results {
            steps: u64,
            early_stopped: bool,
        }
        let results = std::fs::read(folder.join("results.json")).ok();
        let results = results.and_then(|text| serde_json::from_slice::<Results>(&text).ok());
        let validation = Losses::read(&folder.join("metrics.jsonl")).unwrap_or_default().validation;
        let best = validation.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |(step, _)| *step);
        let (steps, early_stopped) = results.map_or((0, true), |found| (found.steps, found.early_stopped));
        let improving = !early_stopped && best >= 0.8 * steps as f64;
        Self { run: (steps > 0).then(|| (folder.to_path_buf(), steps)), improving, train, test }
    }

    /// By how much rows that it was trained on are more likely, if clearly so.
    fn overfit(&self) -> Option<f64> {
        let train = self.train?;
        let gap = train.mean - self.test.mean;
        (gap > 0.1 && gap > 3.0 * train.standard_error.hypot(self.test.standard_error)).then_some(gap)
    }
}

/// What may help, the most promising first; nothing for a model that differs in nothing.
pub(super) fn remedies(check: &Check, config: &TableConfig, history: &History) -> Vec<String> {
    let mut remedies = Vec::new();
    if check.verdict.good {
        return remedies;
    }
    let is_flow = matches!(config, TableConfig::Flow(_));
    let repeats = |margin: &&Margin| {
        let most = margin.most_different.as_ref();
        most.is_some_and(|most| margin.shares.is_some_and(|s| s.p_value < 0.001) && most.data > most.drawn + 0.01)
    };
    let repeated: Vec<&str> = check.margins.iter().filter(repeats).map(|margin| margin.column.as_str()).collect();
    if is_flow && config.schema().is_some() && !repeated.is_empty() {
        remedies.push(format!(
            "`{}` repeats values, to which a flow gives no probability: train with --model mixed",
            repeated.join("`, `")
        ));
        return remedies;
    }
    match (&history.run, history.overfit()) {
        (_, Some(gap)) => remedies.push(format!(
            "rows of the training data are {gap:.2} nats more likely than these: train on more rows, or a smaller network \
             (model.network.hidden in a file for --config)"
        )),
        (Some((folder, steps)), None) if history.improving => remedies.push(format!(
            "it was still improving at its last step: flows train --out {} --resume --steps {}",
            folder.display(),
            3 * steps
        )),
        _ if is_flow => remedies.push(
            "more steps will not help, since it stopped improving: take another architecture, such as --model nsf-ar, or a \
             larger network (model.network.hidden in a file for --config)"
                .into(),
        ),
        _ => remedies.push(
            "more steps will not help, since it stopped improving: take a larger network (model.network.hidden in a file \
             for --config), or train on more rows"
                .into(),
        ),
    }
    remedies
}
