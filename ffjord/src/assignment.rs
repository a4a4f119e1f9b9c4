//! The linear assignment problem.

/// Assigns each row of a square matrix a distinct column such that the sum of `cost[row][column]` is minimal, by
/// shortest augmenting paths with potentials (Jonker and Volgenant, 1987), in O(n^3).
pub(crate) fn assign(cost: &[Vec<f64>]) -> Vec<usize> {
    let n = cost.len();
    // Rows and columns are numbered from 1; 0 stands for none.
    let (mut row_potential, mut column_potential) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let mut assigned_row = vec![0; n + 1];
    for row in 1..=n {
        assigned_row[0] = row;
        let mut column = 0;
        let (mut distance, mut previous, mut done) = (vec![f64::INFINITY; n + 1], vec![0; n + 1], vec![false; n + 1]);
        while assigned_row[column] != 0 {
            done[column] = true;
            let (at, mut next, mut step) = (assigned_row[column], 0, f64::INFINITY);
            for j in (1..=n).filter(|j| !done[*j]) {
                let reduced = cost[at - 1][j - 1] - row_potential[at] - column_potential[j];
                if reduced < distance[j] {
                    (distance[j], previous[j]) = (reduced, column);
                }
                if distance[j] < step {
                    (step, next) = (distance[j], j);
                }
            }
            for j in 0..=n {
                if done[j] {
                    row_potential[assigned_row[j]] += step;
                    column_potential[j] -= step;
                } else {
                    distance[j] -= step;
                }
            }
            column = next;
            // Happens only if a cost is not finite: any assignment will do.
            if column == 0 {
                return (0..n).collect();
            }
        }
        while column != 0 {
            assigned_row[column] = assigned_row[previous[column]];
            column = previous[column];
        }
    }
    let mut columns = vec![0; n];
    for j in 1..=n {
        columns[assigned_row[j] - 1] = j - 1;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    /// The minimal cost of the rows from `row` on, over all permutations of the free columns.
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
