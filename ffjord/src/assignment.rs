//! The cheapest assignment.

/// The column of each row such that the sum of `cost[row][column]` over a square matrix is least, by
/// shortest augmenting paths with potentials (Jonker and Volgenant, 1987), in O(n^3).
pub(crate) fn assign(cost: &[Vec<f64>]) -> Vec<usize> {
    let n = cost.len();
    // Column 0 stands for none; rows and columns are counted from 1.
    let (mut of_row, mut of_column) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let mut row_of = vec![0; n + 1];
    for row in 1..=n {
        row_of[0] = row;
        let mut column = 0;
        let (mut least, mut before, mut done) = (vec![f64::INFINITY; n + 1], vec![0; n + 1], vec![false; n + 1]);
        while row_of[column] != 0 {
            done[column] = true;
            let (at, mut next, mut step) = (row_of[column], 0, f64::INFINITY);
            for j in (1..=n).filter(|j| !done[*j]) {
                let reduced = cost[at - 1][j - 1] - of_row[at] - of_column[j];
                if reduced < least[j] {
                    (least[j], before[j]) = (reduced, column);
                }
                if least[j] < step {
                    (step, next) = (least[j], j);
                }
            }
            for j in 0..=n {
                if done[j] {
                    of_row[row_of[j]] += step;
                    of_column[j] -= step;
                } else {
                    least[j] -= step;
                }
            }
            column = next;
            // Only where a cost is not finite: the rows that are left stay where they are.
            if column == 0 {
                return (0..n).collect();
            }
        }
        while column != 0 {
            row_of[column] = row_of[before[column]];
            column = before[column];
        }
    }
    let mut columns = vec![0; n];
    for j in 1..=n {
        columns[row_of[j] - 1] = j - 1;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    /// The least sum over all permutations of the columns from `row` on.
    fn least(cost: &[Vec<f64>], row: usize, free: &mut Vec<usize>) -> f64 {
        if row == cost.len() {
            return 0.0;
        }
        (0..free.len()).fold(f64::INFINITY, |best, i| {
            let column = free.remove(i);
            let sum = cost[row][column] + least(cost, row + 1, free);
            free.insert(i, column);
            best.min(sum)
        })
    }

    #[test]
    fn no_assignment_is_cheaper() {
        let mut rng = Rng::seed(0);
        for n in 1..=6 {
            for _ in 0..20 {
                let cost: Vec<Vec<f64>> = (0..n).map(|_| (0..n).map(|_| rng.normal()).collect()).collect();
                let got: f64 = assign(&cost).iter().zip(&cost).map(|(column, row)| row[*column]).sum();
                assert!((got - least(&cost, 0, &mut (0..n).collect())).abs() < 1e-12);
            }
        }
        assert_eq!(assign(&[vec![f64::NAN; 2], vec![1.0; 2]]).len(), 2);
    }
}
