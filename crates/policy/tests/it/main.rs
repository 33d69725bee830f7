//! Integration tests of what decides.

#[cfg(test)]
mod seeds; // what the fuzz targets begin with
