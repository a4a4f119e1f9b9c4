//! A classifier of rows of a table: boosted trees.

use rayon::prelude::*;

/// The most bins of a column; the first is of missing cells.
const BINS: usize = 64;
const TREES: usize = 100;
/// Splits on the way from the root to a leaf.
const DEPTH: usize = 3;
const RATE: f64 = 0.1;
/// What is added to the curvature of a leaf, which shrinks its value, and the least curvature that it has.
const RIDGE: f64 = 1.0;
const LEAST: f64 = 1.0;

/// Columns of numbers, each number replaced by its bin.
#[derive(Debug)]
pub(super) struct Binned {
    columns: Vec<Vec<u8>>,
}

/// Boosted trees of depth 3 for the logistic loss (Friedman, 2001), by second-order splits of histograms (Chen and
/// Guestrin, 2016).
#[derive(Debug)]
pub(super) struct Trees {
    trees: Vec<Tree>,
    /// What the splits by each column have gained, as shares of all.
    pub(super) gains: Vec<f64>,
}

#[derive(Debug)]
struct Tree {
    /// The splits of each level; a node has the children 2i and 2i + 1.
    splits: Vec<Vec<Option<Split>>>,
    leaves: Vec<f64>,
}

/// Rows whose bin in the column is at most `bin` go to the first child.
#[derive(Clone, Copy, Debug)]
struct Split {
    column: usize,
    bin: u8,
    gain: f64,
}

/// Sums of gradients and curvatures.
type Sums = [f64; 2];

impl Binned {
    /// Bins with about as many numbers each; NaN has its own.
    pub(super) fn new(columns: &[Vec<f64>]) -> Self {
        let bins = |values: &Vec<f64>| -> Vec<u8> {
            let mut sorted: Vec<f64> = values.iter().copied().filter(|x| !x.is_nan()).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let mut edges: Vec<f64> = match sorted.len() {
                0 => Vec::new(),
                n => (1..BINS - 1).map(|i| sorted[i * (n - 1) / (BINS - 1)]).collect(),
            };
            edges.dedup();
            let bin = |x: &f64| if x.is_nan() { 0 } else { 1 + edges.partition_point(|edge| edge < x) as u8 };
            values.iter().map(bin).collect()
        };
        Self { columns: columns.par_iter().map(bins).collect() }
    }
}

fn gain([g, h]: Sums) -> f64 {
    g * g / (h + RIDGE)
}

impl Trees {
    /// Trees fitted to these rows, of which some are `positive`.
    pub(super) fn fit(data: &Binned, rows: &[usize], positive: impl Fn(usize) -> bool + Sync) -> Self {
        let mut scores = vec![0.0; rows.len()];
        let mut gains = vec![0.0; data.columns.len()];
        let mut trees = Vec::new();
        for _ in 0..TREES {
            let sums = |(&row, &score): (&usize, &f64)| {
                let p = 1.0 / (1.0 + f64::exp(-score));
                [p - f64::from(u8::from(positive(row))), p * (1.0 - p)]
            };
            let sums: Vec<Sums> = rows.iter().zip(&scores).map(sums).collect();
            let (tree, leaves) = Tree::fit(data, rows, &sums);
            tree.splits.iter().flatten().flatten().for_each(|split| gains[split.column] += split.gain);
            scores.iter_mut().zip(leaves).for_each(|(score, leaf)| *score += tree.leaves[leaf]);
            trees.push(tree);
        }
        let all: f64 = gains.iter().sum();
        gains.iter_mut().for_each(|gain| *gain /= if all > 0.0 { all } else { 1.0 });
        Self { trees, gains }
    }

    /// The logarithm of the odds that a row is positive.
    pub(super) fn log_odds(&self, data: &Binned, row: usize) -> f64 {
        self.trees.iter().map(|tree| tree.leaves[tree.leaf(data, row)]).sum()
    }
}

impl Tree {
    /// A tree, and the leaf of each row.
    fn fit(data: &Binned, rows: &[usize], sums: &[Sums]) -> (Self, Vec<usize>) {
        let mut nodes = vec![0usize; rows.len()];
        let mut splits = Vec::new();
        for level in 0..DEPTH {
            let count = 1 << level;
            let of_column = |(column, bins): (usize, &Vec<u8>)| best(column, bins, rows, &nodes, sums, count);
            let found: Vec<Vec<Option<Split>>> = data.columns.par_iter().enumerate().map(of_column).collect();
            let greatest = |node: usize| {
                let splits = found.iter().filter_map(|splits| splits[node]);
                splits.fold(None, |best: Option<Split>, split| match best {
                    Some(best) if best.gain >= split.gain => Some(best),
                    _ => Some(split),
                })
            };
            let chosen: Vec<Option<Split>> = (0..count).map(greatest).collect();
            for (node, &row) in nodes.iter_mut().zip(rows) {
                *node = 2 * *node + chosen[*node].map_or(0, |split| split.side(data, row));
            }
            splits.push(chosen);
        }
        let mut totals = vec![[0.0; 2]; 1 << DEPTH];
        for (&node, [g, h]) in nodes.iter().zip(sums) {
            totals[node][0] += g;
            totals[node][1] += h;
        }
        let leaves = totals.into_iter().map(|[g, h]| -RATE * g / (h + RIDGE)).collect();
        (Self { splits, leaves }, nodes)
    }

    fn leaf(&self, data: &Binned, row: usize) -> usize {
        self.splits.iter().fold(0, |node, level| 2 * node + level[node].map_or(0, |split| split.side(data, row)))
    }
}

impl Split {
    fn side(&self, data: &Binned, row: usize) -> usize {
        usize::from(data.columns[self.column][row] > self.bin)
    }
}

/// The best split of each node by a column.
fn best(
    column: usize,
    bins: &[u8],
    rows: &[usize],
    nodes: &[usize],
    sums: &[Sums],
    count: usize,
) -> Vec<Option<Split>> {
    let mut histogram = vec![[0.0; 2]; count * BINS];
    for ((&row, &node), [g, h]) in rows.iter().zip(nodes).zip(sums) {
        let cell = &mut histogram[node * BINS + usize::from(bins[row])];
        cell[0] += g;
        cell[1] += h;
    }
    let of_node = |cells: &[Sums]| {
        let whole = cells.iter().fold([0.0; 2], |sum, cell| [sum[0] + cell[0], sum[1] + cell[1]]);
        let mut left = [0.0; 2];
        let mut best: Option<Split> = None;
        for (bin, cell) in cells.iter().enumerate().take(BINS - 1) {
            left = [left[0] + cell[0], left[1] + cell[1]];
            let right = [whole[0] - left[0], whole[1] - left[1]];
            if left[1] < LEAST || right[1] < LEAST {
                continue;
            }
            let gain = gain(left) + gain(right) - gain(whole);
            if gain > best.map_or(1e-12, |best| best.gain) {
                best = Some(Split { column, bin: bin as u8, gain });
            }
        }
        best
    };
    histogram.chunks(BINS).map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// The share of other rows that trees classify rightly, where the true odds depend on three of four columns.
    fn accuracy(log_odds: impl Fn([f64; 3]) -> f64) -> (f64, f64, Trees) {
        let rng = &mut Rng::seed(0);
        let n = 6000;
        let columns: Vec<Vec<f64>> = (0..4).map(|_| (0..n).map(|_| rng.normal()).collect()).collect();
        let odds = |row: usize| log_odds([columns[0][row], columns[1][row], columns[2][row]]);
        let positive: Vec<bool> = (0..n).map(|row| rng.uniform() < 1.0 / (1.0 + (-odds(row)).exp())).collect();
        let data = Binned::new(&columns);
        let (train, test): (Vec<usize>, Vec<usize>) = (0..n).partition(|row| row % 2 == 0);
        let trees = Trees::fit(&data, &train, |row| positive[row]);
        let share =
            |right: &dyn Fn(usize) -> bool| test.iter().filter(|&&row| right(row)).count() as f64 / test.len() as f64;
        let found = share(&|row| (trees.log_odds(&data, row) > 0.0) == positive[row]);
        let most = share(&|row| (odds(row) > 0.0) == positive[row]);
        (found, most, trees)
    }

    #[test]
    fn known_odds_are_learnt() {
        // A sum, an interaction without a main effect, and an interval.
        let (found, most, trees) = accuracy(|[a, b, _]| 3.0 * a - 3.0 * b);
        assert!(found > most - 0.03, "{found} of {most}");
        assert!(trees.gains[0] > 0.3 && trees.gains[1] > 0.3 && trees.gains[3] < 0.1, "{:?}", trees.gains);
        let (found, most, _) = accuracy(|[a, b, _]| 8.0 * a * b);
        assert!(found > most - 0.08 && most > 0.8, "{found} of {most}");
        let (found, most, trees) = accuracy(|[_, _, c]| if c.abs() < 0.7 { 3.0 } else { -3.0 });
        assert!(found > most - 0.02 && trees.gains[2] > 0.9, "{found} of {most}, {:?}", trees.gains);
    }

    #[test]
    fn missing_cells_tell_and_nothing_tells_nothing() {
        let n = 400;
        let columns = [(0..n).map(|i| if i % 4 == 0 { f64::NAN } else { 2.0 }).collect(), vec![1.0; n]];
        let (data, rows) = (Binned::new(&columns), (0..n).collect::<Vec<_>>());
        let trees = Trees::fit(&data, &rows, |row| row % 4 == 0);
        assert!(trees.log_odds(&data, 0) > 2.0 && trees.log_odds(&data, 1) < -2.0);
        let trees = Trees::fit(&Binned::new(&columns[1..]), &rows, |row| row % 2 == 0);
        assert!(trees.log_odds(&data, 0).abs() < 1e-9 && trees.gains == [0.0]);
        assert_eq!(Trees::fit(&data, &[], |_| true).log_odds(&data, 0), 0.0);
    }
}
