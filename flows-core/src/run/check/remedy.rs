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
    /// Whether evaluations still improved at the end, if known.
    improving: Option<bool>,
    /// The mean log-likelihood of the rows that it was trained on, if known.
    train: Option<Mean>,
    /// That of the rows of the check.
    test: Mean,
    /// Whether these are rows of the run.
    of_run: bool,
}

impl History {
    /// That of the run in a folder; little is known of one that has not ended.
    pub(super) fn of(folder: &Path, train: Option<Mean>, test: Mean, of_run: bool) -> Self {
        #[derive(Deserialize)]
        struct Results {
            steps: u64,
            early_stopped: bool,
        }
        let results = std::fs::read(folder.join("results.json")).ok();
        let results = results.and_then(|text| serde_json::from_slice::<Results>(&text).ok());
        let validation = Losses::read(&folder.join("metrics.jsonl")).unwrap_or_default().validation;
        let best = validation.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |(step, _)| *step);
        let improving = results.as_ref().map(|found| !found.early_stopped && best >= 0.8 * found.steps as f64);
        let run = results.map(|found| (folder.to_path_buf(), found.steps)).filter(|(_, steps)| *steps > 0);
        Self { run, improving, train, test, of_run }
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
    if !history.of_run {
        remedies.push(
            "the rows may be from another distribution than those of the training: see what `flows check` finds without \
             --data"
                .into(),
        );
    }
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
    if let Some(gap) = history.overfit() {
        remedies.push(format!(
            "rows of the training data are {gap:.2} nats more likely than these: train on more rows, or a smaller network \
             (model.network.hidden in a file for --config)"
        ));
        return remedies;
    }
    let other = match config {
        TableConfig::Flow(flow) => ["nsf-ar", "maf"].into_iter().find(|name| *name != flow.model.name()),
        TableConfig::Mixed(_) => None,
    };
    match (&history.run, history.improving, other) {
        (Some((folder, steps)), Some(true), _) => remedies.push(format!(
            "it was still improving at its last step: flows train --out {} --resume --steps {}",
            folder.display(),
            3 * steps
        )),
        (_, Some(false), Some(other)) => remedies.push(format!(
            "more steps will not help, since it stopped improving: take another architecture, such as --model {other}, or a \
             larger network (model.network.hidden in a file for --config)"
        )),
        (_, Some(false), None) => remedies.push(
            "more steps will not help, since it stopped improving: take a larger network (model.network.hidden in a file \
             for --config), or train on more rows"
                .into(),
        ),
        // Nothing is known of its training.
        _ => {}
    }
    remedies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::evaluate::{Variable, VariableKind};
    use crate::flows::{FlowConfig, NamedFlow};

    #[test]
    fn remedies_are_of_what_is_known() -> crate::Result<()> {
        let rng = &mut Rng::seed(0);
        let mut column = |deviation: f64| (0..1000).map(|_| deviation * rng.normal()).collect::<Vec<f64>>();
        let (data, drawn) = (column(1.0), column(0.5));
        let x = Variable { name: "x".into(), kind: VariableKind::Number(Vec::new()), given: false, data, drawn };
        let check = Check::of(&[x], None, &mut Rng::seed(1))?;
        let folder = tempfile::tempdir().unwrap();
        let test = Mean { mean: 0.0, standard_error: 0.1 };
        let said = |model: &str, of_run: bool| -> crate::Result<String> {
            let config = TableConfig::Flow(Box::new(FlowConfig::new(1, NamedFlow::named(model)?)));
            Ok(remedies(&check, &config, &History::of(folder.path(), None, test, of_run)).join("\n"))
        };
        assert_eq!(said("maf", true)?, "");
        assert!(said("maf", false)?.starts_with("the rows may be from another distribution"));
        let results = |steps: u64, early: bool| {
            let text = format!("{{\"steps\": {steps}, \"early_stopped\": {early}}}");
            std::fs::write(folder.path().join("results.json"), text).unwrap();
        };
        results(100, true);
        assert!(said("maf", true)?.contains("--model nsf-ar") && said("nsf-ar", true)?.contains("--model maf"));
        Ok(())
    }
}
