//! Normalizing flows over audio: WaveGlow (Prenger, Valle and Catanzaro, 2018, arXiv:1811.00002) and its relatives.

pub mod audio;
