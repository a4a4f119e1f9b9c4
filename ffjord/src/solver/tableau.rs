//! The coefficients of explicit Runge-Kutta methods.

/// A Butcher tableau: `k_i = f(t + c_i h, y + h sum_j a_ij k_j)`, `y_1 = y + h sum_i b_i k_i`.
#[derive(Debug)]
pub(crate) struct Tableau {
    pub(crate) c: &'static [f64],
    /// Row i holds the coefficients of the stages before stage i; row 0 is empty.
    pub(crate) a: &'static [&'static [f64]],
    pub(crate) b: &'static [f64],
    /// `b` minus the weights of the embedded method, such that the error estimate is `h sum_i error_i k_i`; empty for
    /// fixed-step methods.
    pub(crate) error: &'static [f64],
    /// The order of `y_1`, which step size control uses as its exponent.
    pub(crate) order: u32,
    /// Whether the last stage is evaluated at `(t + h, y_1)` and so is the first stage of the next step.
    pub(crate) first_same_as_last: bool,
}

/// Dormand & Prince (1980), with the embedded weights of Shampine (1986).
pub(super) const DOPRI5: Tableau = Tableau {
    c: &[0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0],
    a: &[
        &[],
        &[1.0 / 5.0],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
        &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
        &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
    ],
    b: &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0, 0.0],
    error: &[
        35.0 / 384.0 - 1951.0 / 21600.0,
        0.0,
        500.0 / 1113.0 - 22642.0 / 50085.0,
        125.0 / 192.0 - 451.0 / 720.0,
        -2187.0 / 6784.0 + 12231.0 / 42400.0,
        11.0 / 84.0 - 649.0 / 6300.0,
        -1.0 / 60.0,
    ],
    order: 5,
    first_same_as_last: true,
};

/// The weights of `y(t + h / 2)` for [`DOPRI5`] (Shampine, 1986).
pub(super) const DOPRI5_MIDDLE: [f64; 7] = [
    6025192743.0 / 30085553152.0 / 2.0,
    0.0,
    51252292925.0 / 65400821598.0 / 2.0,
    -2691868925.0 / 45128329728.0 / 2.0,
    187940372067.0 / 1594534317056.0 / 2.0,
    -1776094331.0 / 19743644256.0 / 2.0,
    11237099.0 / 235043384.0 / 2.0,
];

/// Tsitouras (2011).
pub(super) const TSIT5: Tableau = Tableau {
    c: &[0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0],
    a: &[
        &[],
        &[0.161],
        &[-0.008480655492356989, 0.335480655492357],
        &[2.8971530571054935, -6.359448489975075, 4.3622954328695815],
        &[5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
        &[5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
        &[0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774],
    ],
    b: &[0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774, 0.0],
    error: &[
        -0.001780011052225777,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        0.015151515151515152,
    ],
    order: 5,
    first_same_as_last: true,
};

/// Bogacki & Shampine (1989).
pub(super) const BOSH3: Tableau = Tableau {
    c: &[0.0, 0.5, 0.75, 1.0],
    a: &[&[], &[0.5], &[0.0, 0.75], &[2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0]],
    b: &[2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0, 0.0],
    error: &[2.0 / 9.0 - 7.0 / 24.0, 1.0 / 3.0 - 1.0 / 4.0, 4.0 / 9.0 - 1.0 / 3.0, -1.0 / 8.0],
    order: 3,
    first_same_as_last: true,
};

/// Heun's method with the embedded Euler method.
pub(super) const HEUN: Tableau = Tableau {
    c: &[0.0, 1.0],
    a: &[&[], &[1.0]],
    b: &[0.5, 0.5],
    error: &[-0.5, 0.5],
    order: 2,
    first_same_as_last: false,
};

/// Euler's method.
pub(super) const EULER: Tableau =
    Tableau { c: &[0.0], a: &[&[]], b: &[1.0], error: &[], order: 1, first_same_as_last: false };

/// The midpoint rule.
pub(super) const MIDPOINT: Tableau =
    Tableau { c: &[0.0, 0.5], a: &[&[], &[0.5]], b: &[0.0, 1.0], error: &[], order: 2, first_same_as_last: false };

/// The classical method of order 4.
pub(super) const RK4: Tableau = Tableau {
    c: &[0.0, 0.5, 0.5, 1.0],
    a: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    b: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    error: &[],
    order: 4,
    first_same_as_last: false,
};
